"""What a machine may do now: its owner's wish and limits against what is read of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from peer.core.events import Availability
from peer.owner.core import objections
from peer.owner.core.limits import OwnerLimits
from peer.owner.core.objections import Found
from peer.owner.core.readings import Readings
from peer.owner.core.reasons import CATALOG, Reason, ReasonKind, reason
from peer.owner.core.throttle import FULL, Bound, Throttle, throttled
from peer.owner.core.wish import NO_WISH, Wish

SETTLE_S = 30.0
"""What was read and stood against lending must be gone for so long: nothing flaps faster."""
URGENT_SHARE = 0.25
TEMPERATURE_BAND_C = 4.0
TEMPERATURE_STOP_C = 8.0
POWER_BAND = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What the peer may do.

    Attributes:
        availability: as the broker is told.
        reasons: what stands against lending, or against lending fully; empty only if nothing does.
        duty: share of the time that the device may work, above 0 to 1.
        deadline_s: on the clock that never goes back, when what is held must be elsewhere; None for
            no hurry.
        closes_unix_ms: when the hours end; 0 while that is unknown or they do not.
        without_effect: limits that are set and cannot be kept, with why.
    """

    availability: Availability
    reasons: tuple[Reason, ...] = ()
    duty: float = 1.0
    deadline_s: float | None = None
    closes_unix_ms: int = 0
    without_effect: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recollection:
    """What the last decision leaves for the next one.

    Attributes:
        wish_id: the wish that was read last, and since when.
        since_s: of each kind of objection, when it was first met without a break.
        sensed_at_s: when something that was read last stood against lending.
        deadline_s: while the peer is emptied, the nearest deadline so far.
        heat, draw: the throttles.
    """

    wish_id: str = ""
    wish_since_s: float = 0.0
    since_s: Mapping[ReasonKind, float] = field(default_factory=dict)
    sensed_at_s: float | None = None
    deadline_s: float | None = None
    heat: Throttle = FULL
    draw: Throttle = FULL


NOTHING = Recollection()


def decide(
    limits: OwnerLimits, wish: Wish, readings: Readings, before: Recollection = NOTHING
) -> tuple[Allowance, Recollection]:
    """What the peer may do now.

    Args:
        limits: the owner's.
        wish: the owner's last one. One that is over counts as none.
        readings: of the machine, now.
        before: from the decision before this one.

    Returns:
        The allowance, and what to remember for the next decision.
    """
    wish = NO_WISH if wish.is_over(readings.unix_s) else wish
    heat, draw = _throttles(limits, readings, before)
    found = objections.all_of(limits, readings)
    against = [*found.reasons, *_too_hot(limits, readings, heat)]
    sensed_at_s = (
        readings.now_s if any(CATALOG[each.kind].is_sensed for each in against)
        else before.sensed_at_s)
    if not against:
        against += _settling(readings, sensed_at_s)
    availability = _availability(wish, bool(against))
    wish_since_s = before.wish_since_s if wish.id == before.wish_id else readings.now_s
    since_s = {each.kind: before.since_s.get(each.kind, readings.now_s) for each in against}
    is_emptied = availability in (Availability.PAUSED, Availability.LEAVING)
    deadline_s = (
        _deadline(limits, wish, wish_since_s, since_s, found, readings, before)
        if is_emptied else None)
    allowance = Allowance(
        availability=availability,
        reasons=(*objections.of_wish(wish, readings), *against,
                 *_slowing(limits, readings, heat, draw)),
        duty=min(heat.duty, draw.duty), deadline_s=deadline_s,
        closes_unix_ms=found.closes_unix_ms, without_effect=found.without_effect)
    return allowance, Recollection(
        wish_id=wish.id, wish_since_s=wish_since_s, since_s=since_s, sensed_at_s=sensed_at_s,
        deadline_s=deadline_s, heat=heat, draw=draw)


def _availability(wish: Wish, is_objected: bool) -> Availability:
    """The stricter of the owner's wish and what stands against lending."""
    if wish.availability is Availability.LEAVING:
        return Availability.LEAVING
    return Availability.PAUSED if is_objected else wish.availability


def _deadline(
    limits: OwnerLimits, wish: Wish, wish_since_s: float, since_s: Mapping[ReasonKind, float],
    found: Found, readings: Readings, before: Recollection,
) -> float | None:
    """The nearest of all; one that was told is never put off while the peer stays emptied."""
    deadlines = [_time_for(kind, limits) + at_s for kind, at_s in since_s.items()
                 if kind not in (ReasonKind.HOURS_END, ReasonKind.SETTLING)]
    if ReasonKind.HOURS_END in since_s:
        deadlines.append(readings.now_s + found.closes_unix_ms / 1000 - readings.unix_s)
    if wish.availability is not Availability.OPEN and wish.deadline_ms:
        deadlines.append(wish_since_s + wish.deadline_ms / 1000)
    if before.deadline_s is not None:
        deadlines.append(before.deadline_s)
    return min(deadlines, default=None)


def _time_for(kind: ReasonKind, limits: OwnerLimits) -> float:
    return limits.handover_s * (URGENT_SHARE if CATALOG[kind].is_urgent else 1.0)


def _settling(readings: Readings, sensed_at_s: float | None) -> list[Reason]:
    if sensed_at_s is None or readings.now_s - sensed_at_s >= SETTLE_S:
        return []
    left_s = SETTLE_S - (readings.now_s - sensed_at_s)
    return [reason(ReasonKind.SETTLING, readings.unix_s + left_s, left=f"{left_s:.0f} s")]


# --- temperature and power -----------------------------------------------------------------------


def _throttles(
    limits: OwnerLimits, readings: Readings, before: Recollection
) -> tuple[Throttle, Throttle]:
    heat = throttled(
        before.heat, readings.temperature_c.value, _heat_bound(limits), readings.now_s)
    draw = throttled(
        before.draw, readings.power_w.value,
        Bound(limits.power_w, limits.power_w * (1 - POWER_BAND)), readings.now_s)
    return heat, draw


def _heat_bound(limits: OwnerLimits) -> Bound:
    limit = limits.temperature_c
    return Bound(limit, limit - TEMPERATURE_BAND_C, limit + TEMPERATURE_STOP_C)


def _too_hot(limits: OwnerLimits, readings: Readings, heat: Throttle) -> list[Reason]:
    if not heat.is_stopped or readings.temperature_c.value is None:
        return []
    return [reason(ReasonKind.TOO_HOT, value=readings.temperature_c.value,
                   release=_heat_bound(limits).release)]


def _slowing(
    limits: OwnerLimits, readings: Readings, heat: Throttle, draw: Throttle
) -> list[Reason]:
    """Why the device rests between tasks."""
    reasons = []
    if heat.duty < 1 and not heat.is_stopped and readings.temperature_c.value is not None:
        reasons.append(reason(
            ReasonKind.WARM, value=readings.temperature_c.value, limit=limits.temperature_c,
            duty=heat.duty))
    if draw.duty < 1 and readings.power_w.value is not None:
        reasons.append(reason(
            ReasonKind.POWER, value=readings.power_w.value, limit=limits.power_w, duty=draw.duty))
    return reasons
