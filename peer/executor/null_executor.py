"""An executor that computes nothing: right shapes, zeros, and a count of the calls.

For simulation, and for tests of everything around an executor. It checks the order of calls as
strictly as a real one, so that a wrong driver fails here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import ml_dtypes
import numpy as np

from dag.cluster import PeerRates
from homespun.errors import Code, HomespunError
from ir.graph import INFER
from ir.operators import OPERATORS, OPSETS
from ir.segment import BoundaryKind, BoundaryTensor
from peer.executor.base import Array, Capability, ForwardResult, SegmentProgram, WorkKey
from peer.executor.state import check_state, parameter_key

_MEMORY_BYTES = 1 << 40
RATES = PeerRates(
    matmul_flops_per_s=1e12, attention_flops_per_s=1e12, memory_bytes_per_s=1e11)
"""Of a device that nobody has, about a small GPU."""


class NullExecutor:
    """Accepts every segment, on any device name."""

    numeric_class = "null"

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    def capability(self) -> Capability:
        """Every operator, much memory."""
        return Capability(
            executor="null", device=self._device, device_name="null",
            memory_bytes=_MEMORY_BYTES, operators=frozenset(OPERATORS), trainable=True,
            opsets=OPSETS)

    def measured_rates(self) -> PeerRates:
        """There is nothing to measure: rates of a machine that nobody has."""
        return RATES

    def load(self, program: SegmentProgram, parameters: Mapping[str, Array]) -> NullSegment:
        """Keep the parameters; compile nothing."""
        return NullSegment(program, parameters)


class NullSegment:
    """A segment whose results are zeros.

    Attributes:
        calls: how often each method was called, by name.
    """

    def __init__(self, program: SegmentProgram, parameters: Mapping[str, Array]) -> None:
        segment = program.segment
        missing = [name for name in segment.parameters if name not in parameters]
        if missing:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"Parameter '{missing[0]}' was not given.",
                parameter=missing[0])
        self.calls: Counter[str] = Counter()
        self._program, self._segment = program, segment
        self._values = {name: parameters[name].copy() for name in segment.parameters}
        self._kept: set[WorkKey] = set()
        self._is_finished = False

    def forward(
        self, key: WorkKey, data: Mapping[str, Array], incoming: Mapping[int, Array]
    ) -> ForwardResult:
        """Zeros for every outgoing activation and result; a loss of 0 where the segment has it."""
        self.calls["forward"] += 1
        segment = self._segment
        lacking = [name for name in segment.data_inputs if name not in data]
        lacking += [f"edge {t.edge}" for t in _activations(segment.incoming)
                    if t.edge not in incoming]
        if lacking:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"Segment {segment.index} got no {lacking[0]}.")
        if key.mode == "train":
            self._kept.add(key)
        outputs = {t.edge: _zeros(t.type.shape, t.type.dtype)
                   for t in _activations(segment.outgoing)}
        is_inference = self._program.kind == INFER
        results = {r.name: _zeros(r.type.shape, r.type.dtype)
                   for r in segment.results} if is_inference else {}
        return ForwardResult(
            outputs=outputs, loss=0.0 if segment.has_loss else None, results=results)

    def backward(self, key: WorkKey, gradients: Mapping[int, Array]) -> Mapping[int, Array]:
        """Zeros for every differentiable incoming activation."""
        self.calls["backward"] += 1
        if key not in self._kept:
            raise HomespunError(
                Code.CONFLICT,
                f"Segment {self._segment.index} has no forward of step {key.step}, microbatch "
                f"{key.microbatch} to differentiate.", segment=self._segment.index)
        self._kept.remove(key)
        _demand(_activations(self._segment.outgoing), gradients)
        return {t.edge: _frame(t) for t in _activations(self._segment.incoming)
                if t.differentiable}

    def has_deferred(self, key: WorkKey) -> bool:
        """Nothing is ever left for later."""
        return False

    def accumulate(self, key: WorkKey) -> None:
        """Nothing to add."""
        self.calls["accumulate"] += 1

    def set_shared(self, values: Mapping[int, Array]) -> None:
        """Accept foreign parameters."""
        self.calls["set_shared"] += 1

    def shared_values(self) -> Mapping[int, Array]:
        """Copies of the parameters that other segments use."""
        self.calls["shared_values"] += 1
        return {t.edge: self._values[t.value].copy() for t in _parameters(self._segment.outgoing)}

    def shared_gradients(self) -> Mapping[int, Array]:
        """Zeros for every foreign trainable parameter."""
        self.calls["shared_gradients"] += 1
        return {t.edge: _frame(t) for t in _parameters(self._segment.incoming)
                if t.differentiable}

    def squared_norms(self, shared: Mapping[int, Array]) -> Mapping[str, float]:
        """0 for every trainable parameter."""
        self.calls["squared_norms"] += 1
        _demand(_parameters(self._segment.outgoing), shared)
        self._is_finished = True
        return {name: 0.0 for name in self._segment.parameters if name in self._program.trainable}

    def update(self, step: int, scale: float) -> None:
        """Leave the parameters as they are."""
        self.calls["update"] += 1
        if not self._is_finished:
            raise HomespunError(
                Code.INTERNAL, "update was called without squared_norms in this step.",
                segment=self._segment.index)
        self._is_finished = False

    def parameters(self) -> Mapping[str, Array]:
        """Copies of the parameters that were given."""
        self.calls["parameters"] += 1
        return {name: value.copy() for name, value in self._values.items()}

    def state(self) -> Mapping[str, Array]:
        """Copies of the parameters; nothing else is kept between steps."""
        self.calls["state"] += 1
        self._check_between_steps()
        return {parameter_key(name): value.copy() for name, value in self._values.items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take parameters from a state."""
        self.calls["restore"] += 1
        self._check_between_steps()
        types = self._program.graph.types
        check_state(state, {name: types[name] for name in self._values}, {})
        self._values = {name: state[parameter_key(name)].copy() for name in self._values}

    def close(self) -> None:
        """Forget everything."""
        self.calls["close"] += 1
        self._values.clear()
        self._kept.clear()

    def _check_between_steps(self) -> None:
        if self._kept or self._is_finished:
            raise HomespunError(
                Code.INTERNAL, "the state of a segment was asked for inside a step.",
                segment=self._segment.index)


def _activations(tensors: tuple[BoundaryTensor, ...]) -> list[BoundaryTensor]:
    return [tensor for tensor in tensors if tensor.kind == BoundaryKind.ACTIVATION]


def _parameters(tensors: tuple[BoundaryTensor, ...]) -> list[BoundaryTensor]:
    return [tensor for tensor in tensors if tensor.kind == BoundaryKind.PARAMETER]


def _demand(tensors: list[BoundaryTensor], given: Mapping[int, Array]) -> None:
    for tensor in tensors:
        if tensor.differentiable and tensor.edge not in given:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"Nothing was given for boundary tensor {tensor.edge} ('{tensor.value}').",
                edge=tensor.edge)


def _frame(tensor: BoundaryTensor) -> Array:
    shape = tensor.type.shape
    leading = () if tensor.contributions == 1 else (tensor.contributions,)
    return _zeros((*leading, *shape), tensor.type.dtype)


def _zeros(shape: tuple[int, ...], dtype: str) -> Array:
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    return np.zeros(shape, dtype=kind)
