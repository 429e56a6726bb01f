"""What JAX and XLA raise, as errors of ours: out of memory, or a node that failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from homespun.errors import HomespunError
from ir.graph import Node
from peer.executor.failures import device_failure

_RAISED = (
    RuntimeError, ValueError, IndexError, TypeError, MemoryError, AssertionError, OverflowError,
    AttributeError)
_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "exceeds the maximum")


@contextmanager
def node_failures(node: Node) -> Iterator[None]:
    """Name the node in whatever tracing or folding it raises."""
    with failures(f"Node '{node.name}' ({node.op_type})", "cpu", node=node.name,
                  op_type=node.op_type):
        yield


@contextmanager
def failures(what: str, device: object, **details: object) -> Iterator[None]:
    """Turn errors inside the block into ours; `what` names the work, for the message."""
    try:
        yield
    except HomespunError:
        raise
    except _RAISED as error:
        is_full = isinstance(error, MemoryError) or any(
            phrase in str(error) for phrase in _OUT_OF_MEMORY)
        raise device_failure(
            error, what, device, is_out_of_memory=is_full, **details) from error
