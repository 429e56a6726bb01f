"""Templates into HTML. Whatever goes into a page is escaped; nothing is ever marked as safe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import jinja2

from broker.clock import unix_ms
from homespun.cli.output import printable
from homespun.units import format_duration, format_flops, format_size, format_time

TEMPLATES = Path(__file__).parent / "templates"


class Renderer:
    """The templates, compiled when they are first used. May be used from several threads."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            auto_reload=False,
            undefined=jinja2.StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            bytes=format_size, seconds=format_duration, at=_at, whole=_whole, flops=format_flops,
            argument=_argument)

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """One page."""
        return self._environment.get_template(template).render(values)


def _shown(value: object) -> object:
    """What an expression puts into a page: no control characters, no reversed writing."""
    return printable(value) if type(value) is str else value


def _at(at_ns: int) -> str:
    """A time of the core for people and for `datetime`: RFC 3339, or `-` for never."""
    return format_time(unix_ms(at_ns))


def _whole(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _argument(text: str) -> str:
    """A word of a command line, as a shell reads it back."""
    return f"-- {quote(text)}" if text.startswith("-") else quote(text)
