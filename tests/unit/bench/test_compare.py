# SPDX-License-Identifier: Apache-2.0
"""bench/compare: noise is no change, a change is told with its direction, bad files are refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[3] / "bench"
sys.path.insert(0, str(BENCH))
from comparison import Row, compare, differences, rank_test, table  # noqa: E402
from results import REFERENCE, BadResult, Figure, Result, load, save  # noqa: E402

LOW = [100.0, 101.0, 102.0, 103.0, 104.0]
HIGH = [110.0, 111.0, 112.0, 113.0, 114.0]
CYCLES = "cycles per packet"


def result(*figures: Figure, **machine: str) -> Result:
    return Result({"cpu": "one", **machine}, ["bench/run"], "2026-01-01T00:00:00Z", list(figures))


def row(old: list[float], new: list[float], is_more_better: bool = False) -> Row:
    before, after = (Figure("hit", CYCLES, runs, is_more_better) for runs in (old, new))
    return compare(result(before), result(after))[0]


def test_separate_runs_have_the_least_probability_that_five_can_give() -> None:
    assert rank_test(LOW, HIGH) == pytest.approx(2 / math.comb(10, 5))
    assert rank_test(HIGH, LOW) == rank_test(LOW, HIGH)


def test_probabilities_are_those_of_the_published_table() -> None:
    # Mann and Whitney (1947), table I: for n = m = 4, P(U <= 1) = 0.029 and P(U <= 2) = 0.057.
    assert rank_test([1, 2, 3, 5], [4, 6, 7, 8]) == pytest.approx(2 * 2 / 70)
    assert rank_test([1, 2, 3, 6], [4, 5, 7, 8]) == pytest.approx(2 * 4 / 70)


def test_runs_that_are_all_equal_differ_in_nothing() -> None:
    assert rank_test([5.0] * 5, [5.0] * 5) == 1


def test_shared_ranks_and_unequal_numbers_of_runs_are_dealt_out_exactly() -> None:
    # Of the three ways to choose one of {1, 1, 2}, the 2 is as far from the middle in one.
    assert rank_test([2.0], [1.0, 1.0]) == pytest.approx(1 / 3)


def test_a_change_has_a_direction_that_depends_on_what_is_better() -> None:
    assert row(LOW, HIGH).verdict() == "WORSE"
    assert row(HIGH, LOW).verdict() == "better"
    assert row(LOW, HIGH, is_more_better=True).verdict() == "better"
    assert row(HIGH, LOW, is_more_better=True).verdict() == "WORSE"


def test_runs_that_reach_into_each_other_are_noise() -> None:
    assert row(LOW, [*HIGH[:4], 100.5]).verdict() == ""


def test_a_sure_change_of_under_two_per_cent_is_none() -> None:
    small = row(LOW, [run + 0.5 for run in [104.0] * 5])
    assert small.p <= 0.01 and small.verdict() == "WORSE"
    assert row([1000.0, 1001, 1002, 1003, 1004], [1010.0, 1011, 1012, 1013, 1014]).verdict() == ""


def test_the_change_of_a_negative_figure_keeps_its_direction() -> None:
    assert row([-10.0, -10, -10, -10, -10], [-20.0, -20, -20, -20, -20]).verdict() == "better"


def test_relative_figures_forgive_a_slower_machine() -> None:
    old = result(Figure(REFERENCE, CYCLES, [20.0] * 5), Figure("hit", CYCLES, LOW))
    slower = result(
        Figure(REFERENCE, CYCLES, [22.0] * 5), Figure("hit", CYCLES, [run * 1.1 for run in LOW])
    )
    assert [row.verdict() for row in compare(old, slower)] == ["WORSE", "WORSE"]
    assert [row.verdict() for row in compare(old, slower, is_relative=True)] == ["WORSE", ""]


def test_what_is_not_in_both_is_told_and_not_compared() -> None:
    old = result(Figure("hit", CYCLES, LOW), Figure("gone", CYCLES, LOW), kernel="6.1")
    new = result(Figure("hit", CYCLES, LOW), Figure("young", CYCLES, LOW), kernel="6.2")
    assert [row.new.name for row in compare(old, new)] == ["hit"]
    assert list(differences(old, new)) == [
        "kernel: 6.1 -> 6.2",
        "only in the old result: gone",
        "only in the new result: young",
    ]


def test_the_table_has_medians_ranges_change_and_verdict() -> None:
    line = list(table([row(LOW, HIGH)]))[1]
    assert "102 (100 to 104)" in line and "112 (110 to 114)" in line
    assert line.endswith("+9.8 %  0.008  WORSE")


def test_a_result_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    saved = result(Figure("rate", "Mpps", LOW, is_more_better=True))
    save(tmp_path / "a.json", saved)
    assert load(tmp_path / "a.json") == saved


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 99}',
        '{"format": 1, "machine": {}}',
        '{"format": 1, "machine": {}, "command_line": [], "started_at": "", "figures": [{"x": 1}]}',
    ],
)
def test_what_is_no_result_is_refused_with_the_file_s_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadResult, match="bad.json"):
        load(path)


def run_compare(*words: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BENCH / "compare", *words], capture_output=True, text=True, check=False)


def test_the_program_ends_with_0_for_worse_figures_and_with_2_for_bad_files(tmp_path: Path) -> None:
    save(tmp_path / "old.json", result(Figure("hit", CYCLES, LOW)))
    save(tmp_path / "new.json", result(Figure("hit", CYCLES, HIGH)))
    done = run_compare(tmp_path / "old.json", tmp_path / "new.json")
    assert done.returncode == 0 and "1 of 1 figures changed beyond noise" in done.stdout
    assert run_compare(tmp_path / "old.json", tmp_path / "none.json").returncode == 2
    save(tmp_path / "other.json", result(Figure("other", CYCLES, LOW)))
    assert run_compare(tmp_path / "old.json", tmp_path / "other.json").returncode == 2
    assert json.loads((tmp_path / "old.json").read_text("utf-8"))["format"] == 1
