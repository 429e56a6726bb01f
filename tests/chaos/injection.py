"""Inject a fault again and again, into one job after the other, and say what came of it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from tests.chaos.network import ChaosNetwork
from tests.chaos.runs import JobFailed, Run

COUNT_VARIABLE, SEED_VARIABLE = "CHAOS_N", "CHAOS_SEED"
STEPS = 120
ROOM_STEPS = 20
"""Left in a job, below which no fault is injected any more."""
FAILURES_MAX = 3
"""Jobs that may fail before a row is given up."""

Span = tuple[float, float]
"""When a fault was injected, and when all was well again: Unix seconds."""


def count(few: int = 3, share: float = 1.0) -> int:
    """How often to inject: a share of CHAOS_N where it is set, for what takes long; else a few."""
    asked = os.environ.get(COUNT_VARIABLE)
    return max(1, round(int(asked) * share)) if asked else few


def chance(fault: str) -> random.Random:
    """Random numbers of a fault; CHAOS_SEED draws others."""
    seed = f"{fault} {os.environ.get(SEED_VARIABLE, '0')}"
    print(f"seed: {seed!r}")
    return random.Random(seed)


def injected(
    network: ChaosNetwork, start: Callable[[int], Run], inject: Callable[[Run], Span],
    times: int, folder: Path, steps: int = STEPS,
) -> tuple[list[float], list[str]]:
    """Inject a fault so many times, into as many jobs as that takes.

    Args:
        network: healed after each job.
        start: starts a job of so many steps.
        inject: injects the fault into a running job, waits until that has got over it, and heals.
        times: how often.
        folder: for results.
        steps: of each job.

    Returns:
        Seconds from each fault to the commit that ended the standstill, and violations.
    """
    seconds: list[float] = []
    violations: list[str] = []
    failures = 0
    while len(seconds) < times and failures < FAILURES_MAX:
        run = start(steps)
        spans: list[Span] = []
        try:
            status = run.until_step(3)
            while len(seconds) + len(spans) < times and status.steps_done < steps - ROOM_STEPS:
                spans.append(inject(run))
                status = run.until_step(0)
            violations += run.violations(folder, run.reference)
        except JobFailed as failure:
            failures += 1
            violations.append(str(failure))
        else:
            past = run.history()
            seconds += [past.recovered_after(*span) for span in spans]
        network.heal()
    return seconds, violations
