"""Executors by name. A framework is imported only when its executor is asked for."""

from __future__ import annotations

from homespun.errors import Code, HomespunError
from peer.executor.base import Executor

NAMES = ("torch", "null")


def create(name: str, device: str, threads: int) -> Executor:
    """Make an executor.

    Args:
        name: one of `NAMES`.
        device: `cpu` or `cuda:<index>`; `null` accepts any.
        threads: compute threads of this process, >= 1.

    Raises:
        HomespunError: BAD_CONFIGURATION if name, device or threads are not usable.
    """
    if name == "null":
        from peer.executor.null_executor import NullExecutor

        return NullExecutor(device)
    if name == "torch":
        from peer.executor.torch_executor import TorchExecutor

        return TorchExecutor(device, threads)
    raise HomespunError(
        Code.BAD_CONFIGURATION,
        f"Unknown executor '{name}'; use one of {', '.join(NAMES)}.", executor=name)
