"""One segment in ONNX Runtime: forward only (`peer.executor.base.LoadedSegment`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from homespun.errors import Code, HomespunError
from ir.graph import INFER
from ir.segment import BoundaryKind
from peer.executor.base import Array, ForwardResult, SegmentProgram, WorkKey
from peer.executor.onnxruntime_executor.failures import failures
from peer.executor.onnxruntime_executor.inference_form import inference_graph
from peer.executor.onnxruntime_executor.session import Place, Session
from peer.executor.state import check_state


class OnnxRuntimeSegment:
    """A loaded segment. Calls come one at a time, from one thread."""

    def __init__(
        self, program: SegmentProgram, parameters: Mapping[str, Array], place: Place
    ) -> None:
        """Compile; see the protocol.

        Raises:
            HomespunError: UNSUPPORTED_OP with the node's name, OUT_OF_MEMORY, or INVALID_ARGUMENT
                for a parameter that was not given.
        """
        segment, graph = program.segment, program.graph
        self._segment, self._place = segment, place
        self._arriving = {t.edge: t.value for t in segment.incoming
                          if t.kind == BoundaryKind.ACTIVATION}
        self._leaving = {t.edge: t.value for t in segment.outgoing
                         if t.kind == BoundaryKind.ACTIVATION}
        self._results = [r.name for r in segment.results] if program.kind == INFER else []
        self._loss = graph.outputs[0] if segment.has_loss else None
        form = inference_graph(graph, segment)
        missing = [name for name in form.parameters if name not in parameters]
        if missing:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"Parameter '{missing[0]}' was not given.",
                parameter=missing[0])
        self._parameters = {name: parameters[name] for name in form.parameters}
        with failures(f"Loading segment {segment.index}", place.device):
            self._session: Session | None = Session(form, self._parameters, place)

    def forward(
        self, key: WorkKey, data: Mapping[str, Array], incoming: Mapping[int, Array]
    ) -> ForwardResult:
        """Run one microbatch forward, dropout off; see the protocol."""
        if key.mode == "train":
            self._refuse()
        assert self._session is not None, "the segment is closed"
        inputs = {**data, **{self._arriving[edge]: value for edge, value in incoming.items()}}
        with failures(f"Forward of segment {self._segment.index}", self._place.device):
            values = self._session.run(inputs)
        return ForwardResult(
            outputs={edge: values[name] for edge, name in self._leaving.items()},
            loss=None if self._loss is None else float(values[self._loss]),
            results={name: values[name] for name in self._results})

    def backward(self, key: WorkKey, gradients: Mapping[int, Array]) -> Mapping[int, Array]:
        """Refused: this executor does not differentiate."""
        self._refuse()

    def has_deferred(self, key: WorkKey) -> bool:
        """Nothing is ever left for later."""
        return False

    def accumulate(self, key: WorkKey) -> None:
        """Refused."""
        self._refuse()

    def set_shared(self, values: Mapping[int, Array]) -> None:
        """Refused: parameters change only in training."""
        self._refuse()

    def shared_values(self) -> Mapping[int, Array]:
        """Copies of the own parameters that other segments use, by edge."""
        return {t.edge: self._parameters[t.value].copy() for t in self._segment.outgoing
                if t.kind == BoundaryKind.PARAMETER}

    def shared_gradients(self) -> Mapping[int, Array]:
        """Refused."""
        self._refuse()

    def squared_norms(self, shared: Mapping[int, Array]) -> Mapping[str, float]:
        """Refused."""
        self._refuse()

    def update(self, step: int, scale: float) -> None:
        """Refused."""
        self._refuse()

    def parameters(self) -> Mapping[str, Array]:
        """Copies of the segment's own parameters, as they were given."""
        return {name: self._parameters[name].copy() for name in self._segment.parameters}

    def state(self) -> Mapping[str, Array]:
        """Nothing: parameters change only in training."""
        return {}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take a state that has nothing in it."""
        check_state(state, {}, {})

    def close(self) -> None:
        """Free the session."""
        self._session = None
        self._parameters = {}

    def _refuse(self) -> NoReturn:
        raise HomespunError(
            Code.CONFLICT,
            f"Segment {self._segment.index} is on an executor that does not train "
            "(onnxruntime): the planner gives it inference only.", segment=self._segment.index)
