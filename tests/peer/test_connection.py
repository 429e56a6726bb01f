"""Whether the broker is there, and the words for why it is not."""

import time

from peer.cli.status import cut_in_words
from peer.connection import Connection, not_yet, up


def test_the_first_failure_of_a_row_says_since_when():
    lost = up(1_000).lost("the broker was silent", 2.5, 5_000)
    assert lost == Connection(
        is_up=False, since_unix_ms=5_000, reason="the broker was silent", retry_unix_ms=7_500)
    again = lost.lost("no route", 10.0, 8_000)
    assert (again.since_unix_ms, again.reason, again.retry_unix_ms) == (5_000, "no route", 18_000)
    assert up(9_000) == Connection(is_up=True, since_unix_ms=9_000)
    assert not_yet(3_000).lost("refused", 1.0, 4_000).since_unix_ms == 3_000


def test_the_words_name_reason_moment_and_next_attempt():
    now_ms = time.time_ns() // 1_000_000
    cut = {"since_unix_ms": now_ms - 60_000, "reason": "the broker was silent\x1b",
           "retry_unix_ms": now_ms + 9_900}
    words = cut_in_words({"connected": False, "connection": cut})
    assert words.startswith("Without its broker for 1m ")
    assert ": the broker was silent?. It tries again in 9." in words
    trying = cut | {"retry_unix_ms": now_ms - 1}
    assert "It tries again now" in cut_in_words({"connected": False, "connection": trying})
    assert cut_in_words({"connected": True, "connection": cut}) == ""
    assert cut_in_words({"connected": False}) == ""
