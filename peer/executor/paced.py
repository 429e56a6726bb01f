"""A device that takes its time without using a core: for measuring the daemon around an executor.

Results are those of the null executor, and each task lasts as long as the planner says that it
lasts on a device with the stated rates: the process sleeps. So one machine can play a fleet of
many, unequal devices whose links, daemons and schedule are real, and whose compute times are known
exactly. What it cannot show is whether the planner knows how long computing takes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dag.cluster import PeerRates
from dag.cost import graph_costs, node_seconds, segment_memory, segment_seconds, update_seconds
from peer.executor.base import Array, ForwardResult, SegmentProgram, WorkKey
from peer.executor.null_executor import RATES, NullExecutor, NullSegment


def rates_at(pace: float) -> PeerRates:
    """Rates of a device of that pace."""
    return PeerRates(
        matmul_flops_per_s=pace * RATES.matmul_flops_per_s,
        attention_flops_per_s=pace * RATES.attention_flops_per_s,
        memory_bytes_per_s=pace * RATES.memory_bytes_per_s)


class PacedExecutor(NullExecutor):
    """A null executor whose segments take time."""

    def __init__(self, device: str, pace: float) -> None:
        """Be so fast, as a share of the null executor's rates; above 0."""
        super().__init__(device)
        self._rates = rates_at(pace)

    def measured_rates(self) -> PeerRates:
        """Those that were stated."""
        return self._rates

    def load(self, program: SegmentProgram, parameters: Mapping[str, Array]) -> PacedSegment:
        """Keep the parameters; compile nothing."""
        return PacedSegment(program, parameters, self._rates)


class PacedSegment(NullSegment):
    """A null segment whose forward, backward and update last as long as the planner says."""

    def __init__(
        self, program: SegmentProgram, parameters: Mapping[str, Array], rates: PeerRates
    ) -> None:
        """Work out the times. Cost: O(nodes + edges)."""
        super().__init__(program, parameters)
        costs = graph_costs(program.graph, program.trainable, program.kind)
        training = program.training
        seconds = node_seconds(costs, rates, training.recompute, training.precision)
        self._forward_s, self._backward_s = segment_seconds(program.segment, seconds)
        memory = segment_memory(costs, program.segment, training)
        self._update_s = update_seconds(memory, rates)

    def forward(
        self, key: WorkKey, data: Mapping[str, Array], incoming: Mapping[int, Array]
    ) -> ForwardResult:
        """As of a null segment, in the predicted time."""
        with _lasting(self._forward_s):
            return super().forward(key, data, incoming)

    def backward(self, key: WorkKey, gradients: Mapping[int, Array]) -> Mapping[int, Array]:
        """As of a null segment, in the predicted time."""
        with _lasting(self._backward_s):
            return super().backward(key, gradients)

    def update(self, step: int, scale: float) -> None:
        """As of a null segment, in the predicted time."""
        with _lasting(self._update_s):
            super().update(step, scale)


@contextmanager
def _lasting(duration_s: float) -> Iterator[None]:
    """Let a block take so long, its own work included."""
    end_s = time.perf_counter() + duration_s
    yield
    time.sleep(max(0.0, end_s - time.perf_counter()))
