"""What ONNX Runtime raises, as errors of ours: a node that is not run, memory, anything else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from onnxruntime.capi import onnxruntime_pybind11_state as states

from homespun.errors import Code, HomespunError

_ERRORS = tuple(
    kind for kind in vars(states).values()
    if isinstance(kind, type) and issubclass(kind, Exception))
_NODE = re.compile(r"node with name '([^']*)'|Name:'([^']*)'|in node \(([^)]*)\)")
_OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate memory", "BFCArena", "out of memory")


@contextmanager
def failures(what: str, device: str) -> Iterator[None]:
    """Turn the runtime's errors inside the block into ours; `what` names the work."""
    try:
        yield
    except HomespunError:
        raise
    except (*_ERRORS, RuntimeError, ValueError, MemoryError) as error:
        raise _failure(error, what, device) from error


def _failure(error: Exception, what: str, device: str) -> HomespunError:
    text = " ".join(str(error).split())[:500] or type(error).__name__
    found = _NODE.search(str(error))
    node = next(filter(None, found.groups()), "") if found else ""
    where = f", at node '{node}'" if node else ""
    if isinstance(error, states.NotImplemented | states.InvalidGraph):
        return HomespunError(
            Code.UNSUPPORTED_OP, f"{what}: ONNX Runtime does not run it{where}: {text}.", node=node)
    if isinstance(error, MemoryError) or any(phrase in text for phrase in _OUT_OF_MEMORY):
        return HomespunError(
            Code.OUT_OF_MEMORY, f"{what} needs more memory than {device} has left{where}: {text}.",
            device=device, node=node)
    return HomespunError(
        Code.EXECUTOR_FAILED, f"{what} failed on {device}{where}: {text}.", device=device,
        node=node)
