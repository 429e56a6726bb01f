"""Executors by name. A framework is imported only when its executor is asked for."""

from __future__ import annotations

from peer.executor.base import Executor
from peer.executor.installed import check_installed, pace_asked_for


def create(name: str, device: str, threads: int, memory_bytes: int = 0) -> Executor:
    """Make an executor.

    Args:
        name: one of `peer.executor.installed.NAMES`.
        device: `cpu` or `cuda:<index>`; `null` accepts any.
        threads: compute threads of this process, >= 1.
        memory_bytes: of a GPU that may be taken at most; 0 for all of it. JAX is told by its
            environment (`peer.executor_process`).

    Raises:
        HomespunError: BAD_CONFIGURATION if name, device or threads are not usable, or the
            framework is not installed.
    """
    check_installed(name)
    if name == "null":
        from peer.executor.null_executor import NullExecutor
        from peer.executor.paced import PacedExecutor

        pace = pace_asked_for()
        return NullExecutor(device) if pace is None else PacedExecutor(device, pace)
    if name == "onnxruntime":
        from peer.executor.onnxruntime_executor import OnnxRuntimeExecutor

        return OnnxRuntimeExecutor(device, threads, memory_bytes)
    if name == "jax":
        from peer.executor.jax_executor import JaxExecutor

        return JaxExecutor(device, threads)
    from peer.executor.torch_executor import TorchExecutor

    return TorchExecutor(device, threads, memory_bytes)
