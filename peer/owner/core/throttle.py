"""Keeping a device below a temperature or a power by resting between tasks.

Switching a device on and off makes fans howl; a share of the time, in small and slow steps, does
not. Down is quicker than up, and nothing moves inside the band, so that it comes to rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

DUTY_MIN = 0.1
STEP_S = 10.0
"""At least so long from one step to the next: a heat sink answers in about this time."""
STEP_DOWN = 0.75
STEP_UP = 0.1
NEVER_S = float("-inf")


@dataclass(frozen=True, slots=True)
class Throttle:
    """How much of the time a device may work.

    Attributes:
        duty: share of the time, `DUTY_MIN` to 1.
        changed_s: when it last changed, on the clock that never goes back.
        is_stopped: it is so far above its limit that resting between tasks is not enough.
    """

    duty: float = 1.0
    changed_s: float = NEVER_S
    is_stopped: bool = False


FULL = Throttle()


@dataclass(frozen=True, slots=True)
class Bound:
    """What a value is held under.

    Attributes:
        limit: above it the duty goes down; 0 for none.
        release: below it the duty goes up again.
        stop: from here on the work stops, until the value is below `release`.
    """

    limit: float
    release: float
    stop: float = float("inf")


def throttled(before: Throttle, value: float | None, bound: Bound, now_s: float) -> Throttle:
    """The next state; a value that cannot be read limits nothing."""
    if bound.limit <= 0 or value is None:
        return FULL
    if value >= bound.stop:
        return Throttle(DUTY_MIN, now_s, is_stopped=True)
    after = before
    if before.is_stopped and value < bound.release:
        after = replace(before, is_stopped=False)
    if now_s - before.changed_s < STEP_S:
        return after
    if value > bound.limit:
        duty = max(DUTY_MIN, before.duty * STEP_DOWN)
    elif value < bound.release:
        duty = min(1.0, before.duty + STEP_UP)
    else:
        return after
    return after if duty == before.duty else replace(after, duty=duty, changed_s=now_s)
