"""Small charts as inline SVG. Colours come from the page's stylesheet, so light, dark and paper all work."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Frame", "band", "bar", "chart", "dots", "label", "polyline", "rule", "ticks"]

WIDTH = 760


@dataclass(frozen=True)
class Frame:
    """Where a chart's data lie. x, y: value → pixel, within the margins."""

    height: int
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    left: int = 62
    right: int = 16
    top: int = 26
    bottom: int = 36

    def x(self, value: float) -> float:
        """Pixels from the left."""
        share = (value - self.x_low) / ((self.x_high - self.x_low) or 1.0)
        return self.left + share * (WIDTH - self.left - self.right)

    def y(self, value: float) -> float:
        """Pixels from the top; larger values lie higher."""
        share = (value - self.y_low) / ((self.y_high - self.y_low) or 1.0)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    @property
    def floor(self) -> float:
        """The x axis, in pixels from the top."""
        return float(self.height - self.bottom)


def chart(name: str, frame: Frame, parts: Sequence[str], *, x_name: str, y_name: str) -> str:
    """A whole <svg> with axes. name: said aloud by a screen reader."""
    y = f"{frame.floor:.1f}"
    axes = [
        f'<line class="axis" x1="{frame.left}" y1="{y}" x2="{WIDTH - frame.right}" y2="{y}"/>',
        label(WIDTH - frame.right, frame.height - 4, x_name, anchor="end", soft=True),
        label(frame.left - 56, 11, y_name, soft=True),
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {frame.height}" role="img" aria-label="{escape(name, quote=True)}">'
        f"{''.join([*parts, *axes])}</svg>"
    )


def ticks(frame: Frame, format_x: Callable[[float], str], format_y: Callable[[float], str]) -> list[str]:
    """Grid lines and numbers at round values of both axes."""
    parts = []
    for value in _round_steps(frame.y_low, frame.y_high, 4):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{frame.left}" y1="{y:.1f}" x2="{WIDTH - frame.right}" y2="{y:.1f}"/>')
        parts.append(label(frame.left - 6, y + 4, format_y(value), anchor="end", soft=True))
    for value in _round_steps(frame.x_low, frame.x_high, 8):
        parts.append(label(frame.x(value), frame.floor + 15, format_x(value), anchor="middle", soft=True))
    return parts


def bar(frame: Frame, low: float, high: float, value: float, kind: str = "one") -> str:
    """A column from the floor to `value`, one pixel narrower than its bin."""
    x, width = frame.x(low), max(frame.x(high) - frame.x(low) - 1, 1.0)
    y = frame.y(value)
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{frame.floor - y:.1f}"/>'


def band(frame: Frame, low: float, high: float) -> str:
    """A shaded stretch of the x axis."""
    x, width = frame.x(low), max(frame.x(high) - frame.x(low), 0.0)
    y, height = frame.top, frame.floor - frame.top
    return f'<rect class="band" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height:.1f}"/>'


def polyline(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    """Straight lines between points."""
    pairs = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
    return f'<polyline class="line" points="{pairs}"/>'


def dots(frame: Frame, points: Sequence[tuple[float, float]], kind: str = "one", radius: float = 3.5) -> str:
    """A dot a point."""
    return "".join(
        f'<circle class="{kind}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="{radius}"/>' for x, y in points
    )


def rule(frame: Frame, value: float, text: str, *, upright: bool = True, row: int = 0) -> str:
    """A dashed line at an x value (or, not upright, a y value) with its name. row: keeps names apart."""
    if upright:
        x = frame.x(value)
        line = f'<line class="mark" x1="{x:.1f}" y1="{frame.top}" x2="{x:.1f}" y2="{frame.floor:.1f}"/>'
        beyond = x > WIDTH - 150
        return line + label(
            x + (-4 if beyond else 4), frame.top + 10 + 14 * row, text, anchor="end" if beyond else "start"
        )
    y = frame.y(value)
    line = f'<line class="mark" x1="{frame.left}" y1="{y:.1f}" x2="{WIDTH - frame.right}" y2="{y:.1f}"/>'
    return line + label(WIDTH - frame.right, y - 4, text, anchor="end")


def label(x: float, y: float, text: str, *, anchor: str = "start", soft: bool = False) -> str:
    """Words at a place."""
    kind = ' class="soft"' if soft else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _round_steps(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between low and high, roughly `about` of them."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next((f * power for f in (1, 2, 5) if span / (f * power) <= about), 10 * power)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
