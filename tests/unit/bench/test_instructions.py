# SPDX-License-Identifier: Apache-2.0
"""bench/instructions: what counts as grown, what as shrunk, and what fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "bench"))
from instruction_counts import (  # noqa: E402
    Change,
    CountFailed,
    Finding,
    Part,
    ToolMissing,
    collected,
    compare,
    count_xdp,
    output_of,
    read_agreed,
    table,
    write_agreed,
)

AGREED = {"hit": {"instructions": 400.0, "helpers": 5.0}, "new": {"instructions": 1000.0}}


def measured(hit: float, helpers: float = 5.0) -> dict[str, dict[str, float]]:
    return {"hit": {"instructions": hit, "helpers": helpers}, "new": {"instructions": 1000.0}}


@pytest.mark.parametrize("hit", [392.0, 400.0, 408.0])
def test_two_per_cent_either_way_are_nothing(hit: float) -> None:
    assert compare(AGREED, measured(hit)) == []


def test_more_than_two_per_cent_up_is_a_failure() -> None:
    found = compare(AGREED, measured(408.1))
    assert found == [Finding("hit", "instructions", Change.GREW)]
    assert found[0].change.is_failure


def test_more_than_two_per_cent_down_is_told_and_no_failure() -> None:
    found = compare(AGREED, measured(391.9))
    assert found == [Finding("hit", "instructions", Change.SHRANK)]
    assert not found[0].change.is_failure
    assert "lower the figure" in str(found[0])


def test_each_count_of_a_case_is_compared_by_itself() -> None:
    assert compare(AGREED, measured(300.0, helpers=6.0)) == [
        Finding("hit", "helpers", Change.GREW),
        Finding("hit", "instructions", Change.SHRANK),
    ]


def test_a_case_without_a_figure_fails_and_so_does_a_figure_without_a_case() -> None:
    found = compare({"old": {"instructions": 1.0}}, {"young": {"instructions": 1.0}})
    assert found == [
        Finding("old", "instructions", Change.GONE),
        Finding("young", "instructions", Change.NEW),
    ]
    assert all(finding.change.is_failure for finding in found)


def test_figures_come_back_from_the_file_as_they_were_noted(tmp_path: Path) -> None:
    path = tmp_path / "agreed.json"
    assert read_agreed(path) == {}
    parts = {"core": Part("g++ 12", AGREED)}
    write_agreed(path, parts)
    assert read_agreed(path) == parts


def test_the_table_shows_both_figures_and_the_change() -> None:
    lines = list(table(AGREED, {"hit": {"instructions": 440.0}, "young": {"instructions": 7.0}}))
    assert lines[1].split() == ["hit", "instructions", "400.0", "440.0", "+10.0", "%"]
    assert lines[2].split() == ["young", "instructions", "-", "7.0", "new"]


def test_what_callgrind_did_not_count_is_no_figure() -> None:
    assert collected("==7== Events    : Ir\n==7== Collected : 2630430\n") == 2630430
    for output in ("", "==7== Collected : 0\n"):
        with pytest.raises(CountFailed):
            collected(output)


def test_a_program_over_its_size_is_named() -> None:
    fitting = Part("clang", sizes={"loaded": 16_500, "verified": 500_000})
    assert fitting.oversizes() == []
    assert Part("clang", sizes={"loaded": 16_501, "verified": 1}).oversizes() == [
        "the program: 16501 loaded instructions, 16500 at most"
    ]


def test_the_xdp_part_tells_cases_from_the_size(tmp_path: Path) -> None:
    (tmp_path / "bpf").mkdir()
    (tmp_path / "bpf" / "nlb_xdp.bpf.o").write_bytes(b"\x7fELF\0Debian clang version 14.0.6\0")
    trace = tmp_path / "bench" / "xdp" / "xdp_trace"
    trace.parent.mkdir(parents=True)
    trace.write_text(
        """#!/bin/sh
echo '{"case": "hit", "instructions": 400.0, "helpers": 5.25}'
echo '{"case": "the program", "loaded": 9000, "verified": 500000}'
"""
    )
    trace.chmod(0o755)
    part = count_xdp(tmp_path)
    assert part.compiler == "clang version 14.0.6"
    assert part.figures == {"hit": {"instructions": 400.0, "helpers": 5.25}}
    assert part.sizes == {"loaded": 9000, "verified": 500000}


def test_a_missing_program_and_a_failing_one_are_told_apart() -> None:
    with pytest.raises(ToolMissing, match="install-packages"):
        output_of("/nonexistent/valgrind")
    with pytest.raises(CountFailed, match="exit status 1"):
        output_of("false")
