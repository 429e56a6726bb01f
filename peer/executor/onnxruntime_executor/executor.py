"""The ONNX Runtime executor: a device, and how segments are loaded onto it."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime as ort
import psutil

from dag.cluster import PeerRates
from homespun.errors import Code, HomespunError
from peer.devices import device_memory_bytes, device_name
from peer.executor.base import Array, Capability, SegmentProgram
from peer.executor.onnxruntime_executor.probe import probed_slots, readable_opsets
from peer.executor.onnxruntime_executor.rates import onnxruntime_rates
from peer.executor.onnxruntime_executor.segment import OnnxRuntimeSegment
from peer.executor.onnxruntime_executor.session import Place
from peer.executor.overheads import measured_overheads


class OnnxRuntimeExecutor:
    """ONNX Runtime on one device of this process; inference only (docs/adr/0014)."""

    def __init__(self, device: str, threads: int, memory_bytes: int = 0) -> None:
        """Choose the device.

        Args:
            device: `cpu`, `cuda` or `cuda:<index>`.
            threads: threads of one operator, >= 1.
            memory_bytes: of a GPU that a session may take at most; 0 for all of it.

        Raises:
            HomespunError: BAD_CONFIGURATION if the device is unknown, or this build of the runtime
                cannot use it, or `threads` < 1.
        """
        if threads < 1:
            raise _bad(f"An executor needs at least 1 thread, not {threads}.", threads=threads)
        self._place = Place(_checked(device), threads, memory_bytes)
        ort.disable_telemetry_events()

    @property
    def numeric_class(self) -> str:
        """Build, device and threads."""
        place = self._place
        return (f"onnxruntime {ort.__version__}, {place.device.partition(':')[0]} "
                f"{device_name(place.device)}, {place.threads} threads")

    def capability(self) -> Capability:
        """Describe the device, and try out which operators this build runs; takes seconds."""
        slots = probed_slots(self._place)
        memory_bytes = (
            psutil.virtual_memory().total if self._place.device == "cpu"
            else device_memory_bytes(self._place.device))
        return Capability(
            executor="onnxruntime", device=self._place.device,
            device_name=device_name(self._place.device), memory_bytes=memory_bytes,
            trainable=False, operators=frozenset(slots), slots=slots,
            opsets=readable_opsets(self._place, slots))

    def measured_rates(self) -> PeerRates:
        """Measure the device through ONNX Runtime."""
        return onnxruntime_rates(
            self._place, measured_overheads(self, trainable=False))

    def load(
        self, program: SegmentProgram, parameters: Mapping[str, Array]
    ) -> OnnxRuntimeSegment:
        """Compile a segment; see the protocol."""
        return OnnxRuntimeSegment(program, parameters, self._place)


def _checked(device: str) -> str:
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise _bad(f"Device '{device[:40]}' is not supported; use cpu or cuda:<index>.",
                   device=device[:40])
    if kind == "cpu":
        return "cpu"
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise _bad(
            f"Device '{device}' needs a build of ONNX Runtime with CUDA; this one has "
            f"{', '.join(ort.get_available_providers())}. Install onnxruntime-gpu.", device=device)
    return f"cuda:{number or 0}"


def _bad(message: str, **details: object) -> HomespunError:
    return HomespunError(Code.BAD_CONFIGURATION, message, **details)
