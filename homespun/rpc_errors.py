"""`HomespunError` on both ends of a gRPC call: the one translator, both ways.

On the wire an error is a gRPC status (for tools that know nothing of us) and three trailing
metadata entries: `homespun-code` (the code, ASCII), `homespun-message-bin` (UTF-8) and
`homespun-details-bin` (JSON object of strings). What comes in is another machine's text: it is
bounded, and characters that could steer a terminal are dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn

import grpc

from homespun.errors import CATALOG, Code, HomespunError

CODE_KEY = "homespun-code"
MESSAGE_KEY = "homespun-message-bin"
DETAILS_KEY = "homespun-details-bin"
MAX_MESSAGE_BYTES = 2_000
MAX_DETAILS_BYTES = 2_000
"""gRPC starts to refuse metadata above 8 KiB; base64 makes binary entries a third longer."""
MAX_STATUS_CHARACTERS = 200

_BY_STATUS = {
    grpc.StatusCode.UNAVAILABLE: Code.UNREACHABLE,
    grpc.StatusCode.CANCELLED: Code.UNREACHABLE,  # our own cancellations never become errors
    grpc.StatusCode.DEADLINE_EXCEEDED: Code.TIMED_OUT,
    grpc.StatusCode.UNAUTHENTICATED: Code.NOT_AUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED: Code.NOT_ALLOWED,
    grpc.StatusCode.NOT_FOUND: Code.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Code.LIMIT_EXCEEDED,  # gRPC's own message size limit
    grpc.StatusCode.INVALID_ARGUMENT: Code.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED: Code.INCOMPATIBLE_VERSION,
}


def status_name(error: HomespunError) -> str:
    """Name of the `grpc.StatusCode` that carries an error."""
    return CATALOG[error.code].grpc_status


def trailing_metadata(error: HomespunError) -> tuple[tuple[str, str | bytes], ...]:
    """The error as trailing metadata; overlong text is shortened, overlong details are left out."""
    details = json.dumps(error.details).encode()
    return (
        (CODE_KEY, str(error.code)),
        (MESSAGE_KEY, _cut(error.message, MAX_MESSAGE_BYTES)),
        (DETAILS_KEY, details if len(details) <= MAX_DETAILS_BYTES else b"{}"),
    )


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: HomespunError) -> NoReturn:
    """End a call with an error, from an aio servicer. Never returns."""
    await context.abort(
        grpc.StatusCode[status_name(error)],
        _ascii(error.message)[:MAX_STATUS_CHARACTERS],
        trailing_metadata(error))
    raise AssertionError("context.abort always raises")


async def ended(call: grpc.aio.Call) -> grpc.aio.AioRpcError:
    """The status of an aio call that has ended, as the exception that stands for it."""
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(),
        await call.details(), None)


def error_of(call: grpc.RpcError, subject: str, *, expected: str = "broker") -> HomespunError:
    """Say what a failed call means.

    Args:
        call: what the stub raised, sync or aio.
        subject: who was called (`the broker at nas.local:7700`); begins the message.
        expected: the identity that was dialled, as given to `open_channel`.

    Returns:
        The error that the other side raised; or, when the call never reached it, UNREACHABLE,
        TIMED_OUT, UNTRUSTED_BROKER, CERTIFICATE_EXPIRED or NOT_AUTHENTICATED as far as gRPC tells.
    """
    if (sent := _sent_error(call)) is not None:
        return sent
    subject = subject[:1].upper() + subject[1:]
    status = _attribute(call, "code")
    text = printable(str(_attribute(call, "details") or ""))[:500]
    if status is grpc.StatusCode.UNAVAILABLE:
        return _connection_error(text, subject, expected)
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return HomespunError(Code.TIMED_OUT, f"{subject} did not answer before the deadline.")
    name = getattr(status, "name", "UNKNOWN")
    code = _BY_STATUS.get(status, Code.INTERNAL)
    return HomespunError(code, f"{subject} refused the call ({name}): {text}.", status=name)


def printable(text: str) -> str:
    """Drop the characters that could move a terminal's cursor or hide text."""
    return "".join(c for c in text if c.isprintable() or c == "\n")


def _connection_error(text: str, subject: str, expected: str) -> HomespunError:
    """Tell the reasons for UNAVAILABLE apart by gRPC's text, the only place that has them."""
    lowered = text.lower()
    if "certificate has expired" in lowered:
        return HomespunError(
            Code.CERTIFICATE_EXPIRED,
            f"{subject} shows a certificate that has expired by this machine's clock. "
            "Check the clocks of both machines.")
    if "not yet valid" in lowered:
        return HomespunError(
            Code.UNTRUSTED_BROKER if expected == "broker" else Code.UNREACHABLE,
            f"{subject} shows a certificate that is not valid yet by this machine's clock. "
            "Check the clocks of both machines.")
    if any(mark in lowered for mark in _UNTRUSTED):
        return _untrusted(subject, expected)
    if any(mark in lowered for mark in _REFUSED_CERTIFICATE):
        return HomespunError(
            Code.NOT_AUTHENTICATED, f"{subject} does not accept this machine's certificate.")
    if "wrong_version_number" in lowered:
        return HomespunError(
            Code.UNREACHABLE, f"{subject} answers, but not with TLS: it is no Homespun service.")
    hint = ""
    if "socket closed" in lowered and "failed to connect" in lowered:
        hint = " It closed the connection at once, as it does to a certificate it does not accept."
    return HomespunError(Code.UNREACHABLE, f"{subject} cannot be reached ({text}).{hint}")


_UNTRUSTED = ("certificate_verify_failed", "bad_signature", "certificate signature failure",
              "hostname verification", "is not in peer certificate")
_REFUSED_CERTIFICATE = ("alert_unknown_ca", "alert_bad_certificate", "alert_certificate_",
                        "alert_unsupported_certificate")


def _untrusted(subject: str, expected: str) -> HomespunError:
    if expected == "broker":
        return HomespunError(
            Code.UNTRUSTED_BROKER, f"{subject} is not the broker of this machine's network.")
    return HomespunError(
        Code.UNREACHABLE,
        f"{subject} is not {expected}: something else answers at its address.", expected=expected)


def _sent_error(call: grpc.RpcError) -> HomespunError | None:
    """The error that the other side's servicer put into the trailing metadata, if any."""
    entries: dict[str, Any] = {}
    for key, value in _metadata(call):
        entries.setdefault(key, value)
    code_text, message = entries.get(CODE_KEY), entries.get(MESSAGE_KEY)
    if not isinstance(code_text, str) or not isinstance(message, bytes):
        return None
    text = printable(message[:MAX_MESSAGE_BYTES].decode(errors="replace"))
    try:
        code = Code(code_text)
    except ValueError:  # a code of a newer release
        code = _BY_STATUS.get(_attribute(call, "code"), Code.INTERNAL)
        text = f"{text} ({printable(code_text)[:40]})"
    error = HomespunError(code, text)
    error.details = _details(entries.get(DETAILS_KEY))
    return error


def _details(raw: object) -> dict[str, str]:
    if not isinstance(raw, bytes) or len(raw) > MAX_DETAILS_BYTES:
        return {}
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(parsed, dict):
        return {}
    return {printable(key): printable(str(value)) for key, value in parsed.items()}


def _metadata(call: grpc.RpcError) -> Iterable[tuple[str, str | bytes]]:
    entries: Iterable[tuple[str, str | bytes]] = _attribute(call, "trailing_metadata") or ()
    return entries


def _attribute(call: grpc.RpcError, name: str) -> Any:
    """Call `code()`, `details()` or `trailing_metadata()`: a bare RpcError has none of them."""
    method = getattr(call, name, None)
    return method() if callable(method) else None


def _cut(text: str, limit_bytes: int) -> bytes:
    return text.encode(errors="replace")[:limit_bytes].decode(errors="ignore").encode()


def _ascii(text: str) -> str:
    """A status message is percent-encoded on the wire: keep it plain so that it stays short."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)
