"""The JAX executor: a device, and how segments are loaded onto it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import jax
import psutil

from dag.cluster import PeerRates
from homespun.errors import Code, HomespunError
from ir.operators import OPERATORS, OPSETS
from peer.devices import device_name
from peer.executor.base import Array, Capability, SegmentProgram
from peer.executor.jax_executor.implementations import IMPLEMENTATIONS
from peer.executor.jax_executor.rates import jax_rates
from peer.executor.jax_executor.segment import JaxSegment
from peer.executor.overheads import measured_overheads


class JaxExecutor:
    """JAX on one device of this process.

    Its settings (64-bit types, exact float32 products) hold while it works, and for nothing else in
    the process. Flags of XLA, which are the process's, are set before XLA starts.
    """

    def __init__(self, device: str, threads: int) -> None:
        """Choose a device.

        Args:
            device: `cpu`, `cuda` or `cuda:<index>`.
            threads: compute threads of the process, >= 1.

        Raises:
            HomespunError: BAD_CONFIGURATION if the device is unknown or absent, or `threads` < 1.
        """
        if threads < 1:
            raise _bad(f"An executor needs at least 1 thread, not {threads}.", threads=threads)
        kind, _, index = device.partition(":")
        if kind not in ("cpu", "cuda") or not (index or "0").isdecimal():
            raise _bad(f"'{device}' is no device of JAX; use cpu or cuda:<index>.", device=device)
        self._name = device if kind == "cpu" else f"cuda:{int(index or 0)}"
        self._threads = threads
        _set_flags(kind, threads)
        self._device = _opened(kind, int(index or 0))

    @property
    def numeric_class(self) -> str:
        """Build, device and threads; and that a cut may change bits (docs/adr/0017)."""
        name, _ = _hardware(self._device)
        return (f"jax {jax.__version__}, {self._device.platform} {name}, {self._threads} threads, "
                "compiled per segment")

    def capability(self) -> Capability:
        """Describe the device."""
        name, memory_bytes = _hardware(self._device)
        return Capability(
            executor="jax", device=self._name, device_name=name, memory_bytes=memory_bytes,
            trainable=True, operators=frozenset(IMPLEMENTATIONS) & frozenset(OPERATORS),
            opsets=OPSETS)

    def measured_rates(self) -> PeerRates:
        """Measure the device through JAX."""
        return jax_rates(self._device, measured_overheads(self))

    def load(self, program: SegmentProgram, parameters: Mapping[str, Array]) -> JaxSegment:
        """Compile a segment and place its parameters; see the protocol."""
        return JaxSegment(program, parameters, self._device)


def _set_flags(kind: str, threads: int) -> None:
    """Flags that XLA reads when it starts: threads, kernels that do not depend on timing, memory.

    In a process where XLA runs already they change nothing.
    """
    flags = []
    if kind == "cpu":
        os.environ["PJRT_NPROC"] = str(threads)
        flags.append(f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}")
    else:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        flags.append("--xla_gpu_deterministic_ops=true")
    given = os.environ.get("XLA_FLAGS", "").split()
    os.environ["XLA_FLAGS"] = " ".join([*given, *(f for f in flags if f not in given)])


def _opened(kind: str, index: int) -> jax.Device:
    try:
        devices = jax.devices(kind)
    except RuntimeError as error:
        raise _bad(f"JAX finds no {kind} device here: {str(error)[:200]}.", device=kind) from error
    if index >= len(devices):
        raise _bad(f"Device '{kind}:{index}' is absent: JAX shows {len(devices)} of them.",
                   device=f"{kind}:{index}", devices=len(devices))
    return devices[index]


def _hardware(device: jax.Device) -> tuple[str, int]:
    if device.platform == "cpu":
        return device_name("cpu"), psutil.virtual_memory().total
    statistics = device.memory_stats() or {}
    return device.device_kind, int(statistics.get("bytes_limit", 0))


def _bad(message: str, **details: object) -> HomespunError:
    return HomespunError(Code.BAD_CONFIGURATION, message, **details)
