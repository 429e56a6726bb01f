"""A few shapes of SVG 1.1, written as text: equal drawings give equal bytes."""

from __future__ import annotations

from math import floor, log10
from xml.sax.saxutils import escape, quoteattr

FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
INK = "#1b1b1b"
FAINT = "#8a8a8a"
RULE = "#d9d9d9"
PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#b59f00", "#7a5195",
    "#4c9085", "#a05d56", "#5c6bc0", "#8d8d8d")
"""Told apart by people who see colours differently (Okabe and Ito, 2008), and a few more."""


def colour(number: int) -> str:
    """The colour of the device with this number."""
    return PALETTE[number % len(PALETTE)]


class Drawing:
    """Shapes one over the other, in pixels from the left upper corner."""

    def __init__(self, width: float, height: float, title: str, description: str) -> None:
        """Begin.

        Args:
            width: of the whole.
            height: of the whole.
            title: what it shows, for those who do not see it.
            description: the same facts in words.
        """
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_at(width)}" height="{_at(height)}" '
            f'viewBox="0 0 {_at(width)} {_at(height)}" role="img" '
            f'aria-labelledby="title desc" font-family={quoteattr(FONT)} font-size="12">\n'
            f'<title id="title">{_text(title)}</title>\n<desc id="desc">{_text(description)}'
            "</desc>\n"
            f'<rect width="{_at(width)}" height="{_at(height)}" fill="#ffffff"/>\n')
        self._shapes: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, label: str = "", *,
        opacity: float = 1.0,
    ) -> None:
        """A filled rectangle; `label` is shown where it is pointed at."""
        shape = (f'<rect x="{_at(x)}" y="{_at(y)}" width="{_at(max(width, 0.2))}" '
                 f'height="{_at(height)}" fill="{fill}"')
        if opacity < 1.0:
            shape += f' fill-opacity="{_at(opacity)}"'
        self._shapes.append(
            f"{shape}><title>{_text(label)}</title></rect>" if label else f"{shape}/>")

    def line(self, x: float, y: float, to_x: float, to_y: float, stroke: str = RULE) -> None:
        """A thin line."""
        self._shapes.append(f'<line x1="{_at(x)}" y1="{_at(y)}" x2="{_at(to_x)}" y2="{_at(to_y)}" '
                            f'stroke="{stroke}"/>')

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", fill: str = INK,
        size: float = 12,
    ) -> None:
        """Words on a line whose baseline is at `y`."""
        self._shapes.append(
            f'<text x="{_at(x)}" y="{_at(y)}" text-anchor="{anchor}" fill="{fill}" '
            f'font-size="{_at(size)}">{_text(words)}</text>')

    def write(self) -> str:
        """The whole as XML."""
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + self.fragment()

    def fragment(self) -> str:
        """The whole as a part of an HTML page."""
        return self._head + "\n".join(self._shapes) + "\n</svg>\n"


def time_axis(
    drawing: Drawing, x: float, y: float, width: float, height: float, end_s: float
) -> None:
    """Rules at round times over a chart that begins at time 0 and ends at `end_s` > 0."""
    step_s = round_step(end_s)
    for number in range(int(end_s / step_s + 1e-9) + 1):
        at = x + width * min(1.0, number * step_s / end_s)
        drawing.line(at, y, at, y + height)
        drawing.text(at, y + height + 14, seconds(number * step_s), anchor="middle", fill=FAINT)


def round_step(end: float, most: int = 8) -> float:
    """1, 2 or 5 times a power of ten, so that at most `most` steps reach `end` > 0."""
    least = 10.0 ** floor(log10(end / most))
    return next(least * factor for factor in (1.0, 2.0, 5.0, 10.0, 20.0)
                if end <= most * least * factor)


def seconds(value: float) -> str:
    """A time with its unit, three digits."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1.0:
            return f"{value * factor:.3g} {unit}"
    return "0 s" if value == 0 else f"{value:.3g} s"


def shortened(name: str, most: int = 22) -> str:
    """A name that fits a column."""
    return name if len(name) <= most else name[: most - 3] + "..."


def _at(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(words: str) -> str:
    """Escaped; characters that XML 1.0 cannot hold become `?`."""
    return escape("".join(mark if _is_xml(mark) else "?" for mark in words))


def _is_xml(mark: str) -> bool:
    return mark in "\t\n\r" or "\x20" <= mark <= "\ud7ff" or "\ue000" <= mark <= "\ufffd" or (
        mark >= "\U00010000")
