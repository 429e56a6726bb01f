"""What torch raises, as errors of ours: out of memory, or a node that failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from homespun.errors import Code, HomespunError
from ir.graph import Node

_CPU_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


def node_failure(error: Exception, node: Node, device: torch.device) -> HomespunError:
    """The error to raise when `node` failed with `error`."""
    return _failure(error, f"Node '{node.name}' ({node.op_type})", device,
                    node=node.name, op_type=node.op_type)


@contextmanager
def failures(what: str, device: torch.device) -> Iterator[None]:
    """Turn torch's errors inside the block into ours; `what` names the work, for the message."""
    try:
        yield
    except HomespunError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError, MemoryError, AssertionError) as error:
        raise _failure(error, what, device) from error


def _failure(
    error: Exception, what: str, device: torch.device, **details: object
) -> HomespunError:
    text = str(error).strip().split("\n")[0][:300] or type(error).__name__
    if _is_out_of_memory(error):
        return HomespunError(
            Code.OUT_OF_MEMORY, f"{what} needs more memory than {device} has left: {text}.",
            device=device, reason=text, **details)
    return HomespunError(
        Code.EXECUTOR_FAILED, f"{what} failed on {device}: {text}.",
        device=device, reason=text, **details)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        phrase in str(error) for phrase in _CPU_OUT_OF_MEMORY)
