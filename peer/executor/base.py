"""What every executor offers. An executor runs one process's segments on one device.

Tensors at this boundary are numpy arrays (`ml_dtypes.bfloat16` for bfloat16); no framework tensor
leaves its executor. Nothing here knows sockets, peers or the broker. Calls come one at a time, in
the order that `peer.core` decided: forwards of a phase in microbatch order, backwards in microbatch
order, so sums over microbatches have one order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dag.cluster import PeerRates
from dag.job import TrainingSpec
from dag.support import ANY, ExecutorSupport, Slots, grouped
from ir.graph import TRAIN, Graph
from ir.operators import OPSET
from ir.segment import Segment

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkKey:
    """Which piece of work: random draws are keyed by it.

    Attributes:
        mode: `train`; `evaluate` or `infer`: forward only, dropout off.
        step: optimizer steps done before it, >= 0.
        microbatch: number in the phase, >= 0.
    """

    mode: str
    step: int
    microbatch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentProgram:
    """Everything an executor needs to compile one segment.

    Attributes:
        graph: the whole graph (no weights); only `segment.nodes` are run.
        segment: which nodes, parameters and boundary tensors.
        training: optimizer, precision, recomputation, seed, microbatches.
        trainable: names of the parameters that the optimizer updates; none for inference.
        kind: what the job does: `train`, or `infer`: only `forward` will be called, in mode
            `infer`, and nothing need be kept for a gradient.
    """

    graph: Graph
    segment: Segment
    training: TrainingSpec
    trainable: frozenset[str]
    kind: str = TRAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardResult:
    """What a forward gives.

    Attributes:
        outputs: edge -> activation, for each outgoing boundary tensor of kind `activation`.
        loss: the microbatch's loss, where the segment has it, else None.
        results: of a program to infer: name -> value of each of `segment.results`; else empty.
    """

    outputs: Mapping[int, Array]
    loss: float | None
    results: Mapping[str, Array] = field(default_factory=dict)


class LoadedSegment(Protocol):
    """One segment, compiled, with its parameters and optimizer state on the device."""

    def forward(
        self, key: WorkKey, data: Mapping[str, Array], incoming: Mapping[int, Array]
    ) -> ForwardResult:
        """Run one microbatch forward; in `train` mode keep what backward needs.

        Args:
            key: which microbatch.
            data: data input -> rows of this microbatch.
            incoming: edge -> activation, for each incoming tensor of kind `activation`. Foreign
                parameters were set before by `set_shared`.
        """
        ...

    def backward(self, key: WorkKey, gradients: Mapping[int, Array]) -> Mapping[int, Array]:
        """Differentiate one microbatch and add to the parameters' gradients.

        The loss is seeded with `1 / microbatches`, so that the sums are means.

        Args:
            key: which microbatch; its forward was run, its kept state is freed.
            gradients: edge -> gradient of each differentiable outgoing activation, of shape
                `(contributions, *shape)` where `contributions > 1`. Contributions of all edges of
                one value are added in descending order of consumer index.

        Returns:
            edge -> gradient of each differentiable incoming activation (same shape rule).
        """
        ...

    def has_deferred(self, key: WorkKey) -> bool:
        """Whether backward left weight gradients of a microbatch for `accumulate`."""
        ...

    def accumulate(self, key: WorkKey) -> None:
        """Add the weight gradients that a microbatch's backward left for later.

        An executor may compute what a neighbour waits for first. Called in microbatch order, before
        `shared_gradients` and `squared_norms`; those must not need it (they accumulate the rest).
        """
        ...

    def set_shared(self, values: Mapping[int, Array]) -> None:
        """Set foreign parameters: edge -> value, for incoming tensors of kind `parameter`."""
        ...

    def shared_values(self) -> Mapping[int, Array]:
        """Current values of outgoing tensors of kind `parameter`, by edge."""
        ...

    def shared_gradients(self) -> Mapping[int, Array]:
        """Gradients of foreign parameters summed over the step's microbatches, by edge; clears."""
        ...

    def squared_norms(self, shared: Mapping[int, Array]) -> Mapping[str, float]:
        """Finish the step's gradients with the users' `shared` gradients and measure them.

        A parameter with several consumer nodes has one sum over microbatches per consumer; they are
        added in descending order of consumer index, wherever each ran (docs/adr/0008).

        Returns:
            parameter name -> sum of squared gradient elements (float64), trainable ones only.
        """
        ...

    def update(self, step: int, scale: float) -> None:
        """Apply the optimizer once with gradients times `scale`, then clear the gradients.

        `squared_norms` was called before it in this step.
        """
        ...

    def parameters(self) -> Mapping[str, Array]:
        """Current values of the segment's own parameters, by name."""
        ...

    def state(self) -> Mapping[str, Array]:
        """A copy of all that a step changes, named as in `peer.executor.state`.

        Called between two steps only. Together with the number of the step it is everything: a
        segment that is given it goes on with the same bits. Nothing is in it for an executor that
        only infers. Cost: linear in the bytes; the segment stands still meanwhile.
        """
        ...

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take a state that `state` of the same program and executor gave.

        Called between two steps, or before the first one. Foreign parameters are not part of it:
        they come by `set_shared`, as ever. Nothing is changed if the state is refused.

        Args:
            state: by name; copied.

        Raises:
            HomespunError: INVALID_ARGUMENT if a tensor is missing, too much, or of another type.
        """
        ...

    def close(self) -> None:
        """Free device memory. No call may follow."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What an executor can do on its device.

    Attributes:
        executor: its name (`torch`, `null`).
        device: `cpu`, `cuda:0`.
        device_name: the hardware's own name.
        memory_bytes: device memory in total.
        operators: op types that it runs.
        trainable: whether it differentiates.
        opsets: versions of the default domain that it reads.
        slots: op type -> dtypes of its slots, where they are not all that the operator allows.
    """

    executor: str
    device: str
    device_name: str
    memory_bytes: int
    operators: frozenset[str]
    trainable: bool
    opsets: range = range(OPSET, OPSET + 1)
    slots: Mapping[str, Slots] = field(default_factory=dict)

    @property
    def support(self) -> ExecutorSupport:
        """What the planner needs to know of it."""
        slots = {operator: self.slots.get(operator, ANY) for operator in self.operators}
        return ExecutorSupport(
            trainable=self.trainable, opset_min=self.opsets[0], opset_max=self.opsets[-1],
            operators=grouped(slots))


class Executor(Protocol):
    """A framework on a device."""

    @property
    def numeric_class(self) -> str:
        """Build, device kind and thread count: results are bit-identical inside one."""
        ...

    def capability(self) -> Capability:
        """Describe this executor; an executor that has to try things out takes seconds."""
        ...

    def measured_rates(self) -> PeerRates:
        """Measure the device through this framework; takes seconds (`peer.executor.rates`)."""
        ...

    def load(self, program: SegmentProgram, parameters: Mapping[str, Array]) -> LoadedSegment:
        """Compile a segment and place its parameters.

        Args:
            program: what to run.
            parameters: initial values of `segment.parameters` and of the foreign parameters
                (incoming boundary tensors of kind `parameter`, by value name).

        Raises:
            HomespunError: UNSUPPORTED_OP, INVALID_GRAPH or OUT_OF_MEMORY.
        """
        ...
