"""One call of the operator's service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from broker.cli.place import CALL_TIMEOUT_S, operator_channel


def call_operator(directory: Path | None, method: str, request: Any) -> Any:
    """Call a method of `OperatorService`; errors come out as `HomespunError`."""
    import grpc

    from homespun.rpc_errors import error_of
    from homespun.v1 import operator_pb2_grpc

    with operator_channel(directory) as channel:
        stub = operator_pb2_grpc.OperatorServiceStub(channel)
        try:
            return getattr(stub, method)(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            raise error_of(error, "the broker") from None
