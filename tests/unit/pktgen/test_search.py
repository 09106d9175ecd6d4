# SPDX-License-Identifier: Apache-2.0
"""The search for limits, against devices that exist as formulas."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "bench" / "pktgen"))
from load_search import Goal, Limit, Search, Trial, Verdict, judge, rfc2544_goal  # noqa: E402

NO_LOSS = Goal("no loss", 0.0)
SOME_LOSS = Goal("some", 0.005)


def device(capacity: float) -> Callable[[float, float], Trial]:
    """Carries `capacity` per second and loses the rest."""

    def measure(load: float, seconds: float) -> Trial:
        sent = round(load * seconds)
        return Trial(load, seconds, sent, max(0, sent - round(capacity * seconds)))

    return measure


def trials(seconds: float, *lost: int) -> list[Trial]:
    return [Trial(1000.0, seconds, 1000, count) for count in lost]


@pytest.mark.parametrize("capacity", [1_234.5, 100_000.0, 777_777.0, 990_000.0])
@pytest.mark.parametrize("goal", [NO_LOSS, SOME_LOSS, rfc2544_goal()])
def test_capacity_is_found_within_the_width(capacity: float, goal: Goal) -> None:
    found = Search(device(capacity), 1000.0, 1e6).run([goal])[0]
    assert found.lower is not None and found.upper is not None
    assert (found.upper - found.lower) / found.upper <= goal.width
    limit = capacity / (1 - goal.loss_ratio)
    # a packet of rounding per trial
    assert found.lower <= limit + 1 and found.upper >= limit - 1
    assert found.conditional == pytest.approx(min(found.lower, capacity), rel=0.001)


def test_goals_share_trials() -> None:
    both = Search(device(500_000.0), 1000.0, 1e6)
    both.run([NO_LOSS, SOME_LOSS])
    alone = []
    for goal in (NO_LOSS, SOME_LOSS):
        search = Search(device(500_000.0), 1000.0, 1e6)
        search.run([goal])
        alone.append(len(search.trials))
    assert len(both.trials) < sum(alone)


def test_highest_load_that_is_carried_is_the_answer() -> None:
    found = Search(device(2e6), 1000.0, 1e6).run([NO_LOSS])[0]
    assert (found.lower, found.upper) == (1e6, None)


def test_device_that_carries_nothing_has_no_lower_bound() -> None:
    found = Search(device(10.0), 1000.0, 1e6).run([NO_LOSS])[0]
    assert (found.lower, found.upper) == (None, 1000.0)
    assert found.conditional is None


def test_what_the_generator_cannot_send_bounds_the_search_and_is_said() -> None:
    def measure(load: float, seconds: float) -> Trial:
        return Trial(load, seconds, round(min(load, 3e5) * seconds), 0, load <= 3e5)

    found = Search(measure, 1000.0, 1e6).run([NO_LOSS])[0]
    assert found.limit == Limit.GENERATOR.value
    assert found.lower is not None and 2.98e5 < found.lower <= 3e5


@pytest.mark.parametrize(
    ("is_reached", "busy", "blocked", "limit"),
    [
        (True, 0.4, 0.0, Limit.BALANCER),
        (True, 0.97, 0.0, Limit.GENERATOR),
        (False, 0.4, 0.0, Limit.GENERATOR),
        (False, 0.6, 0.3, Limit.NIC),
    ],
)
def test_whose_limit_it_is_follows_from_what_the_generator_did(
    is_reached: bool, busy: float, blocked: float, limit: Limit
) -> None:
    def measure(load: float, seconds: float) -> Trial:
        sent = round(load * seconds)
        lost = 0 if load <= 3e5 else sent // 2
        return Trial(load, seconds, sent, lost, is_reached or lost == 0, busy, blocked)

    assert Search(measure, 1000.0, 1e6).run([NO_LOSS])[0].limit == limit.value


def test_a_broken_rule_is_no_limit_of_anybody() -> None:
    def measure(load: float, seconds: float) -> Trial:
        sent = round(load * seconds)
        is_broken = load > 5000
        return Trial(load, seconds, sent, sent if is_broken else 0, violations=int(is_broken))

    found = Search(measure, 100.0, 10_000.0).run([NO_LOSS])[0]
    assert found.lower == pytest.approx(5000, rel=0.01)
    assert found.limit == Limit.RULES.value


def test_rare_bad_trials_do_not_move_the_answer() -> None:
    chance = random.Random(5)

    def measure(load: float, seconds: float) -> Trial:
        sent = round(load * seconds)
        lost = max(0, sent - round(4e5 * seconds))
        return Trial(load, seconds, sent, max(lost, 1 if chance.random() < 0.1 else 0))

    found = Search(measure, 1000.0, 1e6).run([NO_LOSS])[0]
    assert found.lower == pytest.approx(4e5, rel=0.01)


def test_load_is_judged_by_shares_of_time() -> None:
    goal = Goal("", 0.0, trial_seconds=1.0, sum_seconds=5.0, exceed_ratio=0.5)
    assert judge([], goal) is Verdict.UNDECIDED
    assert judge(trials(1.0, 0, 0), goal) is Verdict.UNDECIDED
    assert judge(trials(1.0, 0, 0, 0), goal) is Verdict.LOWER
    assert judge(trials(1.0, 9, 9, 0, 0), goal) is Verdict.UNDECIDED
    assert judge(trials(1.0, 9, 9, 9), goal) is Verdict.UPPER


def test_short_trials_speak_against_a_load_and_never_for_it() -> None:
    goal = Goal("", 0.0, trial_seconds=1.0, sum_seconds=2.0, exceed_ratio=0.5)
    assert judge(trials(0.5, 0, 0, 0, 0, 0, 0), goal) is Verdict.UNDECIDED
    assert judge(trials(0.5, 9, 9, 9), goal) is Verdict.UPPER
    assert judge(trials(0.5, 9, 9, 9, 0, 0, 0), goal) is Verdict.UNDECIDED


def test_rfc_2544_fails_with_one_lost_packet() -> None:
    goal = rfc2544_goal(10.0)
    assert judge([Trial(1e6, 10.0, 10**7, 1)], goal) is Verdict.UPPER
    assert judge([Trial(1e6, 10.0, 10**7, 0)], goal) is Verdict.LOWER
    assert judge([Trial(1e6, 5.0, 10**7, 0)], goal) is Verdict.UNDECIDED


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:], __file__]))
