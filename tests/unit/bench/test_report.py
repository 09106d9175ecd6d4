# SPDX-License-Identifier: Apache-2.0
"""bench/report: the page holds every figure, is well formed and loads nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[3] / "bench"
sys.path.insert(0, str(BENCH))
from report_page import BAR_WIDTH, NAME_WIDTH, page, plot, step_for  # noqa: E402
from results import REFERENCE, Figure, Result, save  # noqa: E402

CYCLES = "cycles per packet"
RESULT = Result(
    {"commit": "abc", "cpu": "<fast>"},
    ["bench/run", "--json"],
    "2026-01-01T00:00:00Z",
    [
        Figure(REFERENCE, CYCLES, [20.0, 20, 20, 20, 20]),
        Figure("ring net", CYCLES, [40.0, 50, 60, 70, 80]),
        Figure("generator", "Mpps", [10.0, 11, 12, 13, 14], is_more_better=True),
    ],
)


def svgs(text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def test_every_figure_has_its_row_in_the_plot_of_its_unit() -> None:
    ratio, cycles, rate = svgs(page(RESULT))
    for plotted, names in ((ratio, 1), (cycles, 2), (rate, 1)):
        assert len(plotted.findall("rect")) == names
        assert len(plotted.findall("circle")) == names * 5
    assert "ring net" in [text.text for text in ratio.findall("text")]
    assert "3 (2 to 4)" in [text.text for text in ratio.findall("text")]


def test_bars_begin_at_zero_and_end_at_the_median() -> None:
    (plotted,) = svgs(plot([Figure("a", CYCLES, [50.0]), Figure("b", CYCLES, [100.0])]))
    half, whole = plotted.findall("rect")
    assert float(half.attrib["x"]) == NAME_WIDTH
    assert float(half.attrib["width"]) == BAR_WIDTH / 2
    assert float(whole.attrib["width"]) == BAR_WIDTH


def test_figures_below_zero_and_equal_ones_stay_on_the_page() -> None:
    for runs in ([-30.0, 10.0, 20.0], [0.0, 0.0, 0.0]):
        (plotted,) = svgs(plot([Figure("a", CYCLES, runs)]))
        for circle in plotted.findall("circle"):
            assert NAME_WIDTH <= float(circle.attrib["cx"]) <= NAME_WIDTH + BAR_WIDTH


@pytest.mark.parametrize("width, step", [(100, 20), (40, 10), (7, 1), (0.4, 0.1), (0, 1)])
def test_axes_have_round_steps(width: float, step: float) -> None:
    assert step_for(width) == pytest.approx(step)


def test_the_page_loads_nothing_and_shows_facts_as_text() -> None:
    text = page(RESULT)
    assert "&lt;fast&gt;" in text and "<fast>" not in text
    assert not re.search(r"https?:|src=|href=|<script", text)


def test_the_program_prints_the_page_and_refuses_what_is_no_result(tmp_path: Path) -> None:
    save(tmp_path / "a.json", RESULT)
    command = [BENCH / "report", tmp_path / "a.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == page(RESULT)
    command = [BENCH / "report", tmp_path / "none.json"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
