"""Where the time of a running lease goes: for operators, and for whoever makes it faster.

The first step also pays for warm-up (caches, memory pools), so it is counted apart: all other
numbers are of the steps after it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from math import inf
from statistics import fmean, median

from dag.cluster import BACKWARD, FORWARD
from peer.core.events import TaskKind

RECENT_TASKS = 255
"""Of each kind: enough for a median, and few bytes however long a job runs."""
TASKS_MIN = 4
"""Fewer say nothing typical."""
PACE_GROUP, PACE_GROUPS = 8, 3
PACE_TASKS = PACE_GROUP * PACE_GROUPS
"""Of each kind: what `pace` calls lately."""
PACE_KINDS = (TaskKind.FORWARD, TaskKind.BACKWARD, TaskKind.ACCUMULATE)
PACE_SPACING_S = 5.0
PACE_CHANGE = 0.1
"""Smaller changes, and sooner ones, are not worth a report that the broker keeps."""


class TimeSheet:
    """Sums over the tasks of one lease. Times are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        """Nothing has run yet."""
        self._first_at_s: float | None = None
        self._first_step_s: float | None = None
        self._began_s = 0.0
        self._ended_s = 0.0
        self._steps = 0
        self._compute_s: Counter[str] = Counter()
        self._cpu_s = 0.0
        self._handover_s = 0.0
        self._idle_s: Counter[str] = Counter()
        self._recent_s: dict[TaskKind, deque[float]] = {}
        self._told_pace_s = 0.0
        self._pace_told_at_s = -inf

    def begin(self, kind: TaskKind, now_s: float) -> None:
        """A task is handed to the executor."""
        if self._first_at_s is None:
            self._first_at_s = self._ended_s = now_s
        self._idle_s[kind] += now_s - self._ended_s
        self._began_s = now_s

    def end(self, kind: TaskKind, compute_s: float, cpu_s: float, now_s: float) -> bool:
        """The task's results and its `Done` have arrived.

        Args:
            kind: as given to `begin`.
            compute_s: what the executor took for it.
            cpu_s: processor time of the executor process meanwhile, all threads.
            now_s: the time.

        Returns:
            Whether the first step ended with it, so that counting begins.
        """
        self._compute_s[kind] += compute_s
        self._recent_s.setdefault(kind, deque(maxlen=RECENT_TASKS)).append(compute_s)
        self._cpu_s += cpu_s
        self._handover_s += now_s - self._began_s - compute_s
        self._ended_s = now_s
        if kind is not TaskKind.UPDATE:
            return False
        if self._first_step_s is not None:
            self._steps += 1
            return False
        assert self._first_at_s is not None
        self._first_step_s = now_s - self._first_at_s
        self._compute_s.clear()
        self._recent_s.clear()
        self._idle_s.clear()
        self._cpu_s = self._handover_s = 0.0
        return True

    def typical_s(self) -> Mapping[str, float]:
        """Direction -> median seconds of one microbatch, where enough of them ran.

        Weight gradients that were left for later are a part of backward.
        """
        medians = {
            kind: median(times) for kind, times in self._recent_s.items()
            if len(times) >= TASKS_MIN}
        typical = {}
        if TaskKind.FORWARD in medians:
            typical[FORWARD] = medians[TaskKind.FORWARD]
        if TaskKind.BACKWARD in medians:
            typical[BACKWARD] = (
                medians[TaskKind.BACKWARD] + medians.get(TaskKind.ACCUMULATE, 0.0))
        return typical

    def pace_s(self, now_s: float, *, is_training: bool, duty: float = 1.0) -> float | None:
        """Seconds of one microbatch lately, all its tasks together, where there is news of it.

        Args:
            now_s: the time.
            is_training: whether there are backwards.
            duty: share of the time that the device works, above 0 to 1; it rests for the others.
        """
        is_warm = self._first_step_s is not None or not is_training
        if not is_warm or now_s < self._pace_told_at_s + PACE_SPACING_S:
            return None
        needed = PACE_KINDS[:2] if is_training else PACE_KINDS[:1]
        if any(len(self._recent_s.get(kind, ())) < TASKS_MIN for kind in needed):
            return None
        pace_s = sum(_lately(list(self._recent_s[kind]))
                     for kind in PACE_KINDS if kind in self._recent_s) / duty
        if abs(pace_s - self._told_pace_s) <= PACE_CHANGE * self._told_pace_s:
            return None
        self._told_pace_s, self._pace_told_at_s = pace_s, now_s
        return pace_s

    def summary(self) -> dict[str, object]:
        """The sums, in seconds.

        `first_step_s` is the first step from its first task on, None if it did not end. `steps`
        counts the others, and only they are in: `compute_s` by task kind; `executor_cpu_s`,
        processor time during those tasks (far below `compute_s` when others use the processor);
        `handover_s`, between daemon and executor, both ways; and `idle_s`, by the kind of task
        that the wait ended with: before a forward it is the segments before this one that are
        waited for, before a backward those after it, before an update the slowest one.
        """
        return {
            "first_step_s": _rounded(self._first_step_s),
            "steps": self._steps,
            "compute_s": {kind: _rounded(time_s) for kind, time_s in self._compute_s.items()},
            "executor_cpu_s": _rounded(self._cpu_s),
            "handover_s": _rounded(self._handover_s),
            "idle_s": {kind: _rounded(time_s) for kind, time_s in self._idle_s.items()},
        }


def _lately(times_s: list[float]) -> float:
    """Seconds of a task lately: the median of the means of some tasks in a row each.

    One moment's standstill is in one of the groups. What comes again and again, as on a device that
    is throttled by turns, is in all of them; a median of the tasks would leave it out.
    """
    ends = range(len(times_s), max(0, len(times_s) - PACE_TASKS), -PACE_GROUP)
    return median(fmean(times_s[max(0, end - PACE_GROUP):end]) for end in ends)


def _rounded(time_s: float | None) -> float | None:
    return None if time_s is None else round(time_s, 6)
