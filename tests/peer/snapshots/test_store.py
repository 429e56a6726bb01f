"""The directory: what survives a restart, what is swept, and what a full disk does."""

import contextlib
import errno
import os
import time

import pytest

from homespun.blobs.store import digest_of
from homespun.errors import Code, HomespunError
from peer.snapshots import assembly as assemblies
from peer.snapshots import index as indexes
from peer.snapshots import store as stores
from peer.snapshots.assembly import Assembly
from peer.snapshots.catalogue import POSITIONS_MAX
from peer.snapshots.record import SnapshotKey, SnapshotRecord, scan
from peer.snapshots.store import SnapshotStore
from tests.peer.snapshots.conftest import JOB, MIB, noise


def key_at(position, segment=0, job=JOB):
    return SnapshotKey(job, segment, position)


def written(store, data, position=10, **where):
    key = key_at(position, **where)
    path = store.staging(key)
    path.write_bytes(data)
    return store.adopt(key, path)


def offered(tmp_path, data, position=10, source="peer_a"):
    """The record that a sender of `data` offers."""
    file = tmp_path / "offered"
    file.write_bytes(data)
    content = scan(file)
    return SnapshotRecord(
        key_at(position), content.digest, content.size_bytes, content.digest, content.size_bytes,
        content.chunk_digests, source)


def fill(assembly, data):
    for index in sorted(assembly.missing):
        assembly.add(index, data[index * MIB:(index + 1) * MIB])
    assembly.finish()


def keys(store):
    return sorted(record.key.position for record in store.records())


@pytest.fixture
def root(tmp_path):
    return tmp_path / "snapshots"


def test_what_is_complete_survives_a_restart(root, tmp_path):
    store, data = SnapshotStore(root), noise(3 * MIB + 5)
    own = written(store, data)
    foreign = offered(tmp_path, noise(MIB, 2), 20)
    fill(Assembly(store, foreign), noise(MIB, 2))
    again = SnapshotStore(root)
    assert {record.key: record for record in again.records()} == {
        own.key: own, foreign.key: foreign}
    assert again.verified(own.key, digest_of(data)).read_bytes() == data


def test_what_is_torn_or_unfinished_is_dropped_at_start(root, tmp_path):
    store = SnapshotStore(root)
    for position in (10, 20, 30, 40, 50):
        written(store, noise(100, position), position)
    store.path(key_at(10)).write_bytes(b"short")
    store.path(key_at(20)).unlink()
    (root / f"{JOB}-0-30.record").unlink()
    (root / f"{JOB}-0-40.record").write_bytes(b'{"half": ')
    store.staging(key_at(60)).write_bytes(b"an executor died while it wrote")
    Assembly(store, offered(tmp_path, noise(MIB), 70))
    assert keys(SnapshotStore(root)) == [50]
    assert sorted(os.listdir(root)) == [f"{JOB}-0-50", f"{JOB}-0-50.record"]


def test_a_record_cannot_name_another_file(root):
    store = SnapshotStore(root)
    written(store, b"x")
    os.replace(root / f"{JOB}-0-10.record", root / "elsewhere.record")
    assert keys(SnapshotStore(root)) == []


def test_bytes_that_rotted_are_found_and_dropped(root):
    store = SnapshotStore(root)
    record = written(store, noise(100))
    store.path(record.key).write_bytes(noise(100, 2))
    assert store.verified(record.key, record.digest) is None
    assert keys(store) == keys(SnapshotStore(root)) == []


def test_jobs_that_nobody_asks_about_are_forgotten(root):
    store = SnapshotStore(root)
    old, asked = written(store, b"old"), written(store, b"asked", job="job_2")
    written(store, b"older", 5, job="job_2")
    week = 7 * 86_400
    assert len(SnapshotStore(root, clock=lambda: time.time() + week - 60).records()) == 3
    for name in (old.key, asked.key, key_at(5, job="job_2")):
        long_ago = time.time() - week - 60
        os.utime(root / f"{name.file_name}.record", (long_ago, long_ago))
    SnapshotStore.record(store, asked.key)
    assert {record.key.job_id for record in SnapshotStore(root).records()} == {"job_2"}


def test_forgetting_keeps_a_position_the_newer_ones_and_one_older(root, tmp_path):
    store = SnapshotStore(root)
    for position in (10, 20, 30, 40):
        written(store, noise(10, position), position)
        written(store, noise(10, position), position, segment=1)
    late = Assembly(store, offered(tmp_path, noise(MIB), 25))
    store.forget_before(JOB, 0, 30)
    store.forget_before(JOB, 0, 10)  # older news change nothing
    assert [record.key.position for record in store.records() if record.key.segment == 0] == [
        20, 30, 40]
    with pytest.raises(HomespunError) as caught:
        late.add(0, noise(MIB))
    assert caught.value.code is Code.CONFLICT
    store.drop(JOB, 0)
    assert {record.key.segment for record in store.records()} == {1}
    assert len(os.listdir(root)) == 8


def test_what_is_complete_in_a_new_cut_makes_older_cuts_superfluous(root):
    store = SnapshotStore(root)
    for segment in (0, 1):
        for position in (10, 20):
            written(store, noise(10, position), position, segment=segment)
    written(store, noise(10, 20), 20, segment=0, job="job_2")
    for position in (30, 40):
        written(store, noise(10, position), position, segment=2)
    store.forget_before(JOB, 2, 30, first_serial=2)
    left = {(record.key.segment, record.key.position) for record in store.records()
            if record.key.job_id == JOB}
    assert left == {(0, 20), (1, 20), (2, 30), (2, 40)}, "one older position, of either cut"
    assert store.drop_spares()
    assert {record.key.segment for record in store.records() if record.key.job_id == JOB} == {2}
    assert [record.key.job_id for record in store.records() if record.key.segment == 0] == ["job_2"]


def test_the_same_position_may_be_written_again(root):
    store = SnapshotStore(root)
    written(store, b"first")
    second = written(store, b"second")
    assert store.records() == (second,)
    assert SnapshotStore(root).records() == (second,)


def test_positions_of_others_are_bounded(root, tmp_path):
    store = SnapshotStore(root)
    for position in range(1, POSITIONS_MAX + 1):
        data = noise(10, position)
        fill(Assembly(store, offered(tmp_path, data, position)), data)
    store.forget_before(JOB, 0, 1)
    fill(Assembly(store, offered(tmp_path, b"more", 50)), b"more")
    assert keys(store) == [1, 3, 4, 5, 6, 7, 8, 50], "1 is complete"
    with pytest.raises(HomespunError) as caught:
        Assembly(store, offered(tmp_path, b"late", 2))
    assert caught.value.code is Code.LIMIT_EXCEEDED
    store.forget_before(JOB, 0, 3)  # 1 is a spare now
    fill(Assembly(store, offered(tmp_path, b"most", 60)), b"most")
    assert keys(store) == [3, 4, 5, 6, 7, 8, 50, 60]
    store.thin(JOB, 0, 2)
    assert keys(store) == [3, 50, 60]


class FullDisk:
    """Writes of chunks find no space while more than `room` files lie in the directory."""

    def __init__(self, monkeypatch, root, room):
        self.root, self.room, self.refused = root, room, 0
        self.write = assemblies._write_at
        monkeypatch.setattr(assemblies, "_write_at", self)

    def __call__(self, path, places, data):
        files = [name for name in os.listdir(self.root) if "." not in name]
        if len(files) > self.room:
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self.write(path, places, data)


def test_a_full_disk_loses_only_what_is_superseded(root, tmp_path, monkeypatch):
    store = SnapshotStore(root)
    for position in (10, 20):
        written(store, noise(10, position), position)
    disk = FullDisk(monkeypatch, root, room=1)
    assembly = Assembly(store, offered(tmp_path, noise(MIB), 30))
    with pytest.raises(HomespunError) as caught:
        assembly.add(0, noise(MIB))
    assert caught.value.code is Code.DISK_FULL
    assert keys(store) == [10, 20]
    assert not [name for name in os.listdir(root) if name.endswith(".part")]
    store.forget_before(JOB, 0, 20)
    fill(Assembly(store, offered(tmp_path, noise(MIB), 30)), noise(MIB))
    assert disk.refused == 2
    assert keys(store) == keys(SnapshotStore(root)) == [20, 30]


def test_a_directory_that_cannot_be_used_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HomespunError) as caught:
        SnapshotStore(tmp_path / "file")
    assert caught.value.code is Code.BAD_CONFIGURATION


def test_what_an_executor_left_half_written_goes_with_its_position(root):
    store = SnapshotStore(root)
    for position in (10, 20):
        store.staging(key_at(position)).write_bytes(b"half")
    store.staging(key_at(10, segment=1)).write_bytes(b"half")
    store.forget_before(JOB, 0, 20)
    assert sorted(os.listdir(root)) == [f"{JOB}-0-20.written", f"{JOB}-1-10.written"]
    store.drop(JOB, 0)
    assert os.listdir(root) == [f"{JOB}-1-10.written"]


def test_a_disk_that_fails_is_named(root, tmp_path, monkeypatch):
    store = SnapshotStore(root)

    def broken(path, places, data):
        raise OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(assemblies, "_write_at", broken)
    with pytest.raises(HomespunError, match="Input/output error") as caught:
        Assembly(store, offered(tmp_path, noise(MIB))).add(0, noise(MIB))
    assert caught.value.code is Code.BAD_CONFIGURATION


class Crash(BaseException):
    """The machine stops here."""


class Machine:
    """Stops before the n-th step that changes the disk."""

    STEPS = [(stores, "sync"), (stores, "remove_record"), (stores, "sync_directory"),
             (stores, "write_record"), (stores.os, "replace"), (indexes, "sync"),
             (indexes, "sync_directory")]

    def __init__(self, monkeypatch, steps):
        self.steps = steps
        for module, name in self.STEPS:
            monkeypatch.setattr(module, name, self.counted(getattr(module, name)))

    def counted(self, step):
        def run(*arguments):
            self.steps -= 1
            if self.steps < 0:
                raise Crash
            return step(*arguments)
        return run


def test_a_crash_at_any_step_leaves_nothing_torn(tmp_path, monkeypatch):
    for steps in range(100):
        root = tmp_path / str(steps)
        store = SnapshotStore(root)
        written(store, b"older", 5)
        written(store, b"before")
        with monkeypatch.context() as patched:
            machine = Machine(patched, steps)
            with contextlib.suppress(Crash):
                written(store, b"after, and longer")
        left = SnapshotStore(root)
        assert left.verified(key_at(5), digest_of(b"older"))
        if left.record(key_at(10)) is not None:
            content = left.path(key_at(10)).read_bytes()
            assert content in (b"before", b"after, and longer")
            assert left.verified(key_at(10), digest_of(content))
        assert len(os.listdir(root)) == 2 * len(left.records())
        if machine.steps >= 0:
            assert steps > 6
            break
