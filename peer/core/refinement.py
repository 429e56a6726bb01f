"""What real tasks teach about a device: a correction for each kind of work. Pure.

A segment's task takes one time, but is made of several classes of operators. The error of the
prediction is shared out among them by how much of the prediction each class is (normalised least
mean squares in logarithms: Widrow & Hoff 1960; the form with the norm is in Haykin, Adaptive
Filter Theory, section 6). Segments of different mixes thus tell the classes apart over time. It is
robust twice: a lease is judged by the median of its tasks, and moves an estimate by a bounded
factor, whatever it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, isfinite, log

from dag.cluster import CORRECTION_MAX, CORRECTION_MIN, Correction
from dag.cost import WorkSeconds

GAIN = 0.5
"""Part of the error that one lease removes: half of what was wrong before counts."""
FIRST_GAIN = 1.0
"""The same of the first lease in a direction: nothing that real tasks said stands against it."""
ERROR_MAX = log(2.0)
"""A lease that was off by more counts as off by this much: machines are interrupted."""


def refined(
    corrections: tuple[Correction, ...], predicted: tuple[WorkSeconds, ...],
    measured: Mapping[str, float],
) -> tuple[Correction, ...]:
    """Corrections after one more lease.

    Args:
        corrections: what is believed so far.
        predicted: of one microbatch by the rates alone, by direction and class.
        measured: direction -> typical seconds of one microbatch; a direction may be missing.

    Returns:
        One correction for each kind of work ever seen, by name, inside the bounds.
    """
    factors = {(known.direction, known.op_class): known.factor for known in corrections}
    known_directions = {known.direction for known in corrections}
    for direction, seconds in measured.items():
        works = [work for work in predicted if work.direction == direction and work.seconds > 0]
        expected = {
            (direction, work.op_class): work.seconds * factors.get((direction, work.op_class), 1.0)
            for work in works}
        total = sum(expected.values())
        if total <= 0 or not isfinite(seconds) or seconds <= 0:
            continue
        error = max(-ERROR_MAX, min(ERROR_MAX, log(seconds / total)))
        gain = GAIN if direction in known_directions else FIRST_GAIN
        norm = sum((part / total) ** 2 for part in expected.values())
        for kind, part in expected.items():
            moved = factors.get(kind, 1.0) * exp(gain * error * (part / total) / norm)
            factors[kind] = max(CORRECTION_MIN, min(CORRECTION_MAX, moved))
    return tuple(
        Correction(direction=direction, op_class=op_class, factor=factor)
        for (direction, op_class), factor in sorted(factors.items()))
