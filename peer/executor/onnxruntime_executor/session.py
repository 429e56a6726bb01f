"""One inference session over a checked graph: numpy arrays in, numpy arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime as ort

from ir.graph import Graph, TensorType
from ir.serde import dump
from ir.tensor_proto import ELEMENT_TYPES, numpy_dtype
from peer.executor.base import Array


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how sessions compute.

    Attributes:
        device: `cpu` or `cuda:N`.
        threads: threads of one operator, >= 1.
        memory_bytes: of a GPU that a session may take at most; 0 for all of it.
    """

    device: str
    threads: int
    memory_bytes: int = 0

    def providers(self) -> list[str | tuple[str, dict[str, str]]]:
        """Execution providers, the device's own first."""
        if self.device == "cpu":
            return ["CPUExecutionProvider"]
        number = self.device.partition(":")[2]
        options = {"device_id": number, "use_tf32": "0"}
        if self.memory_bytes:
            options["gpu_mem_limit"] = str(self.memory_bytes)
        return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]

    def options(self) -> ort.SessionOptions:
        """Options of a session: reproducible, and quiet when it waits."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        # Threads that spin while they wait take the processor from everybody else's.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


class Session:
    """A graph, compiled. Calls come one at a time."""

    def __init__(self, graph: Graph, parameters: Mapping[str, Array], place: Place) -> None:
        """Compile.

        Args:
            graph: in inference form; `ir.check` has passed the graph that it is a part of.
            parameters: value of each of `graph.parameters`. Arrays are used where they are, not
                copied, where the device is the CPU.
            place: where to compute.

        Raises:
            Exception: whatever the runtime raises; see `failures`.
        """
        self._graph = graph
        options = place.options()
        # The runtime reads them where they lie: it must not outlive them.
        self._arrays = [_row_major(parameters[name]) for name in graph.parameters]
        options.add_external_initializers(list(graph.parameters), [
            ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
                array, ELEMENT_TYPES[array.dtype.name]) for array in self._arrays])
        self._session = ort.InferenceSession(
            _model(graph), options, providers=place.providers())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once.

        Args:
            inputs: value of each graph input, of the type that the graph says.

        Returns:
            Value of each graph output, each array new.
        """
        binding = self._session.io_binding()
        held = {name: _row_major(inputs[name]) for name in self._graph.inputs}
        for name, array in held.items():
            binding.bind_input(name, *_bound(array, self._graph.types[name]))
        results = {name: _empty(self._graph.types[name]) for name in self._graph.outputs}
        for name, array in results.items():
            binding.bind_output(name, *_bound(array, self._graph.types[name]))
        self._session.run_with_iobinding(binding)
        return results


def _row_major(array: Array) -> Array:
    """`np.ascontiguousarray` would give a scalar an axis."""
    return np.require(array, requirements="C")


def _bound(array: Array, kind: TensorType) -> tuple[str, int, int, tuple[int, ...], int]:
    """Device, its number, element type, shape and address, as a binding takes them."""
    if (array.dtype.name, array.shape) != (kind.dtype, kind.shape):
        raise ValueError(f"{array.dtype.name}{list(array.shape)} was given; the graph says "
                         f"{kind.dtype}{list(kind.shape)}")
    return "cpu", 0, ELEMENT_TYPES[kind.dtype], kind.shape, array.ctypes.data


def _empty(kind: TensorType) -> Array:
    return np.empty(kind.shape, numpy_dtype(kind.dtype))


def _model(graph: Graph) -> bytes:
    """The graph as ONNX, its parameters as initializers whose values the session was handed.

    They are declared as lying elsewhere, which keeps the model small however large they are. The
    place that is named is never opened.
    """
    model = onnx.ModelProto.FromString(dump(replace(graph, parameters=())))
    for name in graph.parameters:
        kind = graph.types[name]
        tensor = model.graph.initializer.add(
            name=name, dims=kind.shape, data_type=ELEMENT_TYPES[kind.dtype],
            data_location=onnx.TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="given")
    data: bytes = model.SerializeToString()
    return data
