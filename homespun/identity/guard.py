"""The gate in front of every servicer: who may call what, checked before a body is parsed.

One table names the roles of each method; a method without a row is refused. The guard is also the
edge where errors leave a server: a servicer raises `HomespunError` and the caller gets it as such;
anything else it raises is a defect, which is logged here and told to the caller without its text.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any

import grpc

from homespun.errors import Code, HomespunError
from homespun.identity.caller import identify_until
from homespun.identity.certificates import utc_now
from homespun.identity.names import Role
from homespun.rpc_errors import abort

Permissions = Mapping[str, frozenset[str]]
"""Full method (`/homespun.v1.JobService/Submit`) -> the roles that may call it."""

PUBLIC: frozenset[str] = frozenset({"public"})
"""Row of a method that asks for no certificate (first contact only)."""

PEER_PERMISSIONS: Permissions = {
    "/homespun.v1.TensorService/Exchange": frozenset({Role.PEER}),
    "/homespun.v1.TensorService/Probe": frozenset({Role.PEER}),
    "/homespun.v1.SnapshotService/Put": frozenset({Role.PEER}),
    "/homespun.v1.SnapshotService/Get": frozenset({Role.PEER}),
}
"""What a peer's own server permits."""

_log = logging.getLogger(__name__)


def _nobody(identity_id: str) -> bool:
    return False


def _unnoted(identity_id: str, expires_at: datetime) -> None:
    pass


class Guard(grpc.aio.ServerInterceptor):
    """Refuses calls that the table does not permit, and translates errors on the way out.

    Args:
        permissions: the table.
        network_id: the network that callers must belong to.
        is_denied: tells whether an identity is shut out (banned, deleted); asked for each call.
        note_call: told who calls, of those who may, and when its certificate ends.
        clock: the time, for the expiry of certificates.
    """

    def __init__(
        self,
        permissions: Permissions,
        network_id: str,
        *,
        is_denied: Callable[[str], bool] = _nobody,
        note_call: Callable[[str, datetime], None] = _unnoted,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._permissions = permissions
        self._network_id = network_id
        self._is_denied = is_denied
        self._note_call = note_call
        self._clock = clock

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Put the check in front of the method's handler (gRPC calls this)."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # no such method here: gRPC answers UNIMPLEMENTED
        method = handler_call_details.method
        return _guarded(handler, lambda context: self.check(method, context))

    def check(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Check that the caller may call a method.

        Raises:
            HomespunError: NOT_AUTHENTICATED, CERTIFICATE_EXPIRED or NOT_ALLOWED.
        """
        roles = self._permissions.get(method)
        if roles is None:
            raise HomespunError(Code.NOT_ALLOWED, f"Nobody may call {method}.", method=method)
        if roles is PUBLIC:
            return
        caller, expires_at = identify_until(context, self._clock())
        if caller.network_id != self._network_id:
            raise HomespunError(
                Code.NOT_AUTHENTICATED,
                f"{caller.id} belongs to network {caller.network_id}; this is network "
                f"{self._network_id}.")
        if self._is_denied(caller.id):
            raise HomespunError(
                Code.NOT_ALLOWED, f"{caller.id} has been shut out of this network.", id=caller.id)
        if caller.role not in roles:
            raise HomespunError(
                Code.NOT_ALLOWED,
                f"{caller.id} has the role {caller.role}; {method.rpartition('/')[2]} is for: "
                f"{', '.join(sorted(roles))}.", id=caller.id, role=caller.role)
        self._note_call(caller.id, expires_at)


_Check = Callable[[Any], None]


def _guarded(handler: grpc.RpcMethodHandler, check: _Check) -> grpc.RpcMethodHandler:
    """The same handler behind a check.

    A unary request is parsed here, after the check; gRPC parses the messages of a stream only when
    the servicer asks for them, which is after the check as well.
    """
    inner, parse = _behaviour(handler), handler.request_deserializer
    streams_responses = inspect.isasyncgenfunction(inner)
    if not streams_responses and not inspect.iscoroutinefunction(inner):
        raise TypeError(f"{inner} must be an async function: only those can be guarded")
    if handler.request_streaming:
        parse = None
    behaviour = (_generator if streams_responses else _coroutine)(inner, parse, check)
    make = _MAKERS[handler.request_streaming, handler.response_streaming]
    return make(
        behaviour,
        request_deserializer=handler.request_deserializer if handler.request_streaming else None,
        response_serializer=handler.response_serializer)


_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _behaviour(handler: grpc.RpcMethodHandler) -> Callable[..., Any]:
    kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    behaviour: Callable[..., Any] = getattr(
        handler, kinds[2 * handler.request_streaming + handler.response_streaming])
    return behaviour


def _coroutine(
    inner: Callable[..., Awaitable[Any]], parse: Callable[[bytes], Any] | None, check: _Check,
) -> Callable[..., Awaitable[Any]]:
    async def behaviour(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        async with _translated(context):
            check(context)
            return await inner(_parsed(request, parse), context)

    return behaviour


def _generator(
    inner: Callable[..., Any], parse: Callable[[bytes], Any] | None, check: _Check,
) -> Callable[..., AsyncIterator[Any]]:
    async def behaviour(
        request: Any, context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[Any]:
        async with _translated(context):
            check(context)
            async with aclosing(inner(_parsed(request, parse), context)) as responses:
                async for response in responses:
                    yield response

    return behaviour


def _parsed(request: Any, parse: Callable[[bytes], Any] | None) -> Any:
    if parse is None:
        return request
    try:
        return parse(request)
    except Exception as error:  # whatever a deserializer raises: the caller's bytes are bad
        raise HomespunError(
            Code.INVALID_ARGUMENT, "The request is no valid message of its type.") from error


@asynccontextmanager
async def _translated(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    try:
        yield
    except HomespunError as error:
        await abort(context, error)
    except grpc.aio.AbortError:
        raise  # the servicer has already ended the call
    except Exception:
        _log.exception("a servicer failed")
        await abort(context, HomespunError(
            Code.INTERNAL, "The request met a defect; the other side's log has the details."))
