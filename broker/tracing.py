"""OpenTelemetry traces of calls and decisions, for who names a collector; otherwise nothing.

Nothing here can fail or stall the broker: spans go into a bounded queue, which a thread of
OpenTelemetry's own empties, and what does not fit is dropped. Decisions are read off the event log,
as the console does, so the core and its driver know nothing of this.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import grpc
import structlog

from broker.core import operator_views
from broker.core.event_log import LineFilter, LogLine
from broker.driver import Driver

log = structlog.get_logger(__name__)

LINES_AT_ONCE = 1_000
OPEN_MAX = 1_000
"""Decisions under way that are remembered; the one that began longest ago makes room."""
FLUSH_S = 2.0
"""What a broker that ends gives the collector."""
WAIT_S = 10.0
EXPORT_TIMEOUT_S = 5.0

BEGINS: Mapping[str, str] = {"job_submitted": "placement", "segment_vacant": "takeover"}
"""Kind of a line -> the decision that begins with it."""
ENDS: Mapping[str, str] = {"job_placed": "placement", "job_running": "takeover"}
FAILS = ("job_failed", "job_cancelled")
"""Kinds of lines with which every decision about their job ends."""


def open_tracing(endpoint: str) -> Tracing | None:
    """Send spans to a collector; None where there is no endpoint, or no `homespun[otel]`.

    Args:
        endpoint: URL of a collector that takes OTLP over HTTP; "" for none.
    """
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("no_traces", reason="install homespun[otel]", endpoint=endpoint)
        return None
    provider = TracerProvider(
        resource=Resource.create({"service.name": "homespun-broker"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(
        OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)))
    return Tracing(provider)


class Tracing(grpc.aio.ServerInterceptor):
    """Makes spans: of each call with one answer, as an interceptor, and of decisions (`follow`)."""

    def __init__(self, provider: Any) -> None:
        """Give spans to an OpenTelemetry `TracerProvider`."""
        self._provider = provider
        self._tracer = provider.get_tracer("homespun.broker")
        self._open: OrderedDict[tuple[str, str], list[LogLine]] = OrderedDict()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Time a call (gRPC calls this). Streams of answers last for hours and have no span."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.response_streaming:
            return handler
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        make = (grpc.stream_unary_rpc_method_handler if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler)

        async def timed(request: Any, context: Any) -> Any:
            began_ns = time.time_ns()
            try:
                return await inner(request, context)
            finally:
                self._called(handler_call_details.method, context, began_ns)

        return make(timed, request_deserializer=handler.request_deserializer,
                    response_serializer=handler.response_serializer)

    async def follow(self, driver: Driver) -> None:
        """Make spans of the decisions that the event log tells of, until cancelled."""
        last, wanted = driver.core.events.last_number, LineFilter()
        while True:
            seen = driver.changes
            lines = operator_views.events_after(driver.core, last, wanted, LINES_AT_ONCE)
            for line in lines:
                last = line.number
                with suppress(Exception):  # a trace is never worth the broker
                    self.take(line)
            if not lines:
                await driver.wait_change(seen, WAIT_S)

    def take(self, line: LogLine) -> None:
        """Take one line of the event log into account."""
        if line.kind in BEGINS:
            self._open.setdefault((line.subject, BEGINS[line.kind]), [])
            if len(self._open) > OPEN_MAX:
                self._open.popitem(last=False)
        for key in [key for key in self._open if key[0] == line.subject]:
            self._open[key].append(line)
            if ENDS.get(line.kind) == key[1] or line.kind in FAILS:
                self._decided(key[1], self._open.pop(key))

    async def close(self) -> None:
        """Send what is left, for `FLUSH_S` at most."""
        ending = threading.Thread(target=self._shut_down, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, FLUSH_S)

    def _shut_down(self) -> None:
        with suppress(Exception):
            self._provider.shutdown()

    def _called(self, method: str, context: Any, began_ns: int) -> None:
        with suppress(Exception):
            service, _, name = method.strip("/").partition("/")
            code = context.code()  # gRPC gives a number, an enumeration, or None
            span = self._tracer.start_span(f"{service}/{name}", start_time=began_ns, attributes={
                "rpc.system": "grpc", "rpc.service": service, "rpc.method": name,
                "rpc.grpc.status_code": getattr(code, "value", (code or 0,))[0]})
            span.end(time.time_ns())

    def _decided(self, name: str, lines: list[LogLine]) -> None:
        first, last = lines[0], lines[-1]
        span = self._tracer.start_span(name, start_time=first.at_ns, attributes={
            "job_id": first.subject, "outcome": last.kind, "text": last.text})
        for line in lines:
            span.add_event(line.kind, {"text": line.text}, line.at_ns)
        span.end(last.at_ns)
