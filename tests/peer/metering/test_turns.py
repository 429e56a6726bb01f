"""Tensors before snapshots on one line, and snapshots all the same: in virtual time."""

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.metering.bucket import TokenBucket
from peer.metering.turns import BULK_SHARE, Turns, Urgency

KIB = 1 << 10
HALF_MBIT = 62_500


class Line:
    """A limited line: senders that have one message before it at a time, as streams do."""

    def __init__(self, rate):
        self.rate, self.bucket, self.turns = rate, TokenBucket(), Turns()
        self.bucket.wait_s(rate, 0.0)
        self.gone = {each: 0 for each in Urgency}
        self.waited = {each: [] for each in Urgency}

    def run(self, until_s, *sources):
        """Each source yields (ready at, bytes, urgency) and is sent when its message has gone."""
        waiting, now_s, number = {}, 0.0, len(sources)
        coming = [(0.0, index, source, next(source)) for index, source in enumerate(sources)]
        while now_s < until_s:
            while coming and coming[0][0] <= now_s:
                ready_s, _, source, (_, size, urgency) = heapq.heappop(coming)
                waiting[self.turns.join(size, urgency)] = (ready_s, source)
            first = self.turns.next()
            if first is None:
                now_s = coming[0][0]
                continue
            wait_s = self.bucket.wait_s(self.rate, now_s)
            if wait_s > 0:
                wait_s = min(wait_s, coming[0][0] - now_s) if coming else wait_s
                now_s += max(wait_s, 1e-9)  # time goes on, however little is owed
                continue
            self.turns.went(first)
            self.bucket.take(first.size_bytes, now_s)
            ready_s, source = waiting.pop(first)
            self.gone[first.urgency] += first.size_bytes
            self.waited[first.urgency].append(now_s - ready_s)
            number += 1
            message = source.send(now_s)
            heapq.heappush(coming, (message[0], number, source, message))


def bulk(size=16 * KIB):
    """A snapshot without end."""
    now_s = 0.0
    while True:
        now_s = yield now_s, size, Urgency.BULK


def steps(every_s, tensor_bytes, part=16 * KIB):
    """A boundary tensor at each step, in parts."""
    at_s = 0.0
    while True:
        now_s, left = at_s, tensor_bytes
        while left > 0:
            now_s = yield max(now_s, at_s), min(part, left), Urgency.TENSOR
            left -= part
        at_s = max(at_s + every_s, now_s)


def test_a_tensor_waits_for_one_message_of_a_snapshot_and_not_for_the_snapshot():
    line = Line(HALF_MBIT)
    line.run(300, bulk(), bulk(), bulk(), steps(2.0, 32 * KIB))
    share = 16 * KIB / HALF_MBIT
    assert max(line.waited[Urgency.TENSOR]) <= 2 * share
    assert line.gone[Urgency.TENSOR] >= 140 * 32 * KIB
    # The rest of the line is the snapshots'.
    assert sum(line.gone.values()) == pytest.approx(300 * HALF_MBIT, rel=0.05)


def test_first_come_first_served_would_have_held_the_tensor_up_longer():
    """What the discipline is for: the same course without it."""
    line = Line(HALF_MBIT)

    def equal(source):
        message = next(source)
        while True:
            now_s = yield message[0], message[1], Urgency.BULK
            message = source.send(now_s)

    line.run(300, bulk(), bulk(), bulk(), equal(steps(2.0, 32 * KIB)))
    assert max(line.waited[Urgency.BULK]) >= 3 * 16 * KIB / HALF_MBIT


def test_tensors_that_fill_the_line_leave_an_eighth_to_snapshots():
    line = Line(HALF_MBIT)
    line.run(600, bulk(), bulk(), bulk(), steps(0.0, 64 * KIB), steps(0.0, 64 * KIB))
    whole = sum(line.gone.values())
    assert line.gone[Urgency.BULK] / whole == pytest.approx(BULK_SHARE, rel=0.1)
    # None of three waits longer than its eighth of the line needs for a message of each.
    assert max(line.waited[Urgency.BULK]) <= 1.3 * 3 * 16 * KIB / (HALF_MBIT * BULK_SHARE)


def test_a_single_snapshot_is_not_starved_either():
    """Its next message comes a little after the one before it has gone."""
    line = Line(HALF_MBIT)
    line.run(600, bulk(), steps(0.0, 64 * KIB), steps(0.0, 64 * KIB))
    assert line.gone[Urgency.BULK] / sum(line.gone.values()) >= 0.8 * BULK_SHARE


@pytest.mark.parametrize("urgency", list(Urgency))
def test_who_is_alone_has_the_whole_line(urgency):
    line = Line(HALF_MBIT)
    source = bulk() if urgency is Urgency.BULK else steps(0.0, 64 * KIB)
    line.run(100, source)
    assert line.gone[urgency] == pytest.approx(100 * HALF_MBIT, rel=0.02)


@settings(max_examples=200, deadline=None, print_blob=True)
@given(st.lists(st.tuples(st.sampled_from(list(Urgency)), st.integers(1, 100 * KIB),
                          st.sampled_from(("went", "leave", "wait"))), max_size=60))
def test_whatever_happens_each_queue_is_first_come_first_served(course):
    turns, joined, order = Turns(), {each: [] for each in Urgency}, random.Random(1)
    for urgency, size, what in course:
        joined[urgency].append(turns.join(size, urgency))
        if what == "leave":
            gone = order.choice([each for queue in joined.values() for each in queue])
            turns.leave(gone)
            joined[gone.urgency].remove(gone)
        elif what == "went":
            first = turns.next()
            assert first is joined[first.urgency][0]
            turns.went(first)
            joined[first.urgency].pop(0)
    while (first := turns.next()) is not None:
        assert first is joined[first.urgency].pop(0)
        turns.went(first)
    assert not any(joined.values())
