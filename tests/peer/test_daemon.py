"""Daemons with the null executor and a broker, all in this process, over real mTLS."""

import asyncio
import contextlib
import socket
from dataclasses import replace

import msgspec
import psutil
import pytest

from broker.core import views
from broker.core.events import MemberBanned
from broker.server import BrokerServer
from broker.settings import BrokerDirectory, BrokerSettings
from dag.cluster import PeerRates
from dag.support import everything
from homespun.errors import Code, HomespunError
from homespun.identity import directory as identity_directory
from homespun.identity.channels import open_aio_channel
from homespun.v1 import job_pb2, jobs_pb2, jobs_pb2_grpc
from homespun.version import PROTOCOL_VERSION
from homespun.wire import to_message
from ir.operators import OPERATORS, OPSETS
from peer.core.events import Availability
from peer.daemon import Daemon, DaemonParts
from peer.hardware import HardwareReport
from peer.ledger import Ledger
from peer.owner.core.limits import NO_LIMITS
from peer.owner.core.wish import Wish
from peer.owner.wish_file import write_wish
from peer.priority import Priority
from peer.settings import PeerDirectory, PeerSettings
from peer.status_note import read_status

DEADLINE_S = 200
STEPS = 1_500
"""Of a job that lasts for some snapshots."""
HARDWARE = HardwareReport(
    device="cpu", device_name="test", memory_bytes=1 << 34, measured_unix_s=0,
    rates=PeerRates(
        matmul_flops_per_s=1e9, attention_flops_per_s=1e9, memory_bytes_per_s=1e9),
    platform="test", threads=1,
    executor="null", support=everything(OPERATORS, OPSETS))


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.asynccontextmanager
async def running(work):
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled(), task


class World:
    """One network in a folder."""

    def __init__(self, network, tmp_path, tiny):
        main, enrolment = free_ports(2)
        self.network, self.folder, self.tiny = network, tmp_path, tiny
        self.place = BrokerDirectory(network.directory)
        self.address = f"127.0.0.1:{main}"
        self.place.save_settings(BrokerSettings(
            listen=self.address, enrolment_port=enrolment, address=self.address, announce=False))

    def daemon(self, name):
        directory = PeerDirectory(self.folder / name)
        if not identity_directory.exists(directory.identity):
            identity_directory.save(
                directory.identity, self.network.member("peer", name, self.address))
        settings = PeerSettings(
            name=name, device="cpu", threads=1, listen_host="127.0.0.1", executor="null",
            priority=Priority.NORMAL, limits=NO_LIMITS)
        parts = DaemonParts(settings=settings, directory=directory, hardware=HARDWARE)
        return Daemon(parts)

    async def submit(self, broker, **training):
        for data in self.tiny.blobs.values():
            broker.blobs.put(data)
        credentials = self.network.member("submitter", "client_1", self.address)
        async with open_aio_channel(credentials, self.address) as channel:
            spec = replace(self.tiny.spec, training=replace(self.tiny.spec.training, **training))
            answer = await jobs_pb2_grpc.JobServiceStub(channel).Submit(jobs_pb2.SubmitRequest(
                spec=to_message(spec, job_pb2.JobSpec), request_id="r",
                protocol_version=PROTOCOL_VERSION))
        return answer.job_id


@pytest.fixture
def world(peer_network, tmp_path, tiny):
    return World(peer_network, tmp_path, tiny)


async def until(condition, *tasks):
    while not condition():
        for task in tasks:
            assert not task.done(), task
        await asyncio.sleep(0.02)


def live(broker):
    return [p.peer_id for p in views.peers(broker.driver.core) if p.state == "live"]


def children():
    """Executor processes of this one."""
    return [child for child in psutil.Process().children() if is_executor(child)]


def is_executor(process):
    try:
        return "peer.executor.child" in process.cmdline()
    except psutil.Error:
        return False  # it has just ended


def test_two_daemons_train_a_job_and_leave_nothing_behind(world):
    async def scenario():
        broker = BrokerServer.open(world.place)
        a, b = world.daemon("peer_a"), world.daemon("peer_b")
        async with (
            asyncio.timeout(DEADLINE_S), running(broker.serve()) as served,
            running(a.run()) as ran_a, running(b.run()) as ran_b,
        ):
            await until(lambda: len(live(broker)) == 2, served, ran_a, ran_b)
            job_id = await world.submit(broker)
            await until(
                lambda: views.job(broker.driver.core, job_id).has_ended, served, ran_a, ran_b)
            job = views.job(broker.driver.core, job_id)
            assert (job.state, job.steps_done) == ("succeeded", 3), job.error_message
            assert {s.peer_id for s in job.segments} == {"peer_a", "peer_b"}
            await until(lambda: not a._works and not b._works and not children())
            await until(lambda: views.peer(broker.driver.core, "peer_a").links)
            # Both sides know what the tasks taught, and the next start will.
            rates = views.peer(broker.driver.core, "peer_a").hardware.rates
            assert rates == a._hardware.rates
            assert {c.direction for c in rates.corrections} == {"forward", "backward"}
            assert a._hardware.refined_unix_s > 0
        for name in ("peer_a", "peer_b"):
            directory = PeerDirectory(world.folder / name)
            assert not directory.status.exists()
            assert list(directory.results.glob("*")) == []
            assert '"corrections": [{' in directory.hardware.read_text(encoding="utf-8")
            given = {one.job_id: one for one in Ledger(directory.ledger).since("")}[job_id]
            assert given.tasks >= 12, "two microbatches, there and back, of three steps"
            assert given.flops > 0
            assert given.sent_bytes > 0
            assert given.received_bytes > 0
            assert given.far_bytes == 0, "loopback is near"

    asyncio.run(scenario())
    assert children() == []


@pytest.mark.parametrize("lost", [0, 1])
def test_a_daemon_that_ends_is_replaced_and_its_segment_goes_on(world, lost):
    """All the way: snapshots at the holder, a standby that takes over, a log that is replayed."""
    async def scenario():
        broker = BrokerServer.open(world.place)
        names = ("peer_a", "peer_b", "peer_c")
        daemons = {name: world.daemon(name) for name in names}
        async with (
            asyncio.timeout(DEADLINE_S), running(broker.serve()) as served,
            contextlib.AsyncExitStack() as stack,
        ):
            ran = {name: await stack.enter_async_context(running(daemon.run()))
                   for name, daemon in daemons.items()}
            await until(lambda: len(live(broker)) == 3, served, *ran.values())
            job_id = await world.submit(broker, steps=STEPS)

            def job():
                return views.job(broker.driver.core, job_id)

            def record():
                return broker.driver.core.state.jobs[job_id]

            await until(lambda: record().position > 0 or job().has_ended, served, *ran.values())
            assert not job().has_ended, job().error_message
            before = {lease.index: lease.peer_id for lease in record().leases}
            spare = (set(names) - set(before.values())).pop()
            gone = ran.pop(before[lost])
            gone.cancel()
            await until(lambda: job().has_ended, served, *ran.values())
            assert (job().state, job().steps_done) == ("succeeded", STEPS), job().error_message
            after = {lease.index: lease.peer_id for lease in record().leases}
            assert after == {**before, lost: spare}
            assert record().takeovers == 1
            left = [daemon for name, daemon in daemons.items() if name != before[lost]]
            await until(lambda: not any(daemon._works for daemon in left), served, *ran.values())
            for daemon in left:
                assert list(daemon._parts.directory.results.glob("*")) == []

    asyncio.run(scenario())
    assert children() == []


def test_a_stopped_daemon_takes_its_executors_along(world):
    async def scenario():
        broker = BrokerServer.open(world.place)
        a, b = world.daemon("peer_a"), world.daemon("peer_b")
        async with asyncio.timeout(DEADLINE_S), running(broker.serve()) as served:
            async with running(a.run()) as ran_a, running(b.run()) as ran_b:
                await until(lambda: len(live(broker)) == 2, served, ran_a, ran_b)
                await world.submit(broker)
                await until(children, served, ran_a, ran_b)
            assert children() == []

    asyncio.run(scenario())


def test_an_idle_daemon_that_is_told_to_leave_ends_by_itself(world):
    async def scenario():
        broker = BrokerServer.open(world.place)
        daemon = world.daemon("peer_a")
        async with asyncio.timeout(DEADLINE_S), running(broker.serve()) as served:
            ran = asyncio.create_task(daemon.run())
            await until(lambda: live(broker), served, ran)
            daemon.leave()
            await ran
        assert not PeerDirectory(world.folder / "peer_a").status.exists()

    asyncio.run(scenario())


def test_the_broker_is_told_what_the_owner_wants(world):
    async def scenario():
        broker = BrokerServer.open(world.place)
        daemon = world.daemon("peer_a")
        place = PeerDirectory(world.folder / "peer_a")

        def availability():
            peer = views.peer(broker.driver.core, "peer_a")
            return peer and peer.availability

        write_wish(place, Wish(id="a", availability=Availability.PAUSED))
        async with (
            asyncio.timeout(DEADLINE_S), running(broker.serve()) as served,
            running(daemon.run()) as ran,
        ):
            await until(lambda: availability() == "paused", served, ran)
            write_wish(place, Wish(id="b", availability=Availability.OPEN))
            await until(lambda: availability() == "open", served, ran)

    asyncio.run(scenario())


def test_a_limit_that_is_set_while_it_runs_pauses_it_and_the_broker_says_so(world):
    async def scenario():
        broker = BrokerServer.open(world.place)
        daemon = world.daemon("peer_a")
        place = PeerDirectory(world.folder / "peer_a")
        settings = daemon._parts.settings

        def note():
            return msgspec.json.decode(place.status.read_bytes()) if place.status.exists() else {}

        def rules():
            return [each["rule"] for each in note().get("no_work", ())]

        async with (
            asyncio.timeout(DEADLINE_S), running(broker.serve()) as served,
            running(daemon.run()) as ran,
        ):
            await until(lambda: rules() == ["no_jobs"], served, ran)
            assert (note()["availability"], note()["reasons"]) == ("open", [])
            place.save_settings(replace(
                settings, limits=replace(settings.limits, free_memory_bytes=1 << 60)))
            await until(lambda: rules() == ["unavailable", "no_jobs"], served, ran)
            assert [each["kind"] for each in note()["reasons"]] == ["memory_short"]
            assert views.peer(broker.driver.core, "peer_a").availability == "paused"

    asyncio.run(scenario())


def test_a_daemon_without_its_broker_says_why_and_when_it_tries_again(world):
    async def scenario():
        place = PeerDirectory(world.folder / "peer_a")
        daemon = world.daemon("peer_a")

        def connection():
            return read_status(place).get("connection", {"is_up": None, "retry_unix_ms": 0})

        async with asyncio.timeout(DEADLINE_S), running(daemon.run()) as ran:
            await until(lambda: connection()["retry_unix_ms"], ran)
            before = connection()
            assert before["is_up"] is False
            assert before["reason"]
            broker = BrokerServer.open(world.place)
            async with running(broker.serve()) as served:
                await until(lambda: connection()["is_up"], served, ran)
                assert connection()["reason"] == ""
                assert connection()["since_unix_ms"] >= before["since_unix_ms"]
            await until(lambda: connection()["is_up"] is False, ran)
            assert connection()["reason"]

    asyncio.run(scenario())


def test_a_daemon_that_is_banned_ends_with_the_operators_reason(world):
    async def scenario():
        broker = BrokerServer.open(world.place)
        async with asyncio.timeout(DEADLINE_S), running(broker.serve()) as served:
            ran = asyncio.create_task(world.daemon("peer_a").run())
            await until(lambda: live(broker), served, ran)
            await broker.driver.ask(MemberBanned(
                at_ns=0, request_id="r", member_id="peer_a", by="operator_x", reason="too loud"))
            await asyncio.wait((ran,))
            return ran.exception()

    ended = asyncio.run(scenario())
    assert isinstance(ended, BaseExceptionGroup)
    error = ended.exceptions[0]
    assert (error.code, error.message) == (
        Code.NOT_ALLOWED, "An operator has shut this member out of the network: too loud")


def test_two_daemons_in_one_directory_are_one_too_many(world):
    async def scenario():
        async with asyncio.timeout(DEADLINE_S), running(world.daemon("peer_a").run()) as first:
            status = PeerDirectory(world.folder / "peer_a").status
            await until(status.exists, first)
            assert msgspec.json.decode(status.read_bytes())["connected"] is False
            with pytest.raises(HomespunError) as caught:
                await world.daemon("peer_a").run()
            assert caught.value.code is Code.BAD_CONFIGURATION
            assert "another `peer run`" in caught.value.message
            assert status.exists()

    asyncio.run(scenario())


def test_results_of_a_crashed_daemon_are_cleared(world):
    async def scenario():
        daemon = world.daemon("peer_a")
        directory = PeerDirectory(world.folder / "peer_a")
        directory.results.mkdir()
        left = directory.results / "job_000001-0-1.safetensors"
        left.write_bytes(b"x")
        async with asyncio.timeout(DEADLINE_S), running(daemon.run()) as ran:
            await until(directory.status.exists, ran)
            assert not left.exists()

    asyncio.run(scenario())


def test_a_status_that_cannot_be_written_costs_the_note_alone(world):
    async def scenario():
        broker = BrokerServer.open(world.place)
        daemon = world.daemon("peer_a")
        PeerDirectory(world.folder / "peer_a").status.mkdir()
        async with (
            asyncio.timeout(DEADLINE_S), running(broker.serve()) as served,
            running(daemon.run()) as ran,
        ):
            await until(lambda: live(broker), served, ran)
            await asyncio.sleep(0.5)
            assert not ran.done()

    asyncio.run(scenario())


def test_a_peer_is_probed_now_and_then_only(world):
    daemon = world.daemon("peer_a")
    assert [daemon._probes.may("peer_b") for _ in range(3)] == [True, False, False]
    assert daemon._probes.may("peer_c")
