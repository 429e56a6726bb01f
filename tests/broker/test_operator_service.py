"""What operators see and do, over real connections to a broker with peers and a job."""

import asyncio
import contextlib
import itertools
import json
import sys
from pathlib import Path

import grpc
import pytest
from blake3 import blake3

from broker.core import views
from broker.core.events import JobSubmitted
from broker.core.limits import DRAIN_MAX_MS
from broker.core.state import IdentityRecord
from dag.job import ColumnRef, JobSpec, OptimizerSpec, ParameterRef, TrainingSpec
from homespun.errors import Code
from homespun.identity.channels import open_aio_channel
from homespun.rpc_errors import error_of
from homespun.v1 import operator_pb2, operator_pb2_grpc, session_pb2
from ir import serde
from ir.graph import Graph, Node, TensorType
from tests.broker.live_broker import make_place, register, serving, stream, until

WIDE, WEIGHT = TensorType("float32", (2, 4)), TensorType("float32", (4, 4))
GRAPH = serde.dump(Graph(
    opset=23, inputs=("x",), parameters=("w",), outputs=("loss",), constants={},
    nodes=(Node(0, "m", "MatMul", ("x", "w"), ("m",)),
           Node(1, "loss", "ReduceMean", ("m",), ("loss",), {"keepdims": 0})),
    types={"x": WIDE, "w": WEIGHT, "m": WIDE, "loss": TensorType("float32", ())}))
SNAPSHOT = "ab" * 32
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(network):
    return make_place(network, reconnect_grace_ms=100, lease_ttl_ms=600_000)


def spec():
    return JobSpec(
        name="t", graph_digest=blake3(GRAPH).hexdigest(), graph_bytes=len(GRAPH), peers=1,
        parameters=(ParameterRef(name="w", aliases=(), digest="1" * 64, blob_bytes=100,
                                 type=WEIGHT, trainable=True),),
        columns=(ColumnRef(name="x", split="train", digest="2" * 64, blob_bytes=200,
                           type=TensorType("float32", (8, 4))),),
        training=TrainingSpec(steps=100, batch_size=4, microbatches=2, seed=0,
                              optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1)))


class Peer:
    """A peer's end of its stream."""

    def __init__(self, peer_id, call):
        self.peer_id, self._call, self._numbers = peer_id, call, itertools.count(1)
        self.heard = asyncio.Queue()

    async def listen(self):
        """A read that is cancelled ends the stream, so one task reads for all who wait."""
        while (message := await self._call.read()) is not grpc.aio.EOF:
            self.heard.put_nowait(message)

    async def hears(self, kind):
        """The next message of a kind; what comes before it is passed over."""
        while (message := await self.heard.get()).WhichOneof("body") != kind:
            pass
        return getattr(message, kind)

    async def reports(self, job_id, token, **body):
        await self._call.write(session_pb2.PeerMessage(report=session_pb2.Report(
            number=next(self._numbers), job_id=job_id, segment=0, token=token, **body)))


@contextlib.asynccontextmanager
async def peers(network, broker, *names):
    async with contextlib.AsyncExitStack() as stack:
        found = [
            Peer(f"peer_{name}", await stack.enter_async_context(stream(
                network, broker, f"peer_{name}", register(name=f"box-{name}"))))
            for name in names]
        listening = [asyncio.create_task(peer.listen()) for peer in found]
        yield found
        for task in listening:
            task.cancel()
        await asyncio.wait(listening)


async def first_to_hear(kind, *peers):
    """The peer that hears a kind of message first, the others, and what it hears."""
    tasks = {asyncio.create_task(peer.hears(kind)): peer for peer in peers}
    done, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in late:
        task.cancel()
    (task,) = done
    return tasks[task], [tasks[other] for other in late], task.result()


async def submit(broker):
    path = broker.blobs.path(spec().graph_digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(GRAPH)
    broker.driver.core.state.identities["client_1"] = IdentityRecord(
        identity="client_1", role="submitter", name="x", key_id="key_x", admitted_at_ns=0)
    return (await broker.driver.ask(JobSubmitted(
        at_ns=0, request_id="r", owner_id="client_1", submission_id="s", spec=spec()))).value


async def called(network, broker, method, request, role="operator"):
    """What an RPC answers, or the error that it ends with."""
    credentials = network.member(role)
    async with open_aio_channel(credentials, broker.settings.address) as channel:
        call = getattr(operator_pb2_grpc.OperatorServiceStub(channel), method)(request)
        try:
            if isinstance(call, grpc.aio.UnaryStreamCall):
                return [part async for part in call]
            return await call
        except grpc.RpcError as error:
            return error_of(error, "the broker")


async def command(place, *arguments):
    """A `broker` command in a process of its own: its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "broker", *arguments, "--dir", str(place.root),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT)
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


def test_a_job_that_runs_is_backed_up_seen_and_moved(place, network):
    """Ranked in a child process, kept by the other peer, handed over when its own is drained."""

    async def scenario():
        async with serving(place) as broker, peers(network, broker, "a", "b") as both:
            job_id = await submit(broker)
            holder, (backup,), assigned = await first_to_hear("assign", *both)
            assert (assigned.position, assigned.HasField("snapshot")) == (0, False)
            await holder.reports(job_id, assigned.token, ready=session_pb2.SegmentReady())
            started = await holder.hears("start")
            assert [member.peer_id for member in started.members] == [holder.peer_id]

            duty = await backup.hears("stand_by")
            assert (duty.level, duty.source) == ("hot", holder.peer_id)
            job = broker.driver.core.state.jobs[job_id]
            await until(lambda: job.ranking)
            assert {peer_id for peer_id, _ in job.ranking[0]} == {"peer_a", "peer_b"}
            await backup.reports(job_id, duty.token, standby=session_pb2.StandbyReady(level="hot"))

            steps = session_pb2.StepsDone(first_step=0, count=40, losses=[1.0] * 40)
            await holder.reports(job_id, assigned.token, steps=steps)
            await holder.reports(job_id, assigned.token, snapshot=session_pb2.SnapshotStored(
                position=30, digest=SNAPSHOT, size_bytes=100, holder=backup.peer_id,
                data_shards=1, seconds=0.01))
            complete = await holder.hears("snapshot_complete")
            assert (complete.position, complete.token) == (30, assigned.token)

            await until(lambda: not views.backup_view(broker.driver.core.state)[0].gap)
            ((one,),) = (part.segments for part in await called(
                network, broker, "GetBackups", operator_pb2.GetBackupsRequest()))
            assert (one.job_id, one.segment, one.position, one.latest_position, one.gap) == (
                job_id, 0, 30, 30, "")
            assert one.peer.peer_id == holder.peer_id
            assert [(kept.peer_id, kept.name) for kept in one.holders] == [
                (backup.peer_id, backup.peer_id.replace("peer_", "box-"))]
            assert [(by.peer_id, by.level) for by in one.standbys] == [(backup.peer_id, "hot")]
            code, text = await command(place, "backups")
            assert code == 0, text
            for cell in (f"{job_id}/0", holder.peer_id.replace("peer_", "box-"), "(hot)"):
                assert cell in text
            code, text = await command(place, "backups", "--json")
            assert json.loads(text)["segments"][0]["position"] == 30
            code, text = await command(place, "peers")
            assert code == 0, text
            assert text.count(f"{job_id}/0") == 2  # one runs it, one stands by for it

            code, text = await command(
                place, "drain", holder.peer_id.replace("peer_", "box-"), "--deadline", "30s")
            assert code == 0, text
            moved = await backup.hears("assign")
            assert moved.position == 30
            assert moved.snapshot.digest == SNAPSHOT
            assert [kept.peer_id for kept in moved.snapshot.holders] == [backup.peer_id]
            assert (await holder.hears("revoke")).token == assigned.token
            view = views.job(broker.driver.core, job_id)
            assert view.state == "recovering"
            assert "segment 0 moves to" in view.reason

    asyncio.run(scenario())


def test_a_drained_peer_is_seen_as_such_until_it_is_used_again(place, network):
    async def scenario():
        async with serving(place) as broker, peers(network, broker, "a1", "b1") as both:
            await until(lambda: len(views.peers(broker.driver.core)) == len(both))
            code, text = await command(place, "drain", "peer_a", "--deadline", "10m", "--json")
            assert code == 0, text
            said = json.loads(text)["peer"]
            assert (said["peer_id"], said["is_drained"]) == ("peer_a1", True)
            assert int(said["drain_unix_ms"]) > 0
            peer = broker.driver.core.state.peers["peer_a1"]
            assert not peer.is_open
            code, text = await command(place, "peers")
            assert "drained by 2" in text  # and a time
            code, text = await command(place, "drain", "box-a1", "--undo")
            assert (code, text) == (0, "box-a1 (peer_a1) may be used again.\n")
            assert peer.is_open
            code, text = await command(place, "peers", "--json")
            assert [(p["availability"], p["is_drained"], p["drain_unix_ms"])
                    for p in json.loads(text)["peers"]] == [("open", False, "0")] * 2

    asyncio.run(scenario())


@pytest.mark.parametrize(("request_", "code"), [
    ({"peer": "peer_"}, Code.CONFLICT),
    ({"peer": "peer_c"}, Code.NOT_FOUND),
    ({"peer": ""}, Code.NOT_FOUND),
    ({"peer": "\x1b" * 100_000}, Code.NOT_FOUND),
    ({"peer": "peer_a", "deadline_ms": -1}, Code.INVALID_ARGUMENT),
    ({"peer": "peer_a", "deadline_ms": DRAIN_MAX_MS + 1}, Code.INVALID_ARGUMENT),
], ids=["several", "none", "nothing", "long", "past", "far"])
def test_a_peer_that_is_not_one_is_not_drained(place, network, request_, code):
    async def scenario():
        async with serving(place) as broker, peers(network, broker, "a", "b"):
            await until(lambda: len(views.peers(broker.driver.core)) == 2)
            error = await called(
                network, broker, "DrainPeer", operator_pb2.DrainPeerRequest(**request_))
            assert error.code is code
            assert len(error.message) < 300
            assert all(peer.is_open for peer in broker.driver.core.state.peers.values())

    asyncio.run(scenario())


@pytest.mark.parametrize("role", ["peer", "submitter"])
@pytest.mark.parametrize(("method", "request_"), [
    ("DrainPeer", operator_pb2.DrainPeerRequest(peer="peer_a")),
    ("GetBackups", operator_pb2.GetBackupsRequest())])
def test_only_operators_may(place, network, role, method, request_):
    async def scenario():
        async with serving(place) as broker:
            error = await called(network, broker, method, request_, role)
            assert error.code is Code.NOT_ALLOWED

    asyncio.run(scenario())


def test_a_deadline_for_the_undo_is_a_usage_error(place, network):
    code, text = asyncio.run(command(place, "drain", "box", "--undo", "--deadline", "1m"))
    assert code == 2
    assert "--undo" in text
