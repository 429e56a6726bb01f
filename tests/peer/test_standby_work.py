"""Standbys with real executor processes: what is prepared, what a lease gets, what is told."""

import asyncio
import contextlib
import dataclasses
from types import SimpleNamespace

import psutil
import pytest

from dag.cluster import PeerRates
from homespun.blobs.store import BlobStore
from homespun.errors import Code
from homespun.identity.channels import open_aio_channel
from peer.blob_cache import BlobCache
from peer.core import commands as do
from peer.core import events as ev
from peer.core.events import StandbyLevel
from peer.executor_process import ExecutorProcess
from peer.links.dialer import unmetered
from peer.priority import Priority
from peer.snapshots.keeper import SnapshotKeeper
from peer.standby_work import StandbyParts, Standbys, bytes_max

DEADLINE_S = 120
RATES = PeerRates(matmul_flops_per_s=1e12, attention_flops_per_s=1e12, memory_bytes_per_s=1e11)
STORE, WARM, HOT = StandbyLevel.STORE, StandbyLevel.WARM, StandbyLevel.HOT


class World:
    """The parts of a daemon that standbys need, and the events that they post."""

    def __init__(self, tmp_path, tiny, network, *, filled=True):
        self.tiny = tiny
        self.events = asyncio.Queue()
        store = BlobStore(tmp_path / "blobs")
        for data in tiny.blobs.values() if filled else ():
            store.put(data)
        credentials = network.member("peer", "peer_a")
        self.keeper = SnapshotKeeper(
            tmp_path / "snapshots", lambda address, peer: open_aio_channel(
                credentials, address, peer))
        self.cache = BlobCache(store, 1 << 30)
        self.scratch = tmp_path / "results"
        self.standbys = Standbys(StandbyParts(
            executor="null", device="cpu", threads=1, priority=Priority.NORMAL, cache=self.cache,
            scratch=self.scratch, keeper=self.keeper,
            broker_channel=lambda: open_aio_channel(credentials, "127.0.0.1:1"),
            post=self.events.put_nowait, rates=lambda: RATES,
            lent_bytes=lambda: 0, broker_route=lambda job_id: unmetered()))

    def command(self, segment, level, token=7, **changes):
        return dataclasses.replace(
            do.PrepareStandby(
                job_id="job_000001", segment=segment, token=token, spec=self.tiny.spec,
                program=self.tiny.segments[segment], level=level, source="peer_b"), **changes)

    def with_executor(self, name):
        """From now on processes are asked for another executor."""
        self.standbys._parts = dataclasses.replace(self.standbys._parts, executor=name)

    def prepare(self, *args, **changes):
        self.standbys.prepare(self.command(*args, **changes))

    async def take(self, segment, **changes):
        program = dataclasses.replace(self.tiny.segments[segment], **changes)
        return await self.standbys.take("job_000001", program)

    async def drop(self, segment, token=7):
        await self.standbys.drop(do.DropStandby(
            job_id="job_000001", segment=segment, token=token))

    async def levels(self, count):
        """(segment, level) of the next answers."""
        found = []
        for _ in range(count):
            event = await self.events.get()
            assert isinstance(event, ev.StandbyPrepared), event
            found.append((event.segment, event.level))
        return found

    async def until(self, reached):
        """Wait until each of the segments has last told the level given."""
        last = set()
        while last != reached:
            segment, level = (await self.levels(1))[0]
            last = {item for item in last if item[0] != segment} | {(segment, level)}

    async def broke(self):
        event = await self.events.get()
        assert isinstance(event, ev.StandbyBroke), event
        return event

    @property
    def processes(self):
        return [child.pid for child in psutil.Process().children()
                if "peer.executor.child" in child.cmdline()]


@pytest.fixture
def world(tmp_path, tiny, peer_network):
    return World(tmp_path, tiny, peer_network)


def run(world, test):
    async def bounded():
        async with asyncio.timeout(DEADLINE_S):
            try:
                await test
            finally:
                await world.standbys.close()
        assert world.processes == []
    asyncio.run(bounded())


def test_a_keeper_only_lets_the_source_put_snapshots(world):
    async def scenario():
        world.prepare(0, STORE)
        assert await world.levels(1) == [(0, STORE)]
        permit = world.keeper.server.permits["job_000001", 0]
        assert (permit.source, permit.bytes_max) == (
            "peer_b", bytes_max(world.tiny.spec, world.tiny.segments[0]))
        assert world.processes == []
        await world.drop(0)
        assert world.keeper.server.permits == {}

    run(world, scenario())


def test_a_hot_standby_gives_its_process_to_the_lease(world):
    async def scenario():
        world.prepare(0, HOT)
        assert await world.levels(3) == [(0, STORE), (0, WARM), (0, HOT)]
        (pid,) = world.processes
        prepared = await world.take(0)
        assert prepared.process.pid == pid
        assert prepared.loaded is not None
        assert prepared.result_path.parent == world.scratch
        assert world.keeper.server.permits == {}
        assert world.cache._held  # until the lease holds them itself
        world.standbys.release("job_000001", 0)
        assert world.cache._held == {}
        await world.standbys.close()
        assert world.processes == [pid]  # it is the lease's now
        await prepared.process.close()

    run(world, scenario())


def test_a_lease_that_comes_while_its_segment_is_compiled_waits_for_that(world):
    async def scenario():
        world.prepare(0, HOT)
        await world.levels(2)
        prepared = await world.take(0)
        assert prepared is not None
        await prepared.process.close()

    run(world, scenario())


@pytest.mark.parametrize("turns", range(0, 40, 6))
def test_a_lease_may_come_at_any_moment_of_preparing(world, turns):
    async def scenario():
        world.prepare(0, HOT)
        for _ in range(turns):
            await asyncio.sleep(0.002)
        prepared = await world.take(0)
        if prepared is not None:
            assert prepared.process.pid in world.processes
            await prepared.process.close()

    run(world, scenario())


def test_one_process_serves_all_and_one_segment_is_hot(world):
    async def scenario():
        world.prepare(0, HOT)
        await world.levels(3)
        world.prepare(1, HOT)
        assert await world.levels(2) == [(1, STORE), (1, WARM)]
        assert len(world.processes) == 1
        await world.drop(0)
        assert len(world.processes) == 1  # a bare one, for segment 1
        prepared = await world.take(1)
        assert prepared.loaded is None
        await prepared.process.close()

    run(world, scenario())


def test_a_backup_changes_over_to_another_segment_in_the_same_process(world):
    async def scenario():
        world.prepare(0, HOT)
        world.prepare(1, WARM)
        await world.until({(0, HOT), (1, WARM)})
        (pid,) = world.processes
        world.prepare(0, WARM)
        world.prepare(1, HOT)
        await world.until({(0, WARM), (1, HOT)})
        prepared = await world.take(1)
        assert prepared.loaded is not None
        assert prepared.process.pid == pid
        await prepared.process.close()

    run(world, scenario())


def test_a_process_that_is_hot_for_another_segment_is_taken_and_that_is_told(world):
    """Only its framework is of use, but that is what takes seconds."""
    async def scenario():
        world.prepare(0, HOT)
        await world.levels(3)
        (pid,) = world.processes
        prepared = await world.take(1)
        assert prepared.loaded is None
        assert prepared.process.pid == pid
        broke = await world.broke()
        assert (broke.segment, broke.token) == (0, 7)
        await prepared.process.close()

    run(world, scenario())


def test_a_lease_goes_before_the_end_of_what_it_could_use(world):
    """The broker revokes a backup's other standbys in the same breath as it grants it a lease."""
    async def scenario():
        world.prepare(0, HOT)
        await world.levels(3)
        taken = asyncio.create_task(world.take(1))
        dropped = asyncio.create_task(world.drop(0))
        prepared = await taken
        assert prepared is not None
        await dropped
        await prepared.process.close()

    run(world, scenario())


def test_a_bare_process_is_given_to_any_segment_and_that_is_told(world):
    async def scenario():
        world.prepare(0, WARM)
        await world.levels(2)
        prepared = await world.take(1)
        assert prepared.loaded is None
        assert (await world.broke()).segment == 0
        await world.drop(0)
        await prepared.process.close()

    run(world, scenario())


@pytest.fixture
def loading(monkeypatch):
    """Frameworks take until `end` is set; `begun` is set when somebody waits for one."""
    events = SimpleNamespace(begun=asyncio.Event(), end=asyncio.Event())
    started = ExecutorProcess.started

    async def slowly(process):
        events.begun.set()
        await events.end.wait()
        await started(process)

    monkeypatch.setattr(ExecutorProcess, "started", slowly)
    return events


def test_nobody_is_warm_before_its_process_has_its_framework_loaded(world, loading):
    """Loading takes seconds: the broker would choose it before one that could begin at once."""
    async def scenario():
        world.prepare(0, WARM)
        assert await world.levels(1) == [(0, STORE)]
        await loading.begun.wait()
        world.prepare(1, WARM)
        assert await world.levels(1) == [(1, STORE)]
        assert world.events.empty()
        loading.end.set()
        assert sorted(await world.levels(2)) == [(0, WARM), (1, WARM)]
        assert len(world.processes) == 1

    run(world, scenario())


def test_a_framework_that_cannot_be_loaded_is_told(world):
    async def scenario():
        world.with_executor("nonsense")
        world.prepare(0, WARM)
        assert await world.levels(1) == [(0, STORE)]
        broke = await world.broke()
        assert (broke.code, broke.segment) == (Code.BAD_CONFIGURATION, 0)
        assert "nonsense" in broke.message

    run(world, scenario())


def test_who_waits_for_a_process_that_a_lease_takes_gets_another(world, loading):
    async def scenario():
        world.prepare(0, WARM)
        await world.levels(1)
        await loading.begun.wait()
        prepared = await world.take(1)
        loading.end.set()
        assert await world.levels(1) == [(0, WARM)]
        assert prepared.process.pid in world.processes
        assert len(world.processes) == 2
        await prepared.process.close()

    run(world, scenario())


def test_a_standby_asked_for_again_is_not_compiled_twice(world):
    async def scenario():
        world.prepare(0, HOT)
        await world.levels(3)
        (pid,) = world.processes
        world.prepare(0, HOT, token=8)
        assert await world.levels(3) == [(0, STORE), (0, WARM), (0, HOT)]
        assert world.processes == [pid]
        await world.drop(0)  # of the older token: void
        assert world.processes == [pid]
        await world.drop(0, token=8)
        assert world.processes == []

    run(world, scenario())


def test_a_process_ends_when_its_last_standby_only_keeps_snapshots_from_now_on(world):
    async def scenario():
        world.prepare(0, WARM)
        await world.levels(2)
        (pid,) = world.processes
        process = psutil.Process(pid)
        world.prepare(0, STORE)
        await asyncio.to_thread(psutil.wait_procs, [process], timeout=DEADLINE_S)
        assert world.processes == []

    run(world, scenario())


def test_a_process_that_dies_is_told(world):
    async def scenario():
        world.prepare(0, HOT)
        await world.levels(3)
        psutil.Process(world.processes[0]).kill()
        broke = await world.broke()
        assert broke.code == Code.EXECUTOR_DIED
        assert await world.take(0) is None

    run(world, scenario())


def test_blobs_that_cannot_be_had_are_told(tmp_path, tiny, peer_network):
    world = World(tmp_path, tiny, peer_network, filled=False)

    async def scenario():
        world.prepare(0, WARM)
        await world.levels(1)
        assert (await world.broke()).code == Code.UNREACHABLE
        await world.drop(0)

    run(world, scenario())


def test_a_program_that_cannot_be_loaded_is_told_and_leaves_a_bare_process(world):
    async def scenario():
        wrong = dataclasses.replace(world.tiny.segments[0], nodes=(77,))
        with contextlib.suppress(KeyError):
            world.prepare(0, HOT, program=wrong)
        event = await world.events.get()
        while isinstance(event, ev.StandbyPrepared):
            event = await world.events.get()
        assert isinstance(event, ev.StandbyBroke)
        prepared = await world.take(0)
        assert prepared is None or prepared.loaded is None
        if prepared is not None:
            await prepared.process.close()

    run(world, scenario())


def test_another_cut_s_segment_of_the_same_number_is_not_taken_for_it(world):
    async def scenario():
        world.prepare(0, HOT)
        await world.levels(3)
        prepared = await world.take(0, parameters=())
        assert prepared.loaded is None, "it has compiled another program"
        await prepared.process.close()

    run(world, scenario())


@pytest.mark.parametrize("is_dropped", [True, False])
def test_another_cut_s_segment_of_the_same_number_is_compiled_anew(world, is_dropped):
    """Whether the end of the old standby comes before the new one or not at all."""
    async def scenario():
        world.prepare(0, HOT)
        await world.levels(3)
        assert list(world.keeper.server.permits) == [("job_000001", 0)]
        if is_dropped:
            ending = asyncio.create_task(world.drop(0))
        program = world.tiny.segments[1]
        program = dataclasses.replace(program, index=0)
        world.prepare(0, HOT, token=8, program=program, first_serial=2)
        await world.until({(0, HOT)})
        assert list(world.keeper.server.permits) == [("job_000001", 2)]
        if is_dropped:
            await ending
        prepared = await world.standbys.take("job_000001", program)
        assert prepared.loaded is not None
        await prepared.process.close()

    run(world, scenario())
