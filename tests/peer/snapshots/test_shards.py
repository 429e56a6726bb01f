"""Shards on several holders: any enough of them give the snapshot, whatever the others do."""

import pytest

from homespun.blobs.store import digest_of
from homespun.errors import Code, HomespunError
from peer.core.events import SnapshotSource
from peer.snapshots import gathering
from tests.peer.snapshots.conftest import JOB, MIB, A, B, C, D, homes, noise, run

DATA_SHARDS = 2


def source_of(kept, *holders):
    return SnapshotSource(digest=kept.digest, size_bytes=kept.size_bytes,
                          data_shards=DATA_SHARDS, holders=holders)


@pytest.fixture
def fleet(home):
    """The source, three keepers of one shard each, and one who has nothing."""
    source, *keepers = (home(name) for name in (A, B, C, D))
    for one in keepers:
        one.keeper.permit(JOB, 0, A, 64 * MIB)
    return source, keepers, home("peer_e")


def damage(one, shard):
    path = one.root / f"{JOB}-0-10-s{shard}of{DATA_SHARDS}"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


async def given(source, keepers, data, position=10):
    kept = await source.write(data, position)
    holders = [one.holder(shard) for shard, one in enumerate(keepers)]
    assert await source.give(kept, *holders, data_shards=DATA_SHARDS) == ["", "", ""]
    return kept, holders


@pytest.mark.parametrize("size", [0, 1, 3 * MIB + 1])
def test_any_enough_shards_give_the_snapshot(fleet, size):
    async def scenario():
        source, keepers, taker = fleet
        data = noise(size)
        async with homes(source, *keepers, taker):
            kept, holders = await given(source, keepers, data)
            for shard, one in enumerate(keepers):
                (held,) = one.keeper.held()
                assert (held.digest, held.size_bytes) == (kept.digest, size)
                assert (held.shard, held.data_shards) == (shard, DATA_SHARDS)
            assert source.positions == [10]  # no shard stays at its maker
            assert len(list(source.root.iterdir())) == 2
            for lost in range(3):
                left = [one for shard, one in enumerate(holders) if shard != lost]
                path = await taker.keeper.fetch(JOB, 0, 10, source_of(kept, *left))
                assert path.read_bytes() == data
                assert len(list(taker.root.iterdir())) == 2
                await taker.keeper.drop(JOB, 0)
    run(scenario())


def test_unreachable_and_damaged_holders_are_passed_over(fleet, monkeypatch):
    monkeypatch.setattr(gathering, "PAUSE_S", 0.01)

    async def scenario():
        source, keepers, taker = fleet
        async with homes(source, *keepers, taker):
            kept, holders = await given(source, keepers, noise(3 * MIB))
            damage(keepers[0], 0)
            path = await taker.keeper.fetch(JOB, 0, 10, source_of(kept, *holders))
            assert digest_of(path) == kept.digest
            await taker.keeper.drop(JOB, 0)
            holders[1] = keepers[1].holder(1, port=1)
            with pytest.raises(HomespunError) as caught:
                await taker.keeper.fetch(JOB, 0, 10, source_of(kept, *holders))
            assert caught.value.code in (Code.UNREACHABLE, Code.NOT_FOUND)
            assert taker.keeper.held() == []
            # What arrived stays for the next try.
            before = taker.keeper.client.tally.received_bytes
            holders[1] = keepers[1].holder(1)
            await taker.keeper.fetch(JOB, 0, 10, source_of(kept, *holders))
            assert taker.keeper.client.tally.received_bytes - before == 1.5 * MIB
            assert len(list(taker.root.iterdir())) == 2
    run(scenario())


def test_a_shard_that_lies_is_found_by_those_beyond_need(fleet):
    async def scenario():
        source, keepers, taker = fleet
        async with homes(source, *keepers, taker):
            kept, holders = await given(source, keepers, noise(MIB + 7))
            # The second keeper's shard is replaced by another one that fits its own record.
            store = keepers[1].keeper._store
            (record,) = store.records()
            staging = store.staging(record.key)
            staging.write_bytes(noise(record.content_bytes, 9))
            store.adopt(record.key, staging, shard_of=(kept.digest, kept.size_bytes))
            path = await taker.keeper.fetch(JOB, 0, 10, source_of(kept, *holders))
            assert digest_of(path) == kept.digest
            await taker.keeper.drop(JOB, 0)
            with pytest.raises(HomespunError) as caught:
                await taker.keeper.fetch(JOB, 0, 10, source_of(kept, *holders[:2]))
            assert caught.value.code is Code.DIGEST_MISMATCH
            assert list(taker.root.iterdir()) == []
    run(scenario())


def test_the_shard_on_ones_own_disk_is_not_asked_for(fleet):
    async def scenario():
        source, keepers, _ = fleet
        async with homes(source, *keepers):
            kept, holders = await given(source, keepers, noise(4 * MIB))
            taker = keepers[2]
            path = await taker.keeper.fetch(JOB, 0, 10, source_of(kept, *holders))
            assert digest_of(path) == kept.digest
            assert taker.keeper.client.tally.received_bytes == 2 * MIB
            assert [(held.shard, held.data_shards) for held in taker.keeper.held()] == [
                (0, 1), (2, DATA_SHARDS)]
    run(scenario())


def test_shards_send_only_what_changed_too(fleet):
    async def scenario():
        source, keepers, _ = fleet
        data = bytearray(noise(8 * MIB))
        async with homes(source, *keepers):
            await given(source, keepers, bytes(data))
            data[0] ^= 1
            sent = source.keeper.client.tally.sent_bytes
            assert sent == 3 * 4 * MIB
            await given(source, keepers, bytes(data), 20)
            # One chunk of the first slice, and the same one of the parity.
            assert source.keeper.client.tally.sent_bytes - sent == 2 * MIB
    run(scenario())
