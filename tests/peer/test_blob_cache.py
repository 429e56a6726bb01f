"""The peer's cache against its limit."""

import os

import pytest

from homespun.blobs.store import BlobStore
from peer.blob_cache import BlobCache


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path / "blobs")


def put(store, number, age_s=0):
    digest = store.put(bytes([number]) * 1_000)
    os.utime(store.path(digest), (10_000_000 - age_s, 10_000_000 - age_s))
    return digest


def present(store, *digests):
    return [store.stat(digest).complete for digest in digests]


def test_the_least_recently_used_blobs_go_first(store):
    old, older, new = put(store, 1, 10), put(store, 2, 20), put(store, 3)
    BlobCache(store, 3_000).make_room(1_500)
    assert present(store, older, old, new) == [False, False, True]


def test_nothing_goes_while_there_is_room(store):
    digests = [put(store, number) for number in range(3)]
    BlobCache(store, 4_000).make_room(1_000)
    assert all(present(store, *digests))


def test_what_a_lease_holds_stays_whatever_the_limit(store):
    held, free = put(store, 1, 99), put(store, 2)
    cache = BlobCache(store, 0)
    cache.hold("lease", [held])
    cache.make_room(10_000)
    assert present(store, held, free) == [True, False]
    cache.release("lease")
    cache.clear()
    assert store.used_bytes == 0


def test_use_counts_not_arrival(store):
    first, second = put(store, 1, 20), put(store, 2, 10)
    cache = BlobCache(store, 1_500)
    cache.hold("lease", [first])
    cache.release("lease")
    cache.make_room(0)
    assert present(store, first, second) == [True, False]


def test_parts_of_broken_downloads_go_too(store):
    digest = put(store, 1)
    store.remove(digest)
    store.append(digest, 1_000, 0, bytes([1]) * 400)
    BlobCache(store, 0).clear()
    assert store.stat(digest).stored_bytes == 0
    assert store.used_bytes == 0
