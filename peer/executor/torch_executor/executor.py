"""The torch executor: a device, and how segments are loaded onto it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import psutil
import torch

from dag.cluster import PeerRates
from homespun.errors import Code, HomespunError
from ir.operators import OPSETS
from peer.devices import device_name
from peer.executor.base import Array, Capability, SegmentProgram
from peer.executor.overheads import measured_overheads
from peer.executor.torch_executor.dtype_gaps import narrower_slots
from peer.executor.torch_executor.failures import failures
from peer.executor.torch_executor.fusion import FUSED_OPERATORS
from peer.executor.torch_executor.implementations import IMPLEMENTATIONS
from peer.executor.torch_executor.rates import torch_rates
from peer.executor.torch_executor.segment import TorchSegment


class TorchExecutor:
    """PyTorch on one device of this process."""

    def __init__(self, device: str, threads: int, memory_bytes: int = 0) -> None:
        """Set the process up for reproducible work on the device.

        Args:
            device: `cpu`, `cuda` or `cuda:<index>`.
            threads: compute threads of the process, >= 1.
            memory_bytes: of a GPU that torch may take at most; 0 for all of it.

        Raises:
            HomespunError: BAD_CONFIGURATION if the device is unknown or absent, or `threads` < 1.
        """
        if threads < 1:
            raise _bad(f"An executor needs at least 1 thread, not {threads}.", threads=threads)
        self._device, self._threads = _opened(device), threads
        torch.set_num_threads(threads)
        torch.backends.opt_einsum.enabled = False  # its choice of path depends on what is installed
        if self._device.type == "cuda":
            _be_deterministic()
            _bound_memory(self._device, memory_bytes)

    @property
    def numeric_class(self) -> str:
        """Build, device and threads."""
        name, _ = _hardware(self._device)
        return (f"torch {torch.__version__}, {self._device.type} {name}, "
                f"{_kernels(self._device)}, {self._threads} threads")

    def capability(self) -> Capability:
        """Describe the device."""
        name, memory_bytes = _hardware(self._device)
        return Capability(
            executor="torch", device=str(self._device), device_name=name,
            memory_bytes=memory_bytes, trainable=True,
            operators=frozenset(IMPLEMENTATIONS) - FUSED_OPERATORS,
            opsets=OPSETS, slots=narrower_slots())

    def measured_rates(self) -> PeerRates:
        """Measure the device through torch."""
        return torch_rates(self._device, measured_overheads(self))

    def load(self, program: SegmentProgram, parameters: Mapping[str, Array]) -> TorchSegment:
        """Compile a segment and place its parameters; see the protocol."""
        with failures(f"Loading segment {program.segment.index}", self._device):
            return TorchSegment(program, parameters, self._device)


def _bound_memory(device: torch.device, memory_bytes: int) -> None:
    """From now on torch's allocator is out of memory at so many bytes."""
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    if 0 < memory_bytes < total_bytes:
        torch.cuda.set_per_process_memory_fraction(memory_bytes / total_bytes, device)


def _opened(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _bad(f"'{name}' is no device; use cpu or cuda:<index>.", device=name) from error
    if device.type not in ("cpu", "cuda"):
        raise _bad(f"Device '{name}' is not supported; use cpu or cuda:<index>.", device=name)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise _bad(f"Device '{name}' is absent: this machine shows {count} CUDA devices.",
                       device=name, devices=count)
        return torch.device("cuda", device.index or 0)
    return device


def _be_deterministic() -> None:
    """Choose CUDA kernels whose result does not depend on timing.

    An operator that has none raises when it runs, and its node is named.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory would cost bandwidth; no implementation here reads it unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def _hardware(device: torch.device) -> tuple[str, int]:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return properties.name, properties.total_memory
    return device_name("cpu"), psutil.virtual_memory().total


def _kernels(device: torch.device) -> str:
    if device.type == "cuda":
        return f"CUDA {torch.version.cuda}"
    return torch.backends.cpu.get_cpu_capability()


def _bad(message: str, **details: object) -> HomespunError:
    return HomespunError(Code.BAD_CONFIGURATION, message, **details)
