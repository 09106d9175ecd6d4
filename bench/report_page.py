# SPDX-License-Identifier: Apache-2.0
"""A result of bench/run as a page: one plot per unit, and net costs in terms of testpmd's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from results import REFERENCE, Figure, Result

# Of a plot, in pixels.
NAME_WIDTH = 300
BAR_WIDTH = 520
TEXT_WIDTH = 200
ROW_HEIGHT = 24
AXIS_HEIGHT = 28

STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --bar: #9ecae1; --run: #08519c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --paper: #181818; --bar: #2b5c86; --run: #a9d3f5; }
}
body { font: 14px sans-serif; max-width: 1020px; margin: 2em auto; padding: 0 1em;
  color: var(--ink); background: var(--paper); }
table { border-collapse: collapse; } td { padding: 2px 1em 2px 0; }
svg { width: 100%; height: auto; }
.bar { fill: var(--bar); } .run { fill: var(--run); }
.spread { stroke: var(--run); stroke-width: 2; }
.axis { stroke: var(--ink); stroke-opacity: 0.18; }
text { font: 12px sans-serif; fill: var(--ink); }
"""


def page(result: Result) -> str:
    title = f"Millrace: what a packet costs, commit {result.machine.get('commit', 'unknown')}"
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(result.started_at)}, <code>{escape(' '.join(result.command_line))}</code></p>",
        facts(result),
        "<p>Bars are medians, dots the runs, lines from the least to the greatest.</p>",
    ]
    for heading, figures in sections(result):
        parts += [f"<h2>{escape(heading)}</h2>", plot(figures)]
    return "\n".join([*parts, "</body></html>"])


def facts(result: Result) -> str:
    rows = [
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>"
        for name, value in result.machine.items()
    ]
    return f"<table>{''.join(rows)}</table>"


def sections(result: Result) -> Iterator[tuple[str, list[Figure]]]:
    """Headings with their figures: what is compared to testpmd first, then all by unit."""
    reference = result.figure(REFERENCE)
    net = [figure for figure in result.figures if figure.name.endswith(" net")]
    if reference is not None and net:
        divisor = reference.median()
        yield f"Net cost in terms of {REFERENCE}", [figure.divided_by(divisor) for figure in net]
    units = list(dict.fromkeys(figure.unit for figure in result.figures))
    for unit in units:
        yield unit, [figure for figure in result.figures if figure.unit == unit]


def plot(figures: list[Figure]) -> str:
    """Horizontal bars from 0; what is below 0 (a difference of two arms can be) starts left."""
    least = min(0.0, *(min(figure.runs) for figure in figures))
    step = step_for(max(max(figure.runs) for figure in figures) - least)
    first = math.floor(least / step)
    last = max(first + 1, math.ceil(max(max(figure.runs) for figure in figures) / step))

    def x(value: float) -> float:
        return NAME_WIDTH + (value / step - first) / (last - first) * BAR_WIDTH

    width, height = NAME_WIDTH + BAR_WIDTH + TEXT_WIDTH, ROW_HEIGHT * len(figures) + AXIS_HEIGHT
    lines = [f'<svg viewBox="0 0 {width} {height}">']
    for tick in range(first, last + 1):
        at = x(tick * step)
        lines.append(
            f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{height - 16}"/>'
            f'<text x="{at:.1f}" y="{height - 3}" text-anchor="middle">{tick * step:g}</text>'
        )
    for row, figure in enumerate(figures):
        middle = ROW_HEIGHT * (row + 0.5)
        from_x, to_x = sorted((x(0), x(figure.median())))
        lines.append(
            f'<text x="{NAME_WIDTH - 12}" y="{middle + 4}" text-anchor="end">'
            f"{escape(figure.name)}</text>"
            f'<rect class="bar" x="{from_x:.1f}" y="{middle - 8}" width="{to_x - from_x:.1f}"'
            f' height="16"/><line class="spread" x1="{x(min(figure.runs)):.1f}"'
            f' x2="{x(max(figure.runs)):.1f}" y1="{middle}" y2="{middle}"/>'
        )
        lines += [
            f'<circle class="run" cx="{x(run):.1f}" cy="{middle}" r="2.5"/>' for run in figure.runs
        ]
        lines.append(
            f'<text x="{width - TEXT_WIDTH + 12}" y="{middle + 4}">{spread(figure)}</text>'
        )
    return "\n".join([*lines, "</svg>"])


def spread(figure: Figure) -> str:
    return f"{figure.median():.3g} ({min(figure.runs):.3g} to {max(figure.runs):.3g})"


def step_for(width: float) -> float:
    """Between two lines of the axis: 1, 2 or 5 times a power of ten, for four to ten of them."""
    if width <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(width / 4))
    return max(power * factor for factor in (1, 2, 5) if power * factor <= width / 4)
