# SPDX-License-Identifier: Apache-2.0
"""Finds the highest load that something carries with a given loss. Pure: trials are a function.

Multiple Loss Ratio search (draft-ietf-bmwg-mlrsearch): several goals at once share their trials, a
load is judged by enough trials instead of one, and a few unlucky trials do not decide. RFC 2544's
throughput is the goal of no loss in one long trial (`rfc2544_goal`).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Goal:
    """What counts as carrying a load."""

    name: str
    loss_ratio: float  # a trial with more is bad
    trial_seconds: float = 1.0  # shorter trials count for less
    sum_seconds: float = 21.0  # of trials at one load, until it is judged
    exceed_ratio: float = 0.5  # share of that time that may be bad
    width: float = 0.005  # the answer is exact to this share


def rfc2544_goal(seconds: float = 60.0, width: float = 0.005) -> Goal:
    """Section 26.1 of RFC 2544: not one packet lost in a trial of 60 seconds."""
    return Goal("RFC 2544", 0.0, seconds, seconds, 0.0, width)


@dataclass(frozen=True)
class Trial:
    """One measurement at one load."""

    load: float  # per second
    seconds: float
    sent: int
    lost: int
    is_reached: bool = True  # False: as much could not be sent
    busy_share: float = 0.0  # of the generator's time
    blocked_share: float = 0.0  # of its time, in which its nic was full
    violations: int = 0  # packets that broke a rule of connections

    @property
    def loss_ratio(self) -> float:
        return self.lost / self.sent if self.sent > 0 else 1.0


BUSY_SHARE = 0.95
BLOCKED_SHARE = 0.1


class Limit(enum.Enum):
    """Whose fault it was that a load was not carried."""

    BALANCER = "the balancer's limit"
    RULES = "packets broke rules: look at the violations of a run with this load"
    NIC = "the nic took no more: the line's limit, or the balancer's behind a ring"
    GENERATOR = "the generator's limit"


def limit_of(trials: Sequence[Trial]) -> Limit:
    """Of the trials at a load that was not carried. What is lost while the generator is busy
    throughout may have been lost by itself."""
    if any(trial.violations > 0 for trial in trials):
        return Limit.RULES
    if any(trial.blocked_share >= BLOCKED_SHARE for trial in trials):
        return Limit.NIC
    if any(not trial.is_reached or trial.busy_share >= BUSY_SHARE for trial in trials):
        return Limit.GENERATOR
    return Limit.BALANCER


class Verdict(enum.Enum):
    LOWER = "carries it"
    UPPER = "does not"
    UNDECIDED = "too few trials"


def judge(trials: Sequence[Trial], goal: Goal) -> Verdict:
    """Trials at one load. Short ones can speak against a load, and outweigh each other."""
    if any(not trial.is_reached for trial in trials):
        return Verdict.UPPER
    seconds = {(is_long, is_bad): 0.0 for is_long in (True, False) for is_bad in (True, False)}
    for trial in trials:
        is_long = trial.seconds >= goal.trial_seconds
        seconds[is_long, trial.loss_ratio > goal.loss_ratio] += trial.seconds
    balance = seconds[False, False] * goal.exceed_ratio / (1 - goal.exceed_ratio)
    bad = seconds[True, True] + max(0.0, seconds[False, True] - balance)
    good = seconds[True, False]
    whole = max(good + bad, goal.sum_seconds)
    allowed = whole * goal.exceed_ratio
    if bad > allowed:
        return Verdict.UPPER
    return Verdict.LOWER if whole - good <= allowed else Verdict.UNDECIDED


@dataclass
class Found:
    """What the search knows at its end."""

    goal: Goal
    lower: float | None  # highest load that is carried, below `upper`
    upper: float | None  # lowest load that is not; None: even the highest tried is carried
    conditional: float | None  # what arrives per second at `lower`, as the goal's quantile has it
    limit: str = ""  # a Limit's value: what `upper` is
    trials: list[Trial] = field(default_factory=list)  # of all goals, in order


class Search:
    """One search; `measure(load, seconds)` runs a trial."""

    def __init__(
        self, measure: Callable[[float, float], Trial], min_load: float, max_load: float
    ) -> None:
        self.measure = measure
        self.min_load = min_load
        self.max_load = max_load
        self.trials: list[Trial] = []

    def run(self, goals: Sequence[Goal]) -> list[Found]:
        # Two short trials give a good first guess: what arrives of the highest load, and whether
        # that much is carried.
        seconds = min(goal.trial_seconds for goal in goals) / 2
        first = self._measure(self.max_load, seconds)
        guess = self._clamped(first.load * (1 - first.loss_ratio))
        return [self._find(goal, guess) for goal in goals]

    def _clamped(self, load: float) -> float:
        return min(max(load, self.min_load), self.max_load)

    def _measure(self, load: float, seconds: float) -> Trial:
        trial = self.measure(load, seconds)
        self.trials.append(trial)
        return trial

    def _at(self, load: float) -> list[Trial]:
        return [trial for trial in self.trials if trial.load == load]

    def _decide(self, load: float, goal: Goal) -> Verdict:
        while (verdict := judge(self._at(load), goal)) is Verdict.UNDECIDED:
            self._measure(load, goal.trial_seconds)
        return verdict

    def _bounds(self, goal: Goal) -> tuple[float | None, float | None]:
        verdicts = {load: judge(self._at(load), goal) for load in {t.load for t in self.trials}}
        uppers = [load for load, verdict in verdicts.items() if verdict is Verdict.UPPER]
        upper = min(uppers, default=None)
        lowers = [
            load
            for load, verdict in verdicts.items()
            if verdict is Verdict.LOWER and (upper is None or load < upper)
        ]
        return max(lowers, default=None), upper

    def _next_load(self, goal: Goal, guess: float) -> float | None:
        """Where to measure now; None when the bounds are close enough."""
        lower, upper = self._bounds(goal)
        if upper is None:
            return None if lower == self.max_load else self.max_load
        if lower is None:
            if upper <= self.min_load:
                return None
            below = guess if guess < upper else upper * (1 - 2 * goal.width)
            # Twice as far down each time, so that a bad first guess costs few trials.
            if guess >= upper:
                tried = sum(load >= upper for load in {t.load for t in self.trials})
                below = (
                    upper * (1 - goal.width * 2**tried)
                    if goal.width * 2**tried < 0.5
                    else upper / 2
                )
            return self._clamped(below)
        if (upper - lower) / upper <= goal.width:
            return None
        return math.sqrt(lower * upper)

    def _find(self, goal: Goal, guess: float) -> Found:
        while (load := self._next_load(goal, guess)) is not None:
            self._decide(load, goal)
        lower, upper = self._bounds(goal)
        return Found(
            goal,
            lower,
            upper,
            None if lower is None else lower * (1 - self._loss_at_quantile(lower, goal)),
            "" if upper is None else limit_of(self._at(upper)).value,
            self.trials,
        )

    def _loss_at_quantile(self, load: float, goal: Goal) -> float:
        """The loss that the worst of the trials show when those that may be bad are left out."""
        longs = [trial for trial in self._at(load) if trial.seconds >= goal.trial_seconds]
        left = max(sum(trial.seconds for trial in longs), goal.sum_seconds) * (
            1 - goal.exceed_ratio
        )
        worst = 0.0
        for trial in sorted(longs, key=lambda trial: trial.loss_ratio):
            if left <= 0:
                break
            worst = trial.loss_ratio
            left -= trial.seconds
        return worst
