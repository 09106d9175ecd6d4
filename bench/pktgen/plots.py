# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG text: lines over one logarithmic or linear axis, and bars. No library, no script."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 80, 30, 34, 46
# Each stands out from white and from the dark page alike.
COLOURS = ("#2a7fc8", "#cc5a2e", "#2e8b57", "#9a5fb5", "#a98300", "#7a7a7a")
GRID = 'stroke="currentColor" stroke-opacity="0.18"'


@dataclass(frozen=True)
class Axis:
    """From values to a share of the plot's length, and which values get a label."""

    label: str
    low: float
    high: float
    is_logarithmic: bool = False
    text: Callable[[float], str] = lambda value: f"{value:g}"

    def share(self, value: float) -> float:
        if self.is_logarithmic:
            value = max(value, self.low)
            span = math.log(self.high / self.low)
            return math.log(value / self.low) / span if span > 0 else 0.0
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0

    def ticks(self) -> list[float]:
        if self.is_logarithmic:
            first = math.ceil(math.log10(self.low) - 1e-9)
            last = math.floor(math.log10(self.high) + 1e-9)
            tens = [10.0**exponent for exponent in range(first, last + 1)]
            return tens or [self.low, self.high]
        if self.high <= self.low:
            return [self.low]
        rough = (self.high - self.low) / 5
        unit = math.pow(10, math.floor(math.log10(rough)))
        step = min((m * unit for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
        first_tick = math.ceil(self.low / step - 1e-9)
        last_tick = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first_tick, last_tick + 1)]


@dataclass(frozen=True)
class Series:
    name: str
    points: Sequence[tuple[float, float]]
    is_line: bool = True  # otherwise dots


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    escaped = html.escape(text)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escaped}</text>'


def _frame(title: str, x_axis: Axis, y_axis: Axis) -> list[str]:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title, quote=True)}" font-family="sans-serif" font-size="11" '
        'fill="currentColor">',
        _text(WIDTH / 2, 18, title, more=' font-size="13" font-weight="bold"'),
    ]
    for tick in x_axis.ticks():
        if x_axis.text(tick) == "":
            continue
        x = _x(x_axis, tick)
        bottom = HEIGHT - BOTTOM
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" {GRID}/>')
        # Centred at the left edge it would meet the lowest text of the other axis.
        anchor = "middle" if x > LEFT + 24 else "start"
        parts.append(_text(x, bottom + 15, x_axis.text(tick), anchor))
    for tick in y_axis.ticks():
        y = _y(y_axis, tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" {GRID}/>')
        parts.append(_text(LEFT - 6, y + 4, y_axis.text(tick), "end"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_axis.label))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(_text(14, middle, y_axis.label, more=f' transform="rotate(-90 14 {middle})"'))
    return parts


def line_plot(title: str, x_axis: Axis, y_axis: Axis, series: Sequence[Series]) -> str:
    """An <svg> element: a line or dots for each series, and a legend if there are several."""
    parts = _frame(title, x_axis, y_axis)
    for number, one in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        places = [(_x(x_axis, x), _y(y_axis, y)) for x, y in one.points]
        if one.is_line:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        else:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"/>' for x, y in places
            ]
        if len(series) > 1:
            y = TOP + 14 + 15 * number
            parts.append(
                f'<rect x="{LEFT + 10}" y="{y - 8}" width="10" height="10" fill="{colour}"/>'
            )
            parts.append(_text(LEFT + 26, y + 1, one.name, "start"))
    return "".join([*parts, "</svg>"])


def bar_plot(title: str, x_axis: Axis, y_axis: Axis, heights: Sequence[float]) -> str:
    """An <svg> element with one bar per height, side by side."""
    parts = _frame(title, x_axis, y_axis)
    width = (WIDTH - LEFT - RIGHT) / max(len(heights), 1)
    for number, height in enumerate(heights):
        top = _y(y_axis, height)
        x = LEFT + number * width
        parts.append(
            f'<rect x="{x:.2f}" y="{top:.1f}" width="{max(width * 0.9, 0.4):.2f}" '
            f'height="{HEIGHT - BOTTOM - top:.1f}" fill="{COLOURS[0]}"/>'
        )
    return "".join([*parts, "</svg>"])
