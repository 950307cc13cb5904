"""Plots of a probe as SVG, written out by hand: they need no plotting library, scale, and follow the page's colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

#: Width and height of a plot in its own units: small, so that its text can be read on a phone.
WIDTH, HEIGHT = 400, 250

_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 12, 40
_SERIES = ("var(--a, #2f6fde)", "var(--b, #d9730d)", "var(--c, #2e8b57)", "var(--d, #8a5cd6)")
_INK, _LINE = "var(--soft, #808590)", "var(--line, #8085904d)"
_FONT = 'font-family="system-ui, sans-serif" font-size="12"'


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Args:
        name: As the legend has it.
        points: x, and a point as `statistics.point` gives it.
        marked: The x of a point drawn large.
    """

    name: str
    points: Sequence[tuple[float, Mapping[str, Any]]]
    marked: float | None = None


def curves(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    ticks: Sequence[tuple[float, str]],
    reference: tuple[str, float] | None = None,
    scale: Callable[[float], float] = float,
) -> str:
    """Curves with an interval at each point.

    Args:
        title: For those who cannot see it.
        series: Up to four.
        x_label: What x is.
        ticks: x and its label.
        reference: A level to compare with, and its name.
        scale: From x to where it is drawn.

    Returns:
        An ``<svg>`` element.
    """
    every = [value for one in series for _, value in one.points]
    low, high = _range([*_ends(every), *([reference[1]] if reference else [])])
    places = [scale(x) for one in series for x, _ in one.points] + [scale(x) for x, _ in ticks]
    first, last = min(places), max(places)
    pad = (last - first) * 0.04 or 0.5

    def at_x(x: float) -> float:
        return _LEFT + (scale(x) - first + pad) / (last - first + 2 * pad) * (WIDTH - _LEFT - _RIGHT)

    at_y = _vertical(low, high)
    parts = [*_levels(low, high, at_y), *(_text(at_x(x), HEIGHT - _BOTTOM + 16, name, "middle") for x, name in ticks)]
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, x_label, "middle"))
    if reference:
        level = at_y(reference[1])
        parts.append(f'<path d="M{_LEFT} {level:.1f}H{WIDTH - _RIGHT}" stroke="{_INK}" stroke-dasharray="4 3"/>')
        parts.append(_text(_LEFT + 2, level + 14, reference[0], "start"))
    for number, one in enumerate(series):
        # A little beside each other, so that no interval hides another.
        shift = 4.0 * (number - (len(series) - 1) / 2)
        colour = _SERIES[number % len(_SERIES)]
        drawn = [(at_x(x) + shift, x, value) for x, value in one.points]
        path = "L".join(f"{x:.1f} {at_y(value['value']):.1f}" for x, _, value in drawn)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for x, given, value in drawn:
            parts.append(_whisker(x, value, at_y, colour))
            radius = 5.5 if given == one.marked else 2.5
            parts.append(f'<circle cx="{x:.1f}" cy="{at_y(value["value"]):.1f}" r="{radius}" fill="{colour}"/>')
    return _svg(title, HEIGHT, parts)


def bars(title: str, rows: Sequence[tuple[str, str, Mapping[str, Any]]], *, x_label: str) -> str:
    """Columns of differences, each with its interval.

    Args:
        title: For those who cannot see it.
        rows: Two lines of label, and a point.
        x_label: What the columns are.

    Returns:
        An ``<svg>`` element.
    """
    low, high = _range([*_ends([value for _, _, value in rows]), 0.0])
    at_y = _vertical(low, high, bottom=_BOTTOM + 14)
    parts = _levels(low, high, at_y)
    width = (WIDTH - _LEFT - _RIGHT) / max(1, len(rows))
    for number, (label, below, value) in enumerate(rows):
        middle = _LEFT + (number + 0.5) * width
        top, bottom = sorted((at_y(value["value"]), at_y(0.0)))
        parts.append(
            f'<rect x="{middle - width * 0.3:.1f}" y="{top:.1f}" width="{width * 0.6:.1f}" '
            f'height="{max(0.5, bottom - top):.1f}" fill="{_SERIES[0]}" opacity=".55"/>'
        )
        parts.append(_whisker(middle, value, at_y, _INK))
        parts.append(_text(middle, HEIGHT - _BOTTOM + 2, label, "middle"))
        parts.append(_text(middle, HEIGHT - _BOTTOM + 16, below, "middle"))
    parts.append(f'<path d="M{_LEFT} {at_y(0.0):.1f}H{WIDTH - _RIGHT}" stroke="{_INK}"/>')
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, x_label, "middle"))
    return _svg(title, HEIGHT, parts)


def dots(title: str, rows: Sequence[tuple[str, Mapping[str, Any]]], *, zero: float, x_label: str) -> str:
    """One row a value: its name, a dot and the interval.

    Args:
        title: For those who cannot see it.
        rows: Name, and a point.
        zero: The value of the line that dots are compared with.
        x_label: What x is.

    Returns:
        An ``<svg>`` element.
    """
    left, step = 140, 24
    height = _TOP + step * len(rows) + _BOTTOM
    low, high = _range([*_ends([value for _, value in rows]), zero])

    def at_x(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - _RIGHT)

    floor = height - _BOTTOM
    parts = []
    for level, name in _ticks(low, high, 4):
        parts.append(f'<path d="M{at_x(level):.1f} {_TOP}V{floor}" stroke="{_LINE}"/>')
        parts.append(_text(at_x(level), floor + 16, name, "middle"))
    parts.append(f'<path d="M{at_x(zero):.1f} {_TOP}V{floor}" stroke="{_INK}"/>')
    for number, (name, value) in enumerate(rows):
        y = _TOP + (number + 0.5) * step
        parts.append(_text(left - 8, y + 4, name, "end"))
        if value["ci_low"] is not None:
            ends = f"M{at_x(value['ci_low']):.1f} {y:.1f}H{at_x(value['ci_high']):.1f}"
            parts.append(f'<path d="{ends}" stroke="{_SERIES[0]}" stroke-width="1.5"/>')
        parts.append(f'<circle cx="{at_x(value["value"]):.1f}" cy="{y:.1f}" r="4" fill="{_SERIES[0]}"/>')
    parts.append(_text((left + WIDTH - _RIGHT) / 2, height - 6, x_label, "middle"))
    return _svg(title, height, parts)


def legend(names: Sequence[str]) -> str:
    """The names of series beside their colours, as HTML."""
    return "".join(
        f'<span class="key"><span style="background:{_SERIES[number % len(_SERIES)]}"></span>{escape(name)}</span>'
        for number, name in enumerate(names)
    )


def standalone(svg: str) -> str:
    """A plot as a file of its own, readable on light and dark ground."""
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" {_FONT}>\n'
        f"<title>{escape(title)}</title>\n{body}\n</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{_INK}" text-anchor="{anchor}">{escape(text)}</text>'


def _whisker(x: float, value: Mapping[str, Any], at_y: Callable[[float], float], colour: str) -> str:
    if value["ci_low"] is None:
        return ""
    ends = f"M{x:.1f} {at_y(value['ci_low']):.1f}V{at_y(value['ci_high']):.1f}"
    return f'<path d="{ends}" stroke="{colour}" stroke-width="1.5" opacity=".55"/>'


def _vertical(low: float, high: float, bottom: float = _BOTTOM) -> Callable[[float], float]:
    return lambda value: _TOP + (high - value) / (high - low) * (HEIGHT - _TOP - bottom)


def _levels(low: float, high: float, at_y: Callable[[float], float]) -> list[str]:
    parts = []
    for level, name in _ticks(low, high, 5):
        parts.append(f'<path d="M{_LEFT} {at_y(level):.1f}H{WIDTH - _RIGHT}" stroke="{_LINE}"/>')
        parts.append(_text(_LEFT - 6, at_y(level) + 4, name, "end"))
    return parts


def _ends(points: Sequence[Mapping[str, Any]]) -> list[float]:
    return [value[key] for value in points for key in ("value", "ci_low", "ci_high") if value[key] is not None]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.05 or 0.05
    return low - pad, high + pad


def _ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """Round numbers between two ends."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    # Adding 0 makes of a negative zero a plain one.
    levels = [round((first + number) * step, 12) + 0.0 for number in range(count)]
    return [(level, f"{level:.{digits}f}") for level in levels]
