"""A job on a fleet in virtual time: the real peer cores, with given task times and links.

What `dag.schedule.timeline` predicts from a rule, this plays through with the cores that run real
jobs: they decide which task is next, and what they send takes the time that the links are given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dag.job import JobSpec
from dag.lines import Lines
from dag.schedule import SegmentTimes, Transfer
from ir.segment import Segment
from peer.core import commands as do
from peer.core import events as ev
from sim.peers import Fabric, LeaseKey, SimulatedPeer, Work
from sim.world import SECOND, Deliver, World

JOB, TOKEN = "job_000001", 1
STALL_TIMEOUT_MS = 1 << 40
"""Never: links may be as slow as they are given."""
MOST = 1_000_000
"""Things that may happen before the world is said to run in circles."""

Moment = tuple[ev.TaskKind, int, int]
"""(kind of task, segment, step)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Who runs what how fast.

    Attributes:
        times: per segment; its peer runs nothing else.
        transfers: at most one per pair of segments, which is one boundary tensor.
        update_s: the update of each segment.
        latency_s: of what is no tensor: norms and scales.
    """

    times: Sequence[SegmentTimes]
    transfers: Sequence[Transfer]
    update_s: Sequence[float]
    latency_s: float = 0.0


@dataclass(slots=True)
class Record:
    """When each kind of task last ended, since the job's start.

    Attributes:
        begin_ns: the world's time when the job started.
        ended_s: by kind of task, segment and step.
    """

    begin_ns: int = 0
    ended_s: dict[Moment, float] = field(default_factory=dict)

    def pipeline_s(self, step: int = 0) -> float:
        """From the start to the last backward of a step, or the weight gradients after it."""
        last = (ev.TaskKind.BACKWARD, ev.TaskKind.ACCUMULATE)
        return max(at_s for (kind, _, of), at_s in self.ended_s.items()
                   if kind in last and of == step)

    def updated_s(self, step: int, segment: int) -> float:
        """From the start to a segment's update."""
        return self.ended_s[ev.TaskKind.UPDATE, segment, step]


class TimedPeer(SimulatedPeer):
    """A peer whose every task and tensor takes the time that the fleet says."""

    def __init__(
        self, world: World, fabric: Fabric, segment: int, fleet: Fleet, lines: Lines,
        record: Record,
    ) -> None:
        super().__init__(world, fabric, f"peer_{segment}")
        self._segment, self._times = segment, fleet.times[segment]
        self._update_s, self._latency_s = fleet.update_s[segment], fleet.latency_s
        self._there = {t.target: t for t in fleet.transfers if t.source == segment}
        self._back = {t.source: t for t in fleet.transfers if t.target == segment}
        self._lines = lines
        self._record = record

    def task_ns(self, lease: LeaseKey, task: ev.Task) -> int:
        """The fleet's time; work that the fleet has no time for takes none."""
        took_s = {
            ev.TaskKind.FORWARD: self._times.forward_s,
            ev.TaskKind.BACKWARD: self._times.backward_s,
            ev.TaskKind.ACCUMULATE: self._times.deferred_s,
            ev.TaskKind.UPDATE: self._update_s,
        }.get(task.kind, 0.0)
        ends_ns = self.world.now_ns + round(took_s * SECOND)
        self._record.ended_s[task.kind, self._segment, task.step] = (
            ends_ns - self._record.begin_ns) / SECOND
        return ends_ns - self.world.now_ns

    def handover_ns(self) -> int:
        """Part of the task's time."""
        return 0

    def carry(self, work: Work, target: int, fields: dict[str, Any], deliver: Deliver) -> None:
        """Tensors occupy their lines; everything arrives a latency later."""
        now_s = self.world.now_ns / SECOND
        match fields.get("kind"):
            case ev.TensorKind.ACTIVATION:
                at_s = self._lines.arrival_s(self._there[target].forward, now_s)
            case ev.TensorKind.GRADIENT | ev.TensorKind.ACKNOWLEDGE:
                at_s = self._lines.arrival_s(self._back[target].backward, now_s)
            case _:
                at_s = now_s + self._latency_s
        self.world.at(round(at_s * SECOND), deliver)


def play(spec: JobSpec, segments: Sequence[Segment], fleet: Fleet) -> Record:
    """Play a training job from its start to its last update, one segment on each peer.

    Args:
        spec: the job; its links and times are the fleet's.
        segments: in segment order.
        fleet: how long everything takes.

    Raises:
        RuntimeError: it did not come to an end.

    Cost: O(steps * microbatches * (segments + transfers) * log).
    """
    world, fabric, lines, record = World(0), Fabric(), Lines(), Record()
    peers = [
        TimedPeer(world, fabric, number, fleet, lines, record) for number in range(len(segments))]
    ready: set[int] = set()
    for number, peer in enumerate(peers):
        peer.on_report = _listener(number, ready)
        peer.take(
            ev.AssignmentReceived, job_id=JOB, token=TOKEN, spec=spec, segment=segments[number],
            in_flight=fleet.times[number].in_flight, segments=len(segments),
            stall_timeout_ms=STALL_TIMEOUT_MS)
        peer.take(ev.BrokerConnected, last_report=0)
    world.run(lambda: len(ready) == len(peers), MOST)
    record.begin_ns = world.now_ns
    members = tuple(
        ev.Member(segment=number, peer_id=peer.peer_id, token=TOKEN, tensor_address="here:1")
        for number, peer in enumerate(peers))
    for number, peer in enumerate(peers):
        peer.take(ev.StartReceived, job_id=JOB, segment=number, token=TOKEN, members=members)
    last = {(ev.TaskKind.UPDATE, number, spec.training.steps - 1) for number in range(len(peers))}
    if not world.run(lambda: last <= record.ended_s.keys(), MOST):
        raise RuntimeError("the job came to a standstill")
    return record


def _listener(number: int, ready: set[int]) -> Callable[[do.SendReport], None]:
    def listen(report: do.SendReport) -> None:
        if isinstance(report.body, do.ReadyBody):
            ready.add(number)

    return listen
