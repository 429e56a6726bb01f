"""A `HomespunError` on its way through gRPC: the same code, message and details at both ends.

The status of the call is the one that `CATALOG` names, so that foreign clients understand it; the
error itself travels as JSON in the trailing metadata, bounded on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from homespun.errors import CATALOG, Code, HomespunError

if TYPE_CHECKING:
    import grpc

METADATA_KEY = "homespun-error-bin"
MAX_MESSAGE_CHARACTERS = 1_000
MAX_DETAILS = 16
MAX_DETAIL_CHARACTERS = 100
MAX_ENCODED_BYTES = 7_000
"""gRPC refuses metadata beyond 8 KiB by default."""

_BY_STATUS = {
    "UNAVAILABLE": Code.UNREACHABLE,
    "DEADLINE_EXCEEDED": Code.TIMED_OUT,
    "CANCELLED": Code.CANCELLED,
    "UNAUTHENTICATED": Code.NOT_AUTHENTICATED,
    "PERMISSION_DENIED": Code.NOT_ALLOWED,
    "NOT_FOUND": Code.NOT_FOUND,
    "RESOURCE_EXHAUSTED": Code.OVERLOADED,
    "INVALID_ARGUMENT": Code.INVALID_ARGUMENT,
    "UNIMPLEMENTED": Code.INCOMPATIBLE_VERSION,
}


def status_name(error: HomespunError) -> str:
    """Name of the `grpc.StatusCode` that carries an error."""
    return CATALOG[error.code].grpc_status


def trailing_metadata(error: HomespunError) -> tuple[tuple[str, bytes], ...]:
    """The error as trailing metadata; overlong text is shortened, never refused."""
    details = {
        name[:MAX_DETAIL_CHARACTERS]: value[:MAX_DETAIL_CHARACTERS]
        for name, value in list(error.details.items())[:MAX_DETAILS]
    }
    message = error.message[:MAX_MESSAGE_CHARACTERS]
    encoded = json.dumps({"code": error.code, "message": message, "details": details}).encode()
    if len(encoded) > MAX_ENCODED_BYTES:
        encoded = json.dumps({"code": error.code, "message": message[:500], "details": {}}).encode()
    return ((METADATA_KEY, encoded),)


def error_of(call: grpc.RpcError, subject: str) -> HomespunError:
    """What a failed call means.

    Args:
        call: the exception that a stub raised, sync or aio.
        subject: what was asked of whom, for an error that brings no message of ours.
    """
    for name, value in _trailing(call):
        known = _decode(value) if name == METADATA_KEY and isinstance(value, bytes) else None
        if known is not None:
            return known
    status = getattr(call, "code", lambda: None)()
    name = getattr(status, "name", "UNKNOWN")
    text = (getattr(call, "details", lambda: None)() or "no explanation")[:MAX_MESSAGE_CHARACTERS]
    return HomespunError(
        _BY_STATUS.get(name, Code.INTERNAL), f"{subject} failed: {text} ({name}).", status=name)


def _trailing(call: grpc.RpcError) -> Iterable[tuple[str, object]]:
    trailing = getattr(call, "trailing_metadata", lambda: ())()
    return trailing or ()


def _decode(encoded: bytes) -> HomespunError | None:
    """Read an error that the other side sent; anything odd about it makes it no error of ours."""
    if len(encoded) > MAX_ENCODED_BYTES:
        return None
    try:
        fields = json.loads(encoded)
        message, details = fields["message"], fields["details"]
        if not isinstance(message, str) or not isinstance(details, dict):
            return None
        pairs = list(details.items())[:MAX_DETAILS]
        error = HomespunError(Code(fields["code"]), message[:MAX_MESSAGE_CHARACTERS])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    error.details = {str(key): str(value)[:MAX_DETAIL_CHARACTERS] for key, value in pairs}
    return error
