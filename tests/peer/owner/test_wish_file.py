"""The owner's file: what is written is read, over restarts, and nothing else is believed."""

import pytest

from homespun.errors import Code, HomespunError
from peer.core.events import Availability
from peer.owner.core.wish import NO_WISH, Wish
from peer.owner.wish_file import WISH_BYTES_MAX, forget_wish, read_wish, write_wish
from peer.settings import PeerDirectory

PAUSE = Wish(id="a", availability=Availability.PAUSED, deadline_ms=30_000)


@pytest.fixture
def place(tmp_path):
    return PeerDirectory(tmp_path)


def test_nobody_has_said_anything(place):
    assert read_wish(place) == NO_WISH
    assert NO_WISH.availability is Availability.OPEN


def test_what_is_written_is_read_until_it_is_forgotten(place):
    write_wish(place, PAUSE)
    assert read_wish(place) == PAUSE
    forget_wish(place)
    forget_wish(place)
    assert read_wish(place) == NO_WISH


@pytest.mark.parametrize("content", [
    b"", b"{}", b'{"id": "a", "availability": "asleep"}', b"[" * 1_000,
    b'{"id": "a", "availability": "paused"' + b" " * WISH_BYTES_MAX + b"}",
])
def test_a_file_that_is_no_wish(place, content):
    place.wish.write_bytes(content)
    with pytest.raises(HomespunError) as caught:
        read_wish(place)
    assert caught.value.code is Code.BAD_CONFIGURATION
    assert str(place.wish) in caught.value.message
