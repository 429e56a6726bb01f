"""A whole broker in this process: real journal, real mTLS on loopback, clients that misbehave."""

import asyncio
import contextlib
import socket

import grpc
import pytest
from blake3 import blake3

from broker import disk_reserve
from broker.core import views
from broker.core.commands import RevokeSegment
from broker.core.events import AvailabilityChanged, TransfersMeasured
from broker.rpc import session_service
from broker.server import BrokerServer
from broker.sessions import STREAMS_PER_PEER_MAX
from homespun.blobs.transfer import upload_aio
from homespun.errors import Code, HomespunError
from homespun.identity.channels import open_aio_channel
from homespun.rpc_errors import error_of
from homespun.v1 import (
    blobs_pb2_grpc,
    enrolment_pb2,
    enrolment_pb2_grpc,
    job_pb2,
    jobs_pb2,
    jobs_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
)
from homespun.version import PROTOCOL_VERSION
from tests.broker.live_broker import (
    DEADLINE_S,
    failure,
    make_place,
    register,
    serving,
    stream,
    until,
)


@pytest.fixture
def place(network):
    return make_place(network)


def test_a_peer_is_welcomed_and_its_going_is_noticed(place, network):
    async def scenario():
        async with serving(place) as broker:
            async with stream(network, broker) as call:
                welcome = (await call.read()).welcome
                assert welcome.heartbeat_interval_ms > 0
                assert views.peer(broker.driver.core, "peer_a").state == "live"
            await until(lambda: views.peer(broker.driver.core, "peer_a").state == "suspect")
            await until(lambda: not broker.sessions._open and not broker.sessions._streams)

    asyncio.run(scenario())


def test_the_newer_of_two_streams_wins_and_the_older_is_told(place, network):
    async def scenario():
        async with serving(place) as broker, stream(network, broker) as old:
            assert (await old.read()).WhichOneof("body") == "welcome"
            async with stream(network, broker) as new:
                assert (await new.read()).WhichOneof("body") == "welcome"
                while (message := await old.read()).WhichOneof("body") != "goodbye":
                    pass
                assert message.goodbye.code == Code.CONFLICT
                assert await old.read() is grpc.aio.EOF
                assert views.peer(broker.driver.core, "peer_a").state == "live"

    asyncio.run(scenario())


@pytest.mark.parametrize("changes", [
    {"tensor_address": "not an address"},
    {"tensor_address": "unix:/etc/passwd"},
    {"tensor_address": ""},
    {"software_version": "x" * 100_000},
    {"name": "a\nb"},
    {"leases": [session_pb2.HeldLease(job_id="j")] * 1_000},
    {"leases": [session_pb2.HeldLease(job_id="j" * 1_000)]},
], ids=repr)
def test_a_registration_that_no_peer_would_send_does_not_reach_the_journal(
    place, network, changes
):
    async def scenario():
        async with serving(place) as broker:
            before = broker.driver._journal.last_seq
            async with stream(network, broker, first=register(**changes)) as call:
                error = await failure(call)
            assert error.code in (Code.INVALID_ARGUMENT, Code.LIMIT_EXCEEDED)
            assert broker.driver._journal.last_seq == before

    asyncio.run(scenario())


def test_a_message_out_of_place_ends_the_stream_with_its_reason(place, network):
    async def scenario():
        async with serving(place) as broker, stream(network, broker) as call:
            await call.read()
            await call.write(register())
            error = await failure(call)
            assert error.code is Code.INVALID_ARGUMENT
            assert "register" in error.message

    asyncio.run(scenario())


def test_streams_that_say_nothing_do_not_pile_up(place, network, monkeypatch):
    monkeypatch.setattr(session_service, "REGISTER_TIMEOUT_S", 1.0)

    async def scenario():
        async with serving(place) as broker:
            async with open_aio_channel(
                network.member("peer", "peer_a"), broker.settings.address
            ) as channel:
                stub = session_pb2_grpc.SessionServiceStub(channel)
                calls = [stub.Connect() for _ in range(STREAMS_PER_PEER_MAX * 3)]
                errors = await asyncio.gather(*map(failure, calls))
            codes = sorted(error.code for error in errors)
            assert codes == sorted(
                [Code.TIMED_OUT] * STREAMS_PER_PEER_MAX
                + [Code.OVERLOADED] * STREAMS_PER_PEER_MAX * 2)
            await until(lambda: not broker.sessions._streams)

    asyncio.run(scenario())


def test_a_peer_that_never_reads_is_given_up(place, network, monkeypatch):
    """Its machine still answers pings, so only the write itself can tell."""
    monkeypatch.setattr(session_service, "WRITE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(session_service, "SLOWEST_LINE_BYTES_PER_S", 1e9)

    async def scenario():
        async with serving(place) as broker, stream(network, broker) as call:
            await call.read()
            session_id = broker.driver.session_of("peer_a")
            for _ in range(500):
                broker.sessions.send(session_id, RevokeSegment(
                    peer_id="peer_a", job_id="job_1", segment=0, token=1, reason="x" * 100_000))
            await until(lambda: not broker.sessions._streams)
            assert views.peer(broker.driver.core, "peer_a").state == "suspect"
            assert await failure(call) is not None

    asyncio.run(scenario())


def test_measurements_that_nobody_asked_for_are_not_journalled(place, network):
    measured = session_pb2.LinkMeasured(
        to_peer="peer_b", latency_s=0.001, bandwidth_bytes_per_s=1e9)

    async def scenario():
        async with serving(place) as broker, stream(network, broker, "peer_b") as other:
            await other.read()
            async with stream(network, broker, "peer_a") as call:
                await call.read()
                while (await call.read()).WhichOneof("body") != "measure_link":
                    pass
                for _ in range(50):
                    await call.write(session_pb2.PeerMessage(link_measured=measured))
                await until(
                    lambda: views.peer(broker.driver.core, "peer_a").links)
                await call.write(session_pb2.PeerMessage(register=session_pb2.Register()))
                await failure(call)
        kinds = [type(event).__name__ for event in journalled(place)]
        assert kinds.count("LinkMeasured") == 1

    asyncio.run(scenario())


def test_transfers_are_journalled_once_in_a_while(place, network):
    traffic = session_pb2.LinkTraffic(
        job_id="job_1", to_peer="peer_b", goodput_bytes_per_s=1e8)
    silent = session_pb2.LinkTraffic(job_id="job_1", to_peer="peer_c")
    beat = session_pb2.Heartbeat(traffic=[traffic, silent])

    async def scenario():
        async with serving(place) as broker, stream(network, broker) as call:
            await call.read()
            for _ in range(50):
                await call.write(session_pb2.PeerMessage(heartbeat=beat))
            await call.write(register())
            await failure(call)

    asyncio.run(scenario())
    found = [event for event in journalled(place) if isinstance(event, TransfersMeasured)]
    assert [(event.source, event.target) for event in found] == [("peer_a", "peer_b")]


def test_an_owner_is_heard_and_what_it_repeats_is_not_journalled(place, network):
    said = session_pb2.Availability(availability="paused", deadline_ms=30_000)

    async def scenario():
        async with serving(place) as broker, stream(network, broker) as call:
            await call.read()
            peer = broker.driver.core.state.peers["peer_a"]
            assert peer.availability == "open"
            for _ in range(50):
                await call.write(session_pb2.PeerMessage(availability=said))
            await until(lambda: peer.availability == "paused")
            await call.write(session_pb2.PeerMessage(
                availability=session_pb2.Availability(availability="open")))
            await until(lambda: peer.availability == "open")
            await call.write(session_pb2.PeerMessage(
                availability=session_pb2.Availability(availability="asleep")))
            assert (await failure(call)).code is Code.INVALID_ARGUMENT
            assert peer.availability == "open"

    asyncio.run(scenario())
    found = [event for event in journalled(place) if isinstance(event, AvailabilityChanged)]
    assert [event.availability for event in found] == ["paused", "open"]


def journalled(place):
    from broker.journal import Journal

    journal = Journal.open(place.journal)
    events = [event for _, event in journal.replay()]
    journal.close()
    return events


def test_heartbeats_speak_only_of_what_the_peer_holds(place, network):
    beat = session_pb2.Heartbeat(
        progress=[session_pb2.SegmentProgress(job_id="job_000001", segment=0, step=5)],
        traffic=[session_pb2.LinkTraffic(job_id="job_000001", to_peer="x" * 10_000)])

    async def scenario():
        async with serving(place) as broker, stream(network, broker) as call:
            await call.read()
            await call.write(session_pb2.PeerMessage(heartbeat=beat))
            await call.write(register())
            await failure(call)
            assert broker.telemetry.progress("job_000001", 0) is None
            assert broker.telemetry.traffic("job_000001", "peer_a") == ()

    asyncio.run(scenario())


def test_a_second_broker_on_the_directory_is_refused_and_touches_nothing(place, network):
    async def scenario():
        async with serving(place) as broker:
            half = place.blobs / "incoming" / "half"
            half.write_bytes(b"a copy that the first broker is making")
            with pytest.raises(HomespunError) as caught:
                BrokerServer.open(place)
            assert caught.value.code is Code.BAD_CONFIGURATION
            assert "another broker" in caught.value.message
            assert half.exists()
            assert broker.driver.changes

    asyncio.run(scenario())


def test_a_port_that_is_taken_is_said_so(place, network):
    async def scenario():
        broker = BrokerServer.open(place)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", broker.settings.enrolment_port))
            taken.listen()
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.timeout(DEADLINE_S):
                    await broker.serve()
        (error,) = caught.value.exceptions
        assert error.code is Code.BAD_CONFIGURATION
        assert str(broker.settings.enrolment_port) in error.message

    asyncio.run(scenario())


def test_an_announced_broker_serves(place, network):
    """Zeroconf must not be waited for in the event loop, where it cannot work at all."""
    from dataclasses import replace

    place.save_settings(replace(place.load_settings(), announce=True))

    async def scenario():
        async with serving(place) as broker:
            async with stream(network, broker) as call:
                assert (await call.read()).WhichOneof("body") == "welcome"
            await asyncio.sleep(1.0)

    asyncio.run(scenario())


def test_uploads_leave_the_journal_its_room(place, network, monkeypatch):
    monkeypatch.setattr(disk_reserve, "DISK_RESERVE_BYTES", 1 << 62)

    async def scenario():
        async with serving(place) as broker:
            await admit(broker, "client_1")
            async with open_aio_channel(
                network.member("submitter"), broker.settings.address
            ) as channel:
                with pytest.raises(HomespunError) as caught:
                    await upload_aio(
                        blobs_pb2_grpc.BlobServiceStub(channel), blake3(b"x").hexdigest(), b"x")
            assert caught.value.code is Code.DISK_FULL

    asyncio.run(scenario())


async def admit(broker, identity):
    """As enrolment does, without a key."""
    from broker.core.state import IdentityRecord

    broker.driver.core.state.identities[identity] = IdentityRecord(
        identity=identity, role="submitter", name="x", key_id="key_x", admitted_at_ns=0)


def test_a_job_of_millions_of_empty_entries_is_refused_before_it_is_read(place, network):
    spec = job_pb2.JobSpec(parameters=[job_pb2.ParameterRef()] * 100_000)

    async def scenario():
        async with serving(place) as broker:
            async with open_aio_channel(
                network.member("submitter"), broker.settings.address
            ) as channel:
                stub = jobs_pb2_grpc.JobServiceStub(channel)
                request = jobs_pb2.SubmitRequest(
                    spec=spec, request_id="r", protocol_version=PROTOCOL_VERSION)
                with pytest.raises(grpc.RpcError) as caught:
                    await stub.Submit(request, timeout=DEADLINE_S)
            assert error_of(caught.value, "the broker").code is Code.LIMIT_EXCEEDED

    asyncio.run(scenario())


def test_first_contact_works_without_a_certificate_and_nothing_else_does(place, network):
    async def scenario():
        async with serving(place) as broker:
            credentials = grpc.ssl_channel_credentials(broker.authority.root_pem)
            from homespun.identity.channels import channel_options

            address = f"127.0.0.1:{broker.settings.enrolment_port}"
            async with grpc.aio.secure_channel(
                address, credentials, channel_options("broker")
            ) as channel:
                stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
                root = await stub.GetRoot(enrolment_pb2.GetRootRequest(), timeout=DEADLINE_S)
                assert root.network_id == broker.authority.network_id
                call = session_pb2_grpc.SessionServiceStub(channel).Connect()
                assert await failure(call) is not None

    asyncio.run(scenario())


def test_a_peer_without_work_hears_why_and_not_again(place, network):
    beat = session_pb2.PeerMessage(heartbeat=session_pb2.Heartbeat())
    goodbye = session_pb2.PeerMessage(availability=session_pb2.Availability(availability="asleep"))

    async def scenario():
        async with serving(place) as broker, stream(network, broker) as call:
            await call.read()
            for _ in range(3):
                await call.write(beat)
            first = await call.read()
            while first.WhichOneof("body") != "no_work":
                first = await call.read()
            assert [(each.rule, each.jobs) for each in first.no_work.reasons] == [("no_jobs", 0)]
            assert first.no_work.reasons[0].change
            await call.write(goodbye)
            later = []
            with contextlib.suppress(grpc.aio.AioRpcError):
                while (message := await call.read()) is not grpc.aio.EOF:
                    later.append(message.WhichOneof("body"))
            assert "no_work" not in later

    asyncio.run(scenario())
