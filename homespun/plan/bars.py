"""A chart with a row for each device and bars along time; those too small to be seen are merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homespun.plan.svg import FAINT, Drawing, shortened, time_axis

WIDTH = 960.0
LEFT = 190.0
RIGHT = 130.0
ROW = 22.0
SMALLEST_PIXELS = 0.75
"""Neighbours of one colour closer and narrower than this are drawn as one."""
MAX_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Work from one time to another.

    Attributes:
        begin_s, end_s: when.
        fill: its colour.
        label: shown where it is pointed at.
        name: written into it where there is room.
        faint: drawn paler.
    """

    begin_s: float
    end_s: float
    fill: str
    label: str
    name: str = ""
    faint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A device's bars, by time, and what is said of it at the end of its row."""

    name: str
    bars: Sequence[Bar]
    remark: str = ""


def chart_height(rows: int) -> float:
    """Pixels of a chart with so many rows, axis and heading included."""
    return min(rows, MAX_ROWS) * ROW + 52.0 + (18.0 if rows > MAX_ROWS else 0.0)


def draw_chart(
    drawing: Drawing, y: float, heading: str, rows: Sequence[Row], end_s: float
) -> None:
    """Draw a chart from `y` down. Cost: linear in the bars."""
    drawing.text(16, y + 14, heading, size=13)
    shown = rows[:MAX_ROWS]
    top, width = y + 24.0, WIDTH - LEFT - RIGHT
    time_axis(drawing, LEFT, top, width, len(shown) * ROW, end_s)
    for number, row in enumerate(shown):
        base = top + number * ROW
        drawing.text(LEFT - 8, base + 15, shortened(row.name), anchor="end")
        for bar in merged(row.bars, SMALLEST_PIXELS * end_s / width):
            at, wide = (LEFT + width * bar.begin_s / end_s,
                        width * (bar.end_s - bar.begin_s) / end_s)
            drawing.box(at, base + 3, wide - (0.6 if wide > 2 else 0.0), ROW - 6, bar.fill,
                        bar.label, opacity=0.55 if bar.faint else 1.0)
            if bar.name and wide > 8 + 7 * len(bar.name):
                drawing.text(at + 4, base + 14, bar.name, fill="#ffffff", size=10)
        drawing.text(LEFT + width + 8, base + 15, row.remark, fill=FAINT, size=11)
    if len(rows) > MAX_ROWS:
        drawing.text(LEFT, top + MAX_ROWS * ROW + 32,
                     f"{len(rows) - MAX_ROWS} more devices are not drawn.", fill=FAINT)


def merged(bars: Sequence[Bar], smallest_s: float) -> list[Bar]:
    """Bars in which runs of too narrow ones are one, labelled with their number."""
    found: list[Bar] = []
    count = 0
    for bar in bars:
        last = found[-1] if found else None
        if last is not None and bar.end_s - bar.begin_s < smallest_s and (
                bar.begin_s - last.end_s < smallest_s) and bar.fill == last.fill and (
                bar.faint == last.faint) and (count > 1 or last.end_s - last.begin_s < smallest_s):
            count += 1
            found[-1] = Bar(begin_s=last.begin_s, end_s=bar.end_s, fill=bar.fill,
                            label=f"{count} pieces of work", faint=bar.faint)
        else:
            found.append(bar)
            count = 1
    return found
