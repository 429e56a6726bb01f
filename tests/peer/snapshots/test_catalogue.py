"""Who must make room for whom: decided without a file."""

import random
from pathlib import Path

import pytest

from homespun.errors import Code, HomespunError
from peer.snapshots.catalogue import POSITIONS_MAX, Catalogue
from peer.snapshots.record import SnapshotKey, SnapshotRecord


def record(position, size, segment=0, source="peer_a"):
    return SnapshotRecord(
        SnapshotKey("job_1", segment, position), "d", size, "d", size, b"", source)


def catalogue(limit, *records, complete=None):
    return Catalogue(limit, {one.key: one for one in records}, complete=complete or {})


def test_nothing_goes_while_there_is_room():
    held = catalogue(30, record(1, 10), record(2, 10), complete={("job_1", 0): 9})
    assert held.going_for(record(3, 10), Path("part")) == []


def test_the_oldest_spares_go_and_no_more_of_them_than_it_takes():
    spares = [record(1, 10), record(2, 10), record(1, 10, segment=1), record(3, 10)]
    held = catalogue(50, *spares, record(8, 10), complete={("job_1", 0): 8, ("job_1", 1): 1})
    assert held.going_for(record(9, 15), Path("part")) == spares[:2]


def test_nothing_is_dropped_where_that_does_not_help():
    held = catalogue(20, record(1, 10), record(8, 10), complete={("job_1", 0): 8})
    with pytest.raises(HomespunError) as caught:
        held.going_for(record(9, 11), Path("part"))
    assert caught.value.code is Code.DISK_FULL
    assert caught.value.details == {"wanted_bytes": "11", "had_bytes": "10"}


def test_what_is_this_peers_own_neither_counts_nor_goes():
    own = record(1, 1_000, source="")
    held = catalogue(20, own, record(2, 10), complete={("job_1", 0): 8})
    assert held.going_for(record(9, 20), Path("part")) == [record(2, 10)]
    assert held.spares() == [own, record(2, 10)]


def test_parts_count_and_a_file_does_not_count_twice():
    held = catalogue(20, record(1, 10))
    held.parts = {Path("part"): record(2, 10)}
    assert held.going_for(record(2, 10), Path("part")) == []
    assert held.going_for(record(1, 10), Path("again")) == []
    with pytest.raises(HomespunError):
        held.going_for(record(3, 1), Path("other"))


def test_a_segment_has_a_bounded_number_of_positions():
    many = [record(10 * number, 0) for number in range(1, POSITIONS_MAX + 1)]
    full = catalogue(1, *many, complete={("job_1", 0): 10})
    assert full.going_for(record(30, 0), Path("part")) == []  # one that is here
    assert full.going_for(record(500, 0, segment=1), Path("part")) == []
    assert full.going_for(record(500, 0), Path("part")) == many[1:2], "complete stays"
    with pytest.raises(HomespunError) as caught:
        full.going_for(record(15, 0), Path("part"))
    assert caught.value.code is Code.LIMIT_EXCEEDED
    full.complete["job_1", 0] = 20
    assert full.going_for(record(500, 0), Path("part")) == many[:1]


def test_of_what_is_newer_than_complete_the_newest_stay():
    """However far a segment that replays comes ahead, complete serves the next takeover."""
    records = [record(position, 0, source="") for position in (3, 6, 9, 12, 15)]
    held = catalogue(1, *records, record(3, 0, segment=1), complete={("job_1", 0): 6})
    assert held.surplus("job_1", 0, 2) == [records[2]]
    assert held.surplus("job_1", 0, 3) == []
    assert held.surplus("job_1", 1, 1) == []


@pytest.mark.parametrize("seed", range(50))
def test_what_goes_is_spare_and_makes_room(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    records = [record(rng.randrange(8), rng.randrange(20), rng.randrange(3),
                      rng.choice(["", "peer_a"])) for _ in range(rng.randrange(12))]
    complete = {("job_1", segment): rng.randrange(8) for segment in range(3)}
    held = catalogue(rng.randrange(100), *records, complete=complete)
    wanted = record(rng.randrange(10), rng.randrange(40), rng.randrange(3))
    foreign = [one for one in held.records.values() if one.source and one.key != wanted.key]
    spares = [one for one in held.spares() if one in foreign]
    used = sum(one.content_bytes for one in foreign)
    freeable = sum(one.content_bytes for one in spares)
    if used - freeable + wanted.content_bytes > held.limit_bytes:
        with pytest.raises(HomespunError) as caught:
            held.going_for(wanted, Path("part"))
        assert caught.value.code is Code.DISK_FULL
        return
    going = held.going_for(wanted, Path("part"))
    assert all(one in spares for one in going)
    assert len(going) == len(set(going))
    freed = sum(one.content_bytes for one in going)
    assert used - freed + wanted.content_bytes <= held.limit_bytes
