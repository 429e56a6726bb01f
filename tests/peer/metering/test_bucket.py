"""A rate is kept over any course of messages, and evenly."""

from hypothesis import given, settings
from hypothesis import strategies as st

from peer.metering.bucket import BURST_S, TokenBucket

RATE = 1_000


def test_without_a_rate_nothing_waits():
    bucket = TokenBucket()
    bucket.take(10**9, 0.0)
    assert bucket.wait_s(0, 0.0) == 0.0


def test_a_message_goes_whole_and_the_next_one_waits_for_it():
    bucket = TokenBucket()
    assert bucket.wait_s(RATE, 10.0) == 0.0
    bucket.take(3_000, 10.0)
    assert bucket.wait_s(RATE, 10.0) == 3.0
    assert bucket.wait_s(RATE, 12.5) == 0.5
    assert bucket.wait_s(RATE, 13.0) == 0.0


def test_a_rate_that_is_changed_holds_for_what_is_owed():
    bucket = TokenBucket()
    bucket.wait_s(RATE, 0.0)
    bucket.take(3_000, 0.0)
    assert bucket.wait_s(10 * RATE, 1.0) == 0.2
    assert bucket.wait_s(0, 1.0) == 0.0
    assert bucket.wait_s(RATE, 1.0) == 0.0, "nothing is owed after a time without limit"


def test_unused_rate_does_not_pile_up():
    bucket = TokenBucket()
    bucket.wait_s(RATE, 0.0)
    bucket.wait_s(RATE, 1_000.0)
    bucket.take(RATE, 1_000.0)
    assert bucket.wait_s(RATE, 1_000.0) == 1.0 - BURST_S


@settings(max_examples=200, deadline=None, print_blob=True)
@given(st.lists(st.tuples(st.integers(1, 5_000), st.floats(0, 3)), min_size=1, max_size=50))
def test_over_any_course_no_more_goes_than_the_rate_and_one_message(messages):
    bucket, now_s, gone = TokenBucket(), 0.0, 0
    bucket.wait_s(RATE, now_s)
    for size, pause_s in messages:
        now_s += pause_s
        now_s += bucket.wait_s(RATE, now_s)
        assert gone <= RATE * (now_s + BURST_S) + 1e-6
        bucket.take(size, now_s)
        gone += size
