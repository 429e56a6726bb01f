import errno
import os
import threading
from random import Random

import pytest

from homespun.blobs import store as store_module
from homespun.blobs.store import BlobState, BlobStore, digest_of
from homespun.errors import Code, HomespunError

DATA = Random(7).randbytes(300_000)
DIGEST = digest_of(DATA)


def test_digest_is_blake3_256_of_bytes_and_files(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest_of(b"") == empty
    assert digest_of(tmp_path / "x") == empty


def test_pieces_make_a_blob(tmp_path):
    store = BlobStore(tmp_path / "blobs")
    assert store.stat(DIGEST) == BlobState(False, 0)
    assert store.append(DIGEST, len(DATA), 0, DATA[:100]) == BlobState(False, 100)
    assert store.stat(DIGEST) == BlobState(False, 100)
    assert store.append(DIGEST, len(DATA), 100, DATA[100:]) == BlobState(True, len(DATA))
    assert store.path(DIGEST).read_bytes() == DATA
    assert store.used_bytes == len(DATA)
    with store.open_read(DIGEST, 299_990) as file:
        assert file.read() == DATA[299_990:]


def test_empty_blob(tmp_path):
    store = BlobStore(tmp_path)
    assert store.append(digest_of(b""), 0, 0, b"") == BlobState(True, 0)
    assert store.path(digest_of(b"")).read_bytes() == b""


def test_a_complete_blob_is_left_alone(tmp_path):
    store = BlobStore(tmp_path)
    store.put(DATA)
    assert store.append(DIGEST, len(DATA), 5, b"zzz") == BlobState(True, len(DATA))
    assert store.path(DIGEST).read_bytes() == DATA


def test_parts_survive_a_restart_even_truncated(tmp_path):
    BlobStore(tmp_path).append(DIGEST, len(DATA), 0, DATA[:200_000])
    with next(tmp_path.glob("??/*.part")).open("r+b") as part:
        part.truncate(150_000)
    store = BlobStore(tmp_path)
    assert store.stat(DIGEST) == BlobState(False, 150_000)
    assert store.used_bytes == 150_000
    assert store.append(DIGEST, len(DATA), 150_000, DATA[150_000:]).complete


def test_wrong_offset_tells_the_right_one(tmp_path):
    store = BlobStore(tmp_path)
    store.append(DIGEST, len(DATA), 0, DATA[:100])
    with pytest.raises(HomespunError) as caught:
        store.append(DIGEST, len(DATA), 99, DATA[99:200])
    assert caught.value.code == Code.CONFLICT
    assert caught.value.details["stored_bytes"] == "100"
    assert store.stat(DIGEST).stored_bytes == 100


def test_wrong_bytes_are_discarded_and_the_right_ones_then_taken(tmp_path):
    store = BlobStore(tmp_path)
    with pytest.raises(HomespunError) as caught:
        store.append(DIGEST, 3, 0, b"abc")
    assert caught.value.code == Code.DIGEST_MISMATCH
    assert store.stat(DIGEST) == BlobState(False, 0)
    assert store.used_bytes == 0
    assert store.append(DIGEST, len(DATA), 0, DATA).complete


def test_part_longer_than_the_announced_blob_is_discarded(tmp_path):
    store = BlobStore(tmp_path)
    small = digest_of(b"small")
    store.append(small, 1000, 0, b"x" * 900)
    with pytest.raises(HomespunError) as caught:
        store.append(small, 5, 0, b"small")
    assert (caught.value.code, caught.value.details["stored_bytes"]) == (Code.CONFLICT, "0")
    assert store.append(small, 5, 0, b"small").complete


@pytest.mark.parametrize(("size", "offset", "data", "code"), [
    (3, 0, b"abcd", Code.LIMIT_EXCEEDED),
    (-1, 0, b"", Code.INVALID_ARGUMENT),
    (3, -1, b"", Code.INVALID_ARGUMENT),
    (1 << 60, 0, b"", Code.INVALID_ARGUMENT),
])
def test_sizes_are_bounded(tmp_path, size, offset, data, code):
    with pytest.raises(HomespunError) as caught:
        BlobStore(tmp_path).append(DIGEST, size, offset, data)
    assert caught.value.code == code
    assert list(tmp_path.glob("??/*")) == []


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_only_digests_reach_the_file_system(tmp_path, digest):
    store = BlobStore(tmp_path)
    calls = (store.path, store.stat, store.open_read, store.remove,
             lambda text: store.append(text, 1, 0, b"x"))
    for call in calls:
        with pytest.raises(HomespunError) as caught:
            call(digest)
        assert caught.value.code == Code.INVALID_ARGUMENT


def test_quota_refuses_at_the_first_byte_and_remove_frees(tmp_path):
    store = BlobStore(tmp_path, quota_bytes=300_100)
    store.put(DATA)
    other = os.urandom(200)
    for call in (lambda: store.append(digest_of(other), 200, 0, other[:1]),
                 lambda: store.put(other)):
        with pytest.raises(HomespunError) as caught:
            call()
        assert caught.value.code == Code.LIMIT_EXCEEDED
    assert store.used_bytes == 300_000
    assert store.remove(DIGEST) == 300_000
    assert store.put(other) == digest_of(other)
    assert store.used_bytes == 200


def test_put_of_files_and_of_what_is_there(tmp_path):
    store = BlobStore(tmp_path / "blobs")
    (tmp_path / "file").write_bytes(DATA)
    store.append(DIGEST, len(DATA), 0, DATA[:77])
    assert store.put(tmp_path / "file") == DIGEST
    assert store.put(tmp_path / "file") == DIGEST
    assert store.put(DATA) == DIGEST
    assert store.used_bytes == len(DATA)
    assert sum(path.is_file() for path in (tmp_path / "blobs").rglob("*")) == 1
    with pytest.raises(HomespunError) as caught:
        store.put(tmp_path / "none")
    assert caught.value.code == Code.NOT_FOUND


def test_reading_what_is_not_there(tmp_path):
    store = BlobStore(tmp_path)
    store.append(DIGEST, len(DATA), 0, DATA[:10])
    with pytest.raises(HomespunError) as caught:
        store.open_read(DIGEST)
    assert caught.value.code == Code.NOT_FOUND
    store.put(b"abc")
    with pytest.raises(HomespunError) as caught:
        store.open_read(digest_of(b"abc"), 4)
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_full_disk_loses_nothing_stored(tmp_path, monkeypatch):
    store = BlobStore(tmp_path)
    store.put(b"kept")
    store.append(DIGEST, len(DATA), 0, DATA[:1000])
    write = os.write
    room = [500]

    def full(handle, data):
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(handle, data[:room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "write", full)
        for call in (lambda: store.append(DIGEST, len(DATA), 1000, DATA[1000:]),
                     lambda: store.put(DATA[:5000])):
            with pytest.raises(HomespunError) as caught:
                call()
            assert caught.value.code == Code.DISK_FULL
    assert store.stat(DIGEST) == BlobState(False, 1000)
    assert store.used_bytes == 1004
    assert store.path(digest_of(b"kept")).read_bytes() == b"kept"
    assert list((tmp_path / "incoming").iterdir()) == []
    assert store.append(DIGEST, len(DATA), 1000, DATA[1000:]).complete


def test_concurrent_writers_of_one_digest_agree(tmp_path):
    store = BlobStore(tmp_path)
    failures = []

    def write():
        while not (state := store.stat(DIGEST)).complete:
            offset = state.stored_bytes
            try:
                store.append(DIGEST, len(DATA), offset, DATA[offset:offset + 1000])
            except HomespunError as error:
                if error.code != Code.CONFLICT:
                    failures.append(error)
                    return

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert store.path(DIGEST).read_bytes() == DATA
    assert store.used_bytes == len(DATA)


def test_unusable_directory(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HomespunError) as caught:
        BlobStore(tmp_path / "file")
    assert caught.value.code == Code.BAD_CONFIGURATION
