"""Processes that take more memory than is lent end, the largest one, with the reason."""

import os

import pytest

from homespun.errors import Code
from peer.memory_watch import FRAMEWORK_BYTES, MemoryLimits, over_limit, private_bytes

GIB = 1 << 30


@pytest.mark.parametrize(("leases", "lease_limit", "ram_limit", "ends"), [
    ({}, 1, 1, None),
    ({7: 100 * GIB}, 0, 0, None),
    ({7: 3 * GIB}, 2 * GIB, 0, None),
    ({7: 4 * GIB}, 2 * GIB, 0, 7),
    ({7: 2 * GIB, 8: 4 * GIB}, 2 * GIB, 0, 8),
    ({7: 2 * GIB, 8: 1 * GIB}, 0, 4 * GIB, None),
    ({7: 2 * GIB, 8: 2 * GIB}, 0, 4 * GIB, 8),
])
def test_the_largest_ends(leases, lease_limit, ram_limit, ends):
    found = over_limit(GIB // 2, leases, MemoryLimits(lease_limit, ram_limit))
    assert (found and found[0]) == ends
    if found:
        assert found[1].code is Code.OUT_OF_MEMORY
        assert "GiB" in found[1].message
    assert FRAMEWORK_BYTES == GIB


def test_what_is_measured_grows_with_what_is_held():
    before = private_bytes([os.getpid()])[os.getpid()]
    held = bytearray(b"x") * (64 << 20)
    assert private_bytes([os.getpid()])[os.getpid()] > before + (48 << 20)
    assert len(held) == 64 << 20
    assert private_bytes([2**22 + 12345]) == {}
