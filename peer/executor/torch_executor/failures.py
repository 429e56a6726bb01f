"""What torch raises, as errors of ours: out of memory, or a node that failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from homespun.errors import HomespunError
from ir.graph import Node
from peer.executor.failures import device_failure

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
    return device_failure(
        error, what, device, is_out_of_memory=_is_out_of_memory(error), **details)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        phrase in str(error) for phrase in _CPU_OUT_OF_MEMORY)
