"""One lease at work, with a real executor process: nothing may end in silence."""

import asyncio
import contextlib
import os

import numpy as np
import psutil
import pytest

from dag.cluster import Correction, PeerRates
from homespun.blobs.store import BlobStore
from homespun.errors import Code, HomespunError
from homespun.identity.channels import open_aio_channel
from ir.operators import OpClass
from peer import lease_work as lease_work_module
from peer.blob_cache import BlobCache
from peer.core import commands as do
from peer.core import events as ev
from peer.core.phases import Mode
from peer.frames import Kind, opaque_frame, tensor_frame
from peer.lease_work import LeaseWork, Surroundings
from peer.links import dialer
from peer.metering import Meter
from peer.priority import Priority
from peer.snapshots.keeper import SnapshotKeeper
from peer.standby_work import StandbyParts, Standbys
from peer.vitals import VitalsLog

DEADLINE_S = 120
RATES = PeerRates(matmul_flops_per_s=1e12, attention_flops_per_s=1e12, memory_bytes_per_s=1e11)
LEARNT = Correction(direction="forward", op_class=OpClass.MATMUL, factor=1.5)
LEASE = {"job_id": "job_000001", "segment": 0}
FORWARD = ev.Task(kind=ev.TaskKind.FORWARD, mode=Mode.TRAIN, step=0)


class World:
    """The surroundings of leases, and the events that they post."""

    def __init__(self, tmp_path, tiny, network, *, filled=True):
        self.tiny = tiny
        self.events = asyncio.Queue()
        self.learnt = []
        self.duty = 1.0
        self.booked = []
        store = BlobStore(tmp_path / "blobs")
        for data in tiny.blobs.values() if filled else ():
            store.put(data)
        credentials = network.member("peer", "peer_a")
        def peer_channel(address, peer):
            return open_aio_channel(credentials, address, peer)

        shared = {
            "executor": "null", "device": "cpu", "threads": 1, "priority": Priority.NORMAL,
            "cache": BlobCache(store, 1 << 30), "scratch": tmp_path / "results",
            "keeper": SnapshotKeeper(tmp_path / "snapshots", peer_channel),
            "broker_channel": lambda: open_aio_channel(credentials, "127.0.0.1:1"),
            "post": self.events.put_nowait, "rates": lambda: RATES,
            "lent_bytes": lambda: 0, "broker_route": lambda job_id: dialer.unmetered()}
        self.around = Surroundings(
            **shared, peer_id="peer_a", peer_channel=peer_channel, learn=self.learn,
            standbys=Standbys(StandbyParts(**shared)), vitals=VitalsLog(tmp_path),
            duty=lambda: self.duty, meter=Meter(), book=self.book)

    def book(self, *given):
        self.booked.append(given)

    def learn(self, predicted, typical_s):
        self.learnt.append((predicted, typical_s))
        return (LEARNT,)

    @contextlib.asynccontextmanager
    async def lease(self, token=1, **fields):
        async with asyncio.timeout(DEADLINE_S):
            load = do.LoadSegment(
                **LEASE, token=token, spec=self.tiny.spec, program=self.tiny.segments[0], **fields)
            work = LeaseWork(load, self.around)
            try:
                yield work
            finally:
                await work.unload()

    async def next(self, kind):
        event = await self.events.get()
        assert isinstance(event, kind), event
        return event


@pytest.fixture
def world(tmp_path, tiny, peer_network):
    return World(tmp_path, tiny, peer_network)


def test_a_lease_loads_and_leaves_nothing(world):
    async def scenario():
        async with world.lease() as work:
            work.load()
            assert (await world.next(ev.SegmentLoaded)).token == 1
            pid = work._process.pid
        await world.next(ev.SegmentUnloaded)
        assert not psutil.pid_exists(pid)
        assert world.around.cache._held == {}

    asyncio.run(scenario())


def test_a_lease_waits_for_the_memory_of_the_one_before(world):
    async def scenario():
        gate = asyncio.Event()

        async def unload():
            await gate.wait()

        before = asyncio.create_task(unload())
        async with world.lease(token=2) as work:
            work.load(after=[before])
            await asyncio.sleep(0.1)
            assert work._process is None
            gate.set()
            assert (await world.next(ev.SegmentLoaded)).token == 2

    asyncio.run(scenario())


def test_a_defect_in_an_order_breaks_the_lease(world):
    async def defect():
        raise ZeroDivisionError("a defect")

    async def scenario():
        async with world.lease() as work:
            work._order(defect)
            broke = await world.next(ev.SegmentBroke)
            assert broke.code == Code.INTERNAL
            assert "a defect" in broke.message

    asyncio.run(scenario())


def test_a_tensor_without_a_neighbour_breaks_the_lease(world):
    async def scenario():
        async with world.lease() as work:
            work.send_norms(do.SendNorms(**LEASE, token=1, step=0, squared_norms=()))
            assert (await world.next(ev.SegmentBroke)).code == Code.INTERNAL

    asyncio.run(scenario())


def test_a_broker_that_is_away_while_loading_breaks_the_lease(tmp_path, tiny, peer_network):
    async def scenario():
        world = World(tmp_path, tiny, peer_network, filled=False)
        async with world.lease() as work:
            work.load()
            assert (await world.next(ev.SegmentBroke)).code == Code.UNREACHABLE

    asyncio.run(scenario())


def test_an_executor_that_is_killed_breaks_the_lease(world):
    async def scenario():
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
            psutil.Process(work._process.pid).kill()
            broke = await world.next(ev.SegmentBroke)
            assert broke.code == Code.EXECUTOR_DIED
            assert broke.cause == "killed"
            assert "ended with SIGKILL" in broke.evidence

    asyncio.run(scenario())


def test_an_executor_that_never_answers_breaks_the_lease(world, monkeypatch):
    async def scenario():
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
            psutil.Process(work._process.pid).suspend()
            monkeypatch.setattr(lease_work_module, "ANSWER_TIMEOUT_S", 0.2)
            work.run_task(do.RunTask(**LEASE, token=1, task=FORWARD))
            assert (await world.next(ev.SegmentBroke)).code == Code.STALLED

    asyncio.run(scenario())


def test_a_full_disk_gives_up_what_no_lease_holds_and_is_said_so(
    tmp_path, tiny, peer_network, monkeypatch
):
    """The store is real; only the system call that writes says that the disk is full."""
    async def scenario():
        world = World(tmp_path, tiny, peer_network, filled=False)
        unused = world.around.cache.store.put(b"of an older job")

        async def download(stub, digest, size_bytes, store, pace):
            store.append(digest, size_bytes, 0, tiny.blobs[digest])

        def full(handle, data):
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr("peer.lease_fetch.download_aio", download)
        monkeypatch.setattr(os, "write", full)
        async with world.lease() as work:
            work.load()
            broke = await world.next(ev.SegmentBroke)
            monkeypatch.undo()
            assert broke.code == Code.DISK_FULL
            assert not world.around.cache.store.stat(unused).complete

    asyncio.run(scenario())


def test_unloading_twice_is_no_harm(world):
    async def scenario():
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
            await work.unload()
            await work.unload()

    asyncio.run(scenario())


def test_a_lease_teaches_once_what_its_tasks_took(world):
    async def scenario():
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
            assert {found.direction for found in work._predicted} == {"forward", "backward"}
            for kind in (ev.TaskKind.FORWARD, ev.TaskKind.BACKWARD):
                for _ in range(5):
                    work._times.begin(kind, 0.0)
                    work._times.end(kind, 0.25, 0.25, 1.0)
            assert work._learn() == (LEARNT,)
            assert work._learn() == ()
        (learnt,) = world.learnt
        assert sum(found.seconds for found in learnt[0]) > 0
        assert learnt[1] == {"forward": 0.25, "backward": 0.25}

    asyncio.run(scenario())


def test_a_lease_that_ran_too_little_teaches_nothing(world):
    async def scenario():
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
        assert world.learnt == []

    asyncio.run(scenario())


GRADIENT = {"kind": Kind.GRADIENT, "source": 1, "target": 0}
TRAINING = {"mode": Mode.TRAIN, "step": 0}


def gradient(world, microbatch=0):
    (tensor,) = world.tiny.segments[0].outgoing
    array = np.ones(tensor.type.shape, tensor.type.dtype)
    return tensor_frame(array=array, edge=tensor.edge, microbatch=microbatch, **GRADIENT)


async def task(world, work, kind, microbatch=0):
    one = ev.Task(kind=kind, microbatch=microbatch, **TRAINING)
    work.run_task(do.RunTask(**LEASE, token=1, task=one))
    assert (await world.next(ev.TaskFinished)).task == one


async def one_step(world, work):
    """Segment 0 through step 0: it needs two gradients."""
    for microbatch in (0, 1):
        await task(world, work, ev.TaskKind.FORWARD, microbatch)
        arriving = asyncio.create_task(work._on_frame(gradient(world, microbatch)))
        arrived = await world.next(ev.TensorReceived)
        work.take_arrival(do.TakeArrival(**LEASE, token=1, arrival=arrived.arrival))
        await task(world, work, ev.TaskKind.BACKWARD, microbatch)
        await arriving
    await task(world, work, ev.TaskKind.MEASURE)
    await task(world, work, ev.TaskKind.UPDATE)


def test_an_arrival_waits_until_it_is_judged_and_goes_before_later_tasks(world):
    async def scenario():
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
            await task(world, work, ev.TaskKind.FORWARD)
            arriving = asyncio.create_task(work._on_frame(gradient(world)))
            arrived = await world.next(ev.TensorReceived)
            assert (arrived.kind, arrived.microbatch) == (ev.TensorKind.GRADIENT, 0)
            assert not arriving.done()  # the link brings nothing more
            work.take_arrival(do.TakeArrival(**LEASE, token=1, arrival=arrived.arrival))
            await task(world, work, ev.TaskKind.BACKWARD)
            await arriving

    asyncio.run(scenario())


def test_what_arrived_is_kept_when_its_link_goes(world):
    async def scenario():
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
            await task(world, work, ev.TaskKind.FORWARD)
            arriving = asyncio.create_task(work._on_frame(gradient(world)))
            arrived = await world.next(ev.TensorReceived)
            arriving.cancel()
            await asyncio.wait((arriving,))
            again = asyncio.create_task(work._on_frame(gradient(world)))  # the next link's
            second = await world.next(ev.TensorReceived)
            assert second.arrival != arrived.arrival
            work.drop_arrival(do.DropArrival(**LEASE, token=1, arrival=second.arrival))
            await again
            work.take_arrival(do.TakeArrival(**LEASE, token=1, arrival=arrived.arrival))
            await task(world, work, ev.TaskKind.BACKWARD)
            assert work._arrivals == {}

    asyncio.run(scenario())


def test_numbers_that_cannot_be_read_are_refused_and_not_kept(world):
    async def scenario():
        async with world.lease() as work:
            with pytest.raises(HomespunError) as caught:
                await work._on_frame(opaque_frame(Kind.NORMS, b"\xc1", source=1))
            assert caught.value.code is Code.INVALID_ARGUMENT
            assert work._arrivals == {}
            assert world.events.empty()

    asyncio.run(scenario())


def test_a_snapshot_is_kept_offered_and_gone_on_from(world):
    async def scenario():
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
            await one_step(world, work)
            work.take_snapshot(do.TakeSnapshot(**LEASE, token=1, position=1))
            held = await world.next(ev.SnapshotHeld)
            assert (held.position, held.holder, held.shard) == (1, "peer_a", 0)
            assert held.seconds > 0
            # A holder that is away: told, and tried again beside the segment's work.
            work.set_holders(do.SetHolders(
                **LEASE, token=1, data_shards=1,
                holders=(ev.Holder(peer_id="peer_c", address="127.0.0.1:1"),)))
            assert (await world.next(ev.SnapshotFailed)).position == 1
        await world.next(ev.SegmentUnloaded)

        source = ev.SnapshotSource(
            digest=held.digest, size_bytes=held.size_bytes, data_shards=1, holders=())
        async with world.lease(token=2, position=1, snapshot=source) as work:
            work.load()
            again = await world.next(ev.SnapshotHeld)
            assert (again.token, again.position, again.digest) == (2, 1, held.digest)
            assert (await world.next(ev.SegmentLoaded)).token == 2

    asyncio.run(scenario())


def test_a_state_is_put_together_from_snapshots_of_an_earlier_cut(world):
    """The segment's own next snapshot is filed behind those of the cut before."""
    async def scenario():
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
            await one_step(world, work)
            work.take_snapshot(do.TakeSnapshot(**LEASE, token=1, position=1))
            held = await world.next(ev.SnapshotHeld)
        await world.next(ev.SegmentUnloaded)

        part = ev.SnapshotPart(serial=0, source=ev.SnapshotSource(
            digest=held.digest, size_bytes=held.size_bytes, data_shards=1, holders=()))
        async with world.lease(token=2, position=1, parts=(part,), first_serial=3) as work:
            work.load()
            assert (await world.next(ev.SegmentLoaded)).token == 2
            work.take_snapshot(do.TakeSnapshot(**LEASE, token=2, position=1))
            own = await world.next(ev.SnapshotHeld)
            assert (own.token, own.position) == (2, 1)
        kept = world.around.keeper.held()
        assert [(one.segment, one.position) for one in kept] == [(0, 1), (3, 1)]

    asyncio.run(scenario())


@pytest.mark.parametrize("serials", [(9,), (0, 9)])
def test_a_part_that_is_nowhere_breaks_the_lease(world, serials):
    async def scenario():
        parts = tuple(ev.SnapshotPart(serial=serial, source=ev.SnapshotSource(
            digest="ab" * 32, size_bytes=9, data_shards=1, holders=())) for serial in serials)
        async with world.lease(position=1, parts=parts) as work:
            work.load()
            broke = await world.next(ev.SegmentBroke)
            assert broke.code == Code.NOT_FOUND

    asyncio.run(scenario())


def test_a_snapshot_that_is_nowhere_breaks_the_lease(world):
    async def scenario():
        source = ev.SnapshotSource(digest="ab" * 32, size_bytes=9, data_shards=1, holders=())
        async with world.lease(position=1, snapshot=source) as work:
            work.load()
            broke = await world.next(ev.SegmentBroke)
            assert broke.code == Code.NOT_FOUND

    asyncio.run(scenario())


def test_a_freed_executor_is_no_failure_and_the_log_stays(world):
    async def scenario():
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
            await task(world, work, ev.TaskKind.FORWARD)
            pid = work.pid
            work.free_executor()
            await work._ending
            assert not psutil.pid_exists(pid)
            assert world.events.empty()
            assert work._neighbours._log.end(1) == 1
        await world.next(ev.SegmentUnloaded)

    asyncio.run(scenario())


def test_a_lease_goes_on_with_what_a_standby_has_compiled(world):
    async def scenario():
        world.around.standbys.prepare(do.PrepareStandby(
            **LEASE, token=5, spec=world.tiny.spec, program=world.tiny.segments[0],
            level=ev.StandbyLevel.HOT, source="peer_b"))
        for level in ev.StandbyLevel:
            assert (await world.next(ev.StandbyPrepared)).level is level
        pid = world.around.standbys._process.pid
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
            assert work.pid == pid
            await one_step(world, work)
        assert not psutil.pid_exists(pid)
        assert world.around.cache._held == {}

    asyncio.run(scenario())


@pytest.mark.parametrize(("task_s", "duty", "rest_s"), [
    (4.0, 1.0, 0.0), (4.0, 0.5, 4.0), (4.0, 0.8, 1.0), (0.0, 0.1, 0.0), (4.0, 0.1, 10.0)])
def test_a_device_works_a_share_of_the_time(task_s, duty, rest_s):
    assert lease_work_module.rest_after(task_s, duty) == pytest.approx(rest_s)


def test_a_task_that_rests_comes_later_and_sends_do_not_wait_for_it(world):
    async def scenario():
        async with world.lease() as work:
            work.load()
            await world.next(ev.SegmentLoaded)
            work._task_s, world.duty = 9.0, 0.5
            work.run_task(do.RunTask(**LEASE, token=1, task=FORWARD))
            assert work._orders.empty()
            assert work._rest.when() > asyncio.get_running_loop().time() + 8.0
            work._task_s = 0.0
            await task(world, work, ev.TaskKind.FORWARD)
        assert work._rest.cancelled()

    asyncio.run(scenario())
