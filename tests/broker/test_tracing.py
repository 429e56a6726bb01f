"""Traces: what a collector gets of calls and decisions, and that none can hurt the broker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from broker import tracing as tracing_module
from broker.core.event_log import LogLine
from broker.tracing import OPEN_MAX, Tracing, open_tracing
from homespun.v1 import operator_pb2
from tests.broker.live_broker import make_place, serving
from tests.broker.test_operator_service import called

pytest.importorskip("opentelemetry.sdk")
SECOND = 10**9


@pytest.fixture
def spans():
    """A tracing, and what it has told: real spans of the SDK, kept in memory."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    made = Tracing(provider)
    made.kept = kept.get_finished_spans
    return made


def tell(tracing, *kinds, subject="job_1"):
    for number, kind in enumerate(kinds, start=1):
        tracing.take(LogLine(number=number, at_ns=number * SECOND, subject=subject, kind=kind,
                             text=f"{kind}."))


def test_off_unless_asked_for():
    assert open_tracing("") is None


def test_a_placement_and_a_takeover_are_spans_with_what_happened_in_them(spans):
    tell(spans, "job_submitted", "job_waits", "job_placed", "job_running", "segment_vacant",
         "segment_moves", "peer_lost", "job_running", "job_succeeded")
    placement, takeover = spans.kept()
    assert (placement.name, takeover.name) == ("placement", "takeover")
    assert (placement.end_time - placement.start_time) / SECOND == 2
    assert (takeover.end_time - takeover.start_time) / SECOND == 3
    assert takeover.attributes["outcome"] == "job_running"
    assert [event.name for event in takeover.events] == [
        "segment_vacant", "segment_moves", "peer_lost", "job_running"]


def test_a_job_that_fails_ends_what_was_decided_about_it(spans):
    tell(spans, "job_submitted", "job_failed")
    tell(spans, "job_submitted", subject="job_2")
    (only,) = spans.kept()
    assert (only.attributes["job_id"], only.attributes["outcome"]) == ("job_1", "job_failed")


def test_decisions_that_never_end_are_bounded(spans):
    for number in range(OPEN_MAX + 10):
        tell(spans, "job_submitted", subject=f"job_{number}")
    assert len(spans._open) == OPEN_MAX


@contextlib.contextmanager
def collector():
    """Something that takes OTLP over HTTP; what was posted."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", posted
    finally:
        server.shutdown()
        server.server_close()


def traced_place(network, endpoint):
    place = make_place(network)
    place.save_settings(replace(place.load_settings(), trace_endpoint=endpoint))
    return place


def test_a_collector_gets_the_calls_of_a_broker_by_the_time_that_it_has_ended(network):
    async def scenario(place):
        async with serving(place) as broker:
            await called(network, broker, "ListPeers", operator_pb2.ListPeersRequest())
            error = await called(
                network, broker, "DrainPeer", operator_pb2.DrainPeerRequest(peer="x"))
            assert error.code == "NOT_FOUND", "a traced call fails as any other"

    with collector() as (endpoint, posted):
        asyncio.run(scenario(traced_place(network, endpoint)))
    assert {path for path, _ in posted} == {"/v1/traces"}
    sent = b"".join(body for _, body in posted)
    import gzip

    with contextlib.suppress(OSError):
        sent = b"".join(gzip.decompress(body) for _, body in posted)
    assert b"homespun.v1.OperatorService/ListPeers" in sent
    assert b"homespun.v1.OperatorService/DrainPeer" in sent
    assert b"homespun-broker" in sent


def test_a_collector_that_never_answers_costs_the_broker_nothing_but_the_flush(
    network, monkeypatch
):
    monkeypatch.setattr(tracing_module, "FLUSH_S", 0.2)

    async def scenario(place):
        async with serving(place) as broker:
            for _ in range(20):
                await called(network, broker, "ListPeers", operator_pb2.ListPeersRequest())

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1/traces"
        asyncio.run(scenario(traced_place(network, endpoint)))


def test_a_tracer_that_breaks_breaks_nothing(network):
    class Broken:
        def get_tracer(self, name):
            return self

        def start_span(self, *arguments, **options):
            raise RuntimeError("broken")

        def shutdown(self):
            raise RuntimeError("broken")

    async def scenario():
        from broker.server import BrokerServer

        place = make_place(network)
        server = BrokerServer.open(place)
        server.tracing = Tracing(Broken())
        task = asyncio.create_task(server.serve())
        while server.driver.changes == 0:
            assert not task.done(), task
            await asyncio.sleep(0.01)
        answer = await called(network, server, "ListPeers", operator_pb2.ListPeersRequest())
        assert list(answer.peers) == []
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()

    asyncio.run(scenario())
