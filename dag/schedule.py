"""How microbatches flow through a DAG of segments: how many are in flight, how long a step takes.

The rule every peer follows (`peer.core`): forwards in microbatch order, backwards in microbatch
order, backward before forward when both are ready, deferred weight gradients when neither is, and
at most `in_flight` microbatches between forward and backward. On a chain that is 1F1B (Narayanan et
al. 2021, arXiv:2104.04473, section 2.2); here it is stated for any DAG. `timeline` plays that rule
through in virtual time.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from dag.lines import Lines, Sending
from ir.segment import Segment

DEFERRED_MICROBATCHES_MAX = 2
"""Microbatches whose weight gradients may wait while others flow; each holds the operands of its
products. With two, the last three follow the step's last gradient to the neighbour, which has then
caught up when the next step begins (docs/adr/0013-weight-gradients-later.md has the figures)."""
SIMULATED_MICROBATCHES = 64
"""Beyond these the pipeline is steady: the rest is extrapolated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTimes:
    """Speed and limit of one segment on its peer.

    Attributes:
        forward_s: one microbatch forward, >= 0.
        backward_s: one microbatch backward, without `deferred_s`, >= 0.
        in_flight: most microbatches between forward and backward, >= 1.
        deferred_s: weight gradients of one microbatch that may follow its backward later, as no
            other segment waits for them, >= 0; 0 where they are part of it.
    """

    forward_s: float
    backward_s: float
    in_flight: int
    deferred_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What flows between two segments for each microbatch: activations there, gradients back.

    Each direction is a channel of its own that carries one microbatch at a time and overlaps with
    computing; `latency_s` delays the arrival and occupies nothing. Where no gradient comes back the
    target acknowledges: as soon as its forward is done, not after its own backward.
    `forward_lines_s` and `backward_lines_s` say for how long a direction keeps other transfers from
    its sender's uplink and its receiver's downlink (`dag.lines`).
    """

    source: int
    target: int
    forward_s: float
    backward_s: float
    forward_latency_s: float
    backward_latency_s: float
    is_acknowledged: bool = False
    forward_lines_s: tuple[float, float] = (0.0, 0.0)
    backward_lines_s: tuple[float, float] = (0.0, 0.0)

    @property
    def forward(self) -> Sending:
        """From the source to the target."""
        up_s, down_s = self.forward_lines_s
        return Sending(
            source=self.source, target=self.target, takes_s=self.forward_s, up_s=up_s,
            down_s=down_s, latency_s=self.forward_latency_s)

    @property
    def backward(self) -> Sending:
        """From the target to the source."""
        up_s, down_s = self.backward_lines_s
        return Sending(
            source=self.target, target=self.source, takes_s=self.backward_s, up_s=up_s,
            down_s=down_s, latency_s=self.backward_latency_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One step, played through.

    Attributes:
        pipeline_s: from the first forward to the last backward, deferred weight gradients included.
        bubble: share of peer time spent idle, in [0, 1).
        busy_s: computing time of each segment.
        peak_in_flight: most microbatches that each segment held.
    """

    pipeline_s: float
    bubble: float
    busy_s: tuple[float, ...]
    peak_in_flight: tuple[int, ...]


def in_flight(segments: Sequence[Segment], microbatches: int, slack: int = 0) -> tuple[int, ...]:
    """Microbatches that each segment holds so that no segment of the pipeline starves.

    Args:
        segments: in topological order (`index` ascending).
        microbatches: per step, >= 1.
        slack: added to every segment but the last ones (sinks), to hide the time on the links.

    Returns:
        Longest path to a sink, plus one, plus slack; at most `microbatches`.
    """
    depth = [0] * len(segments)
    for segment in reversed(segments):
        for tensor in segment.outgoing:
            depth[segment.index] = max(depth[segment.index], depth[tensor.target] + 1)
    return tuple(min(microbatches, d + 1 + (slack if d else 0)) for d in depth)


def timeline(
    times: Sequence[SegmentTimes], transfers: Sequence[Transfer], microbatches: int
) -> Timeline:
    """Play one training step through.

    Args:
        times: per segment, in segment order.
        transfers: at most one per pair of segments, each to a higher segment.
        microbatches: per step, >= 1.

    Returns:
        The timeline; exact up to `SIMULATED_MICROBATCHES`, beyond that the steady rate goes on.

    Cost: O(min(microbatches, SIMULATED_MICROBATCHES) * (segments + transfers) * log).
    """
    played = min(microbatches, SIMULATED_MICROBATCHES)
    pipeline_s, peaks = _Play(times, transfers, played).run()
    if microbatches > played:
        half = played // 2
        earlier_s, _ = _Play(times, transfers, half).run()
        pipeline_s += (pipeline_s - earlier_s) / (played - half) * (microbatches - played)
    busy = tuple(microbatches * (t.forward_s + t.backward_s + t.deferred_s) for t in times)
    bubble = 1.0 - sum(busy) / (len(times) * pipeline_s) if pipeline_s > 0 else 0.0
    return Timeline(
        pipeline_s=pipeline_s, bubble=max(0.0, bubble), busy_s=busy, peak_in_flight=peaks)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpan:
    """One task of one microbatch of a segment, as played: forward, backward or accumulate."""

    segment: int
    direction: str
    microbatch: int
    begin_s: float
    end_s: float


def task_spans(
    times: Sequence[SegmentTimes], transfers: Sequence[Transfer], microbatches: int
) -> tuple[TaskSpan, ...]:
    """When each task of a step runs, by begin; of the first `SIMULATED_MICROBATCHES` alone."""
    play = _Play(times, transfers, min(microbatches, SIMULATED_MICROBATCHES))
    play.run()
    return tuple(play.spans)


class _Play:
    """Event-driven simulation of one step; single use."""

    def __init__(
        self, times: Sequence[SegmentTimes], transfers: Sequence[Transfer], microbatches: int
    ) -> None:
        count = len(times)
        self._times = times
        self._microbatches = microbatches
        self._leaving: list[list[Sending]] = [[] for _ in range(count)]
        self._answering: list[list[tuple[bool, Sending]]] = [[] for _ in range(count)]
        for transfer in transfers:
            self._leaving[transfer.source].append(transfer.forward)
            self._answering[transfer.target].append((transfer.is_acknowledged, transfer.backward))
        self._lines = Lines()
        self._activations = [[0] * microbatches for _ in range(count)]
        self._gradients = [[0] * microbatches for _ in range(count)]
        self._next_forward = [0] * count
        self._next_backward = [0] * count
        self._deferred = [0] * count
        self._computing = [False] * count
        self._peak = [0] * count
        self._events: list[tuple[float, int, str, int, int]] = []
        self._sequence = 0
        self.spans: list[TaskSpan] = []

    def run(self) -> tuple[float, tuple[int, ...]]:
        """Time of the last event, and the peaks."""
        for segment in range(len(self._times)):
            self._start_next(segment, 0.0)
        now = 0.0
        while self._events:
            now, _, what, segment, microbatch = heapq.heappop(self._events)
            if what == "activation":
                self._activations[segment][microbatch] += 1
            elif what == "gradient":
                self._gradients[segment][microbatch] += 1
            else:
                self._computing[segment] = False
                self._send(what, segment, microbatch, now)
                self._deferred[segment] += (
                    what == "backward" and self._times[segment].deferred_s > 0)
            self._start_next(segment, now)
        return now, tuple(self._peak)

    def _start_next(self, segment: int, now: float) -> None:
        if self._computing[segment]:
            return
        forward, backward = self._next_forward[segment], self._next_backward[segment]
        times, deferred = self._times[segment], self._deferred[segment]
        if deferred and (
            backward == self._microbatches or deferred > DEFERRED_MICROBATCHES_MAX
        ):
            self._accumulate(segment, now)
        elif backward < forward and (
            self._gradients[segment][backward] == len(self._leaving[segment])
        ):
            self._next_backward[segment] += 1
            self._start("backward", segment, backward, now, times.backward_s)
        elif forward < self._microbatches and forward - backward < times.in_flight and (
            self._activations[segment][forward] == len(self._answering[segment])
        ):
            self._next_forward[segment] += 1
            self._peak[segment] = max(self._peak[segment], forward + 1 - backward)
            self._start("forward", segment, forward, now, times.forward_s)
        elif deferred:
            self._accumulate(segment, now)

    def _accumulate(self, segment: int, now: float) -> None:
        """The oldest deferred weight gradients."""
        oldest = self._next_backward[segment] - self._deferred[segment]
        self._deferred[segment] -= 1
        self._start("accumulate", segment, oldest, now, self._times[segment].deferred_s)

    def _start(
        self, what: str, segment: int, microbatch: int, now: float, takes_s: float
    ) -> None:
        self._computing[segment] = True
        self.spans.append(TaskSpan(
            segment=segment, direction=what, microbatch=microbatch, begin_s=now,
            end_s=now + takes_s))
        self._push(now + takes_s, what, segment, microbatch)

    def _send(self, what: str, segment: int, microbatch: int, now: float) -> None:
        if what == "accumulate":
            return
        is_forward = what == "forward"
        if is_forward:
            for sending in self._leaving[segment]:
                arrival_s = self._lines.arrival_s(sending, now)
                self._push(arrival_s, "activation", sending.target, microbatch)
        for is_acknowledged, sending in self._answering[segment]:
            if is_acknowledged == is_forward:
                arrival_s = self._lines.arrival_s(sending, now)
                self._push(arrival_s, "gradient", sending.target, microbatch)

    def _push(self, at_s: float, what: str, segment: int, microbatch: int) -> None:
        # The sequence number breaks ties the same way on every machine.
        self._sequence += 1
        heapq.heappush(self._events, (at_s, self._sequence, what, segment, microbatch))
