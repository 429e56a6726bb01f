"""Giving snapshots to holders, in the order and at the time that the network allows.

The keeper here lets a test decide when a transfer ends; the real one has tests of its own, and
`test_lease_work` runs this with it.
"""

import asyncio
from pathlib import Path

import pytest

from homespun.errors import Code, HomespunError
from peer import snapshot_work as snapshot_work_module
from peer.core import commands as do
from peer.core import events as ev
from peer.executor.messages import SnapshotWritten
from peer.snapshot_work import OWN_POSITIONS_MAX, SnapshotWork
from peer.snapshots.keeper import Given, Kept

DEADLINE_S = 60
NEAR, FAR = (ev.Holder(peer_id=name, address="h:1") for name in ("peer_near", "peer_far"))


class Keeper:
    """Keeps at once; a transfer to a holder ends when the test says how."""

    def __init__(self):
        self.transfers = asyncio.Queue()
        self.thinned = []
        self.problem = None

    def path_for(self, job_id, segment, position):
        return Path(f"/{job_id}-{segment}-{position}")

    async def keep(self, job_id, segment, position, path):
        if self.problem is not None:
            raise self.problem
        return Kept(job_id, segment, position, f"{position:064x}", 9)

    async def give(self, kept, holders, data_shards):
        (holder,) = holders
        end = asyncio.get_running_loop().create_future()
        self.transfers.put_nowait((holder, kept.position, end))
        yield Given(holder, await end)

    async def thin(self, job_id, segment, most, spared):
        self.thinned.append((job_id, segment, most, set(spared)))


class Scene:
    """Snapshot work, its keeper, and what was posted."""

    def __init__(self):
        self.keeper = Keeper()
        self.events = asyncio.Queue()
        self.work = SnapshotWork(
            "job_000001", 0, "peer_a", self.keeper,
            lambda kind, **fields: self.events.put_nowait((kind, fields)))

    def holders(self, *holders):
        self.work.set_holders(do.SetHolders(
            job_id="job_000001", segment=0, token=1, holders=holders, data_shards=1))

    async def write(self, position):
        """A snapshot that is on the own disk when this returns."""
        self.work.written(SnapshotWritten(
            path="x", position=position, size_bytes=9, copy_s=0.5, write_s=0.1))
        assert await self.told() == (position, "peer_a")

    async def told(self):
        kind, fields = await self.events.get()
        assert kind is ev.SnapshotHeld, (kind, fields)
        self.giving_s = fields["giving_s"]
        return fields["position"], fields["holder"]

    async def failed(self):
        kind, fields = await self.events.get()
        assert kind is ev.SnapshotFailed, (kind, fields)
        return fields["position"], fields["code"]


def run(test):
    async def bounded():
        scene = Scene()
        async with asyncio.timeout(DEADLINE_S):
            await test(scene)
            await scene.work.close()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left
    asyncio.run(bounded())


def test_a_slow_holder_delays_no_other():
    async def scenario(scene):
        scene.holders(NEAR, FAR)
        await scene.write(10)
        ends = {holder: end for holder, _, end in [
            await scene.keeper.transfers.get() for _ in range(2)]}
        ends[NEAR].set_result(None)
        assert await scene.told() == (10, "peer_near")
        await scene.write(20)
        holder, position, end = await scene.keeper.transfers.get()
        assert (holder, position) == (NEAR, 20)
        end.set_result(None)
        assert await scene.told() == (20, "peer_near")
        assert not ends[FAR].done()

    run(scenario)


def test_what_is_on_its_way_arrives_and_then_the_newest_is_given():
    async def scenario(scene):
        scene.holders(FAR)
        await scene.write(10)
        _, position, end = await scene.keeper.transfers.get()
        assert position == 10
        await scene.write(20)
        await scene.write(30)
        assert not end.cancelled()
        end.set_result(None)
        assert await scene.told() == (10, "peer_far")
        _, position, end = await scene.keeper.transfers.get()
        assert position == 30  # not 20: it is old already
        end.set_result(None)
        assert await scene.told() == (30, "peer_far")
        assert scene.keeper.transfers.empty()

    run(scenario)


def test_a_holder_that_fails_is_tried_again_and_sooner_when_there_is_news(monkeypatch):
    monkeypatch.setattr(snapshot_work_module, "RETRY_FIRST_S", 0.001)

    async def scenario(scene):
        scene.holders(FAR)
        await scene.write(10)
        _, _, end = await scene.keeper.transfers.get()
        end.set_result(HomespunError(Code.UNREACHABLE, "away"))
        assert await scene.failed() == (10, "UNREACHABLE")
        _, _, end = await scene.keeper.transfers.get()
        end.set_result(HomespunError(Code.NOT_ALLOWED, "no"))  # waits for half a minute
        assert await scene.failed() == (10, "NOT_ALLOWED")
        await scene.write(20)
        _, position, end = await scene.keeper.transfers.get()
        assert position == 20
        end.set_result(None)
        assert await scene.told() == (20, "peer_far")

    run(scenario)


def test_a_new_holder_gets_the_newest_and_an_old_one_no_more():
    async def scenario(scene):
        await scene.write(10)
        scene.holders(FAR)
        _, _, end = await scene.keeper.transfers.get()
        scene.holders(NEAR)
        holder, position, near = await scene.keeper.transfers.get()
        assert (holder, position) == (NEAR, 10)
        near.set_result(None)
        assert await scene.told() == (10, "peer_near")
        assert end.cancelled()
        scene.holders(NEAR)
        assert scene.keeper.transfers.empty()

    run(scenario)


def test_positions_that_never_become_complete_do_not_pile_up():
    async def scenario(scene):
        await scene.write(10)
        await scene.write(20)
        await scene.work.close()
        assert scene.keeper.thinned == [("job_000001", 0, OWN_POSITIONS_MAX, set())] * 2

    run(scenario)


def test_what_is_on_its_way_over_a_slow_line_is_not_thinned_and_its_time_is_told(monkeypatch):
    async def scenario(scene):
        loop, passed_s = asyncio.get_running_loop(), 0.0
        time = loop.time
        monkeypatch.setattr(loop, "time", lambda: time() + passed_s)
        scene.holders(FAR)
        await scene.write(10)
        assert scene.giving_s == 0.0, "the own disk is given nothing"
        _, _, end = await scene.keeper.transfers.get()
        for position in range(20, 20 + 10 * OWN_POSITIONS_MAX, 10):
            await scene.write(position)
        passed_s = 40.0
        end.set_result(None)
        assert await scene.told() == (10, "peer_far")
        assert 40.0 <= scene.giving_s < 100.0
        _, newest, end = await scene.keeper.transfers.get()
        await scene.write(1_000)
        await scene.work.close()
        spared = [each for *_, each in scene.keeper.thinned]
        assert spared[1:-1] == [{10}] * OWN_POSITIONS_MAX
        assert spared[-1] == {newest}

    run(scenario)


@pytest.mark.parametrize(("problem", "code"), [
    (HomespunError(Code.DISK_FULL, "full"), "DISK_FULL"), (ZeroDivisionError("x"), "INTERNAL")])
def test_a_snapshot_that_cannot_be_kept_is_told(problem, code):
    async def scenario(scene):
        scene.keeper.problem = problem
        scene.work.written(SnapshotWritten(
            path="x", position=10, size_bytes=9, copy_s=0.5, write_s=0.1))
        assert await scene.failed() == (10, code)

    run(scenario)


def test_a_closed_lease_gives_nothing_any_more():
    async def scenario(scene):
        scene.holders(FAR)
        await scene.write(10)
        await scene.keeper.transfers.get()
        await scene.work.close()
        scene.holders(NEAR)
        assert scene.keeper.transfers.empty()

    run(scenario)
