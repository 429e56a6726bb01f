"""`peer pause`, `peer resume`, `peer finish`, `peer leave`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homespun.cli.output import json_option, print_json, run_command
from peer.cli.place import directory_option, peer_directory

if TYPE_CHECKING:
    from peer.owner.asking import Answer, Asking

HEARD_S = 15.0
"""Longest that a daemon takes to notice a wish, and to clean up once its deadline is over."""


def _deadline_option(command: Any) -> Any:
    return click.option(
        "--deadline", default="60s", show_default=True, metavar="DURATION",
        help="When the device must be free: what nobody has taken over by then is given up, and "
        "its job goes on from the last snapshot.")(command)


@click.command()
@click.argument("span", nargs=-1, metavar="[DURATION | until TIME]")
@_deadline_option
@directory_option
@json_option
@run_command
def pause(span: tuple[str, ...], deadline: str, directory: Path | None, as_json: bool) -> None:
    """Give this machine back to its owner: hand over what runs, free the device, stay joined.

    Returns when nothing is held and every process that computed has ended. A paused peer stays
    paused, over restarts too, for as long as is said, or until `peer resume`.

    \b
    Examples:
      peer pause 30m
      peer pause until 18:00
      peer pause until Mon 08:00
      peer pause --deadline 30s
    """
    from peer.core.events import Availability

    asking, deadline_ms = _asking(directory), _duration_ms(deadline)
    until_unix_ms, until = _end_of(span)
    asking.tell(Availability.PAUSED, deadline_ms, until_unix_ms)
    answer = asking.wait(asking.is_free, "paused", deadline_ms / 1000 + HEARD_S)
    text = f"{answer.name} is paused{until}: it holds nothing{_ended(answer)}.{_freed(answer)}"
    _say(answer, "paused", text, as_json, until_unix_ms=until_unix_ms)


@click.command()
@directory_option
@json_option
@run_command
def resume(directory: Path | None, as_json: bool) -> None:
    """Lend this machine again, after `peer pause` or `peer finish`."""
    from peer.core.events import Availability

    asking = _asking(directory)
    asking.tell(Availability.OPEN)
    answer = asking.wait(asking.is_heard, "open", HEARD_S)
    _say(answer, "open", f"{answer.name} takes work again.", as_json)


@click.command()
@click.option("--wait", metavar="DURATION",
              help="Wait until nothing is held, at most so long. [default: return at once]")
@directory_option
@json_option
@run_command
def finish(wait: str | None, directory: Path | None, as_json: bool) -> None:
    """End what runs here, and take nothing new until `peer resume`.

    \b
    Example:
      peer finish --wait 2h
    """
    from peer.core.events import Availability

    asking = _asking(directory)
    asking.tell(Availability.FINISHING)
    answer = asking.wait(asking.is_heard, "finishing", HEARD_S)
    if wait is not None:
        answer = asking.wait(asking.is_free, "finished", HEARD_S + _duration_ms(wait) / 1000)
    rest = f"it still holds {', '.join(answer.held)}" if answer.held else "it holds nothing"
    _say(answer, "finishing", f"{answer.name} takes nothing new; {rest}.{_freed(answer)}", as_json)


@click.command()
@_deadline_option
@directory_option
@json_option
@run_command
def leave(deadline: str, directory: Path | None, as_json: bool) -> None:
    """Hand over what runs here and end `peer run`.

    The identity stays: `peer run` takes part again.

    \b
    Example:
      peer leave --deadline 5m
    """
    from peer.core.events import Availability

    asking, deadline_ms = _asking(directory), _duration_ms(deadline)
    if asking.is_running:
        asking.tell(Availability.LEAVING, deadline_ms)
    answer = asking.wait(asking.is_gone, "gone", deadline_ms / 1000 + HEARD_S)
    _say(answer, "leaving", f"{answer.name} has left{_ended(answer)}.{_freed(answer)}", as_json,
         not_running=f"{answer.name} is not running: there is nothing to leave.")


def _asking(directory: Path | None) -> Asking:
    from peer.owner.asking import Asking

    place = peer_directory(directory)
    return Asking(place, place.load_settings().name)


def _end_of(span: tuple[str, ...]) -> tuple[int, str]:
    """The moment that words name, and the words for it; 0 and none without words."""
    import time
    from datetime import datetime

    from peer.owner.core.moments import parse_moment
    from peer.owner.sensors.zone import SystemZone

    if not span:
        return 0, ""
    end_s = parse_moment(" ".join(span), time.time(), SystemZone())
    return round(end_s * 1000), f" until {datetime.fromtimestamp(end_s):%a %H:%M}"


def _duration_ms(text: str) -> int:
    from homespun.errors import Code, HomespunError
    from homespun.units import parse_duration_ms

    if (duration_ms := parse_duration_ms(text)) >= 1_000:
        return duration_ms
    raise HomespunError(
        Code.INVALID_ARGUMENT, f"{text} is too short: handing over takes at least 1s.", value=text)


def _ended(answer: Answer) -> str:
    from homespun.units import format_duration

    if not answer.ended:
        return ""
    count = len(answer.ended)
    processes = f"{count} process{'es' if count > 1 else ''}"
    return f", and {processes} ended with its work after {format_duration(answer.seconds)}"


def _freed(answer: Answer) -> str:
    from peer.memory_use import change_in_words

    if not answer.ended:
        return ""
    change = change_in_words(answer.memory_before, answer.memory_now)
    return f"\n{change[0].upper()}{change[1:]}." if change else ""


def _say(
    answer: Answer, availability: str, text: str, as_json: bool, not_running: str = "",
    until_unix_ms: int = 0,
) -> None:
    """Print what became of a wish; without a daemon, that it stands for the next start."""
    if as_json:
        print_json("peer_availability", {
            **asdict(answer), "availability": availability, "until_unix_ms": until_unix_ms})
    elif answer.is_running:
        click.echo(text)
    else:
        click.echo(not_running or f"{answer.name} is not running: it will be {availability} when "
                   "it starts.")
