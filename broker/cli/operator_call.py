"""Calls of the broker's services as its operator; errors come out as `HomespunError`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker.cli.place import CALL_TIMEOUT_S, operator_channel


def call_operator(directory: Path | None, method: str, request: Any) -> Any:
    """Call a method of `OperatorService` that gives one answer."""
    from homespun.v1 import operator_pb2_grpc

    with _service(directory, operator_pb2_grpc.OperatorServiceStub) as stub:
        return getattr(stub, method)(request, timeout=CALL_TIMEOUT_S)


def call_jobs(directory: Path | None, method: str, request: Any) -> Any:
    """Call a method of `JobService` that gives one answer."""
    from homespun.v1 import jobs_pb2_grpc

    with _service(directory, jobs_pb2_grpc.JobServiceStub) as stub:
        return getattr(stub, method)(request, timeout=CALL_TIMEOUT_S)


def stream_operator(
    directory: Path | None, method: str, request: Any, *, timeout_s: float | None = CALL_TIMEOUT_S
) -> Iterator[Any]:
    """Call a method of `OperatorService` that answers in parts, which come as they are sent.

    `timeout_s`: for all of it; None where the caller ends the call.
    """
    from homespun.v1 import operator_pb2_grpc

    with _service(directory, operator_pb2_grpc.OperatorServiceStub) as stub:
        yield from getattr(stub, method)(request, timeout=timeout_s)


@contextmanager
def ask(
    directory: Path | None, service: Callable[[Any], Any], timeout_s: float
) -> Iterator[Callable[[str, Any], Any]]:
    """`ask(method, request)` for several calls of one service over one connection."""
    with _service(directory, service) as stub:
        yield lambda method, request: getattr(stub, method)(request, timeout=timeout_s)


@contextmanager
def _service(directory: Path | None, service: Callable[[Any], Any]) -> Iterator[Any]:
    import grpc

    from homespun.rpc_errors import error_of

    with operator_channel(directory) as channel:
        try:
            yield service(channel)
        except grpc.RpcError as error:
            raise error_of(error, "the broker") from None
