"""Messages are fitted to lines of any rate, in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun.pieces import FIRST_BYTES, LEAST_BYTES, PIECE_S, Pieces

MOST = 1 << 20
MBIT = 125_000


def sent_over(pieces, rate, size_bytes, buffer_bytes=0):
    """Seconds of each message of a transfer over a line with a buffer before it."""
    free_s = now_s = 0.0
    seconds = []
    while size_bytes > 0:
        part = min(pieces.size_bytes, size_bytes)
        began_s = now_s
        free_s = max(free_s, now_s) + part / rate
        now_s = max(now_s, free_s - buffer_bytes / rate)  # the transport has taken it
        pieces.took(part, now_s - began_s)
        seconds.append(part / rate)
        size_bytes -= part
    return seconds


@pytest.mark.parametrize("mbit_per_s", [0.1, 0.25, 0.5, 1, 2, 5, 20])
@pytest.mark.parametrize("buffer_bytes", [0, 256 << 10])
def test_after_a_few_messages_one_takes_about_a_quarter_of_a_second(mbit_per_s, buffer_bytes):
    rate = mbit_per_s * MBIT
    seconds = sent_over(Pieces(MOST), rate, buffer_bytes + int(60 * rate), buffer_bytes)
    fitted_s = max(PIECE_S, LEAST_BYTES / rate)
    assert max(seconds[len(seconds) // 2:]) <= 2 * fitted_s
    assert max(seconds) <= max(2 * fitted_s, 2 * buffer_bytes / rate, FIRST_BYTES / rate)


def test_a_fast_line_gets_large_messages_soon():
    pieces = Pieces(MOST)
    assert len(sent_over(pieces, 1e9, 8 * MOST)) <= 12
    assert pieces.size_bytes == MOST


def test_a_line_that_has_become_slow_is_followed_at_once():
    pieces = Pieces(MOST)
    sent_over(pieces, 1e9, 8 * MOST)
    pieces.took(MOST, MOST / (0.5 * MBIT))
    assert pieces.size_bytes <= 2 * PIECE_S * 0.5 * MBIT


def test_a_small_message_tells_nothing():
    pieces = Pieces(MOST)
    pieces.took(64, 0.0)
    pieces.took(64, 30.0)
    assert pieces.size_bytes == FIRST_BYTES


@given(st.integers(1, 4 << 20), st.lists(st.tuples(
    st.integers(0, 4 << 20), st.floats(0, 1e6, allow_nan=False)), max_size=50))
def test_the_bounds_hold_over_any_course(most, course):
    pieces = Pieces(most)
    for sent_bytes, seconds in course:
        pieces.took(sent_bytes, seconds)
        assert min(LEAST_BYTES, most) <= pieces.size_bytes <= most
