"""Calls of the operator's service; errors come out as `HomespunError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker.cli.place import CALL_TIMEOUT_S, operator_channel


def call_operator(directory: Path | None, method: str, request: Any) -> Any:
    """Call a method of `OperatorService` that gives one answer."""
    with _service(directory) as stub:
        return getattr(stub, method)(request, timeout=CALL_TIMEOUT_S)


def stream_operator(directory: Path | None, method: str, request: Any) -> list[Any]:
    """Call a method of `OperatorService` that answers in parts; all of them."""
    with _service(directory) as stub:
        return list(getattr(stub, method)(request, timeout=CALL_TIMEOUT_S))


@contextmanager
def _service(directory: Path | None) -> Iterator[Any]:
    import grpc

    from homespun.rpc_errors import error_of
    from homespun.v1 import operator_pb2_grpc

    with operator_channel(directory) as channel:
        try:
            yield operator_pb2_grpc.OperatorServiceStub(channel)
        except grpc.RpcError as error:
            raise error_of(error, "the broker") from None
