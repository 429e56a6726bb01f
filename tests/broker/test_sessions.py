"""Where commands to peers go, and what bounds them."""

import asyncio

import pytest

from broker.core import commands as do
from broker.sessions import OUTBOX_MESSAGES_MAX, STREAMS_PER_PEER_MAX, Sessions
from homespun.errors import Code, HomespunError


def acknowledge(number):
    return do.AcknowledgeReports(peer_id="peer_a", through_number=number)


def taken(session, count):
    async def take():
        async with asyncio.timeout(10):
            return [await session.take() for _ in range(count)]

    return asyncio.run(take())


def test_messages_come_out_in_order():
    sessions = Sessions()
    with sessions.opened("peer_a", "s1") as session:
        for number in range(5):
            sessions.send("s1", acknowledge(number))
        sessions.end(do.DisconnectPeer(
            peer_id="peer_a", session_id="s1", code="CONFLICT", message="replaced"))
        *first, last = taken(session, 6)
    assert [m.reports_durable.through_number for m in first] == list(range(5))
    assert last.goodbye.code == "CONFLICT"


def test_a_reader_that_waits_is_woken():
    async def scenario():
        sessions = Sessions()
        with sessions.opened("peer_a", "s1") as session:
            reader = asyncio.create_task(session.take())
            await asyncio.sleep(0)
            sessions.send("s1", acknowledge(7))
            async with asyncio.timeout(10):
                return (await reader).reports_durable.through_number

    assert asyncio.run(scenario()) == 7


def test_a_stream_that_is_closed_gets_nothing():
    sessions = Sessions()
    with sessions.opened("peer_a", "s1"):
        pass
    sessions.send("s1", acknowledge(1))
    sessions.send("", acknowledge(1))
    assert sessions._open == {}


def test_a_peer_that_does_not_read_is_sent_away():
    sessions = Sessions()
    with sessions.opened("peer_a", "s1") as session:
        for number in range(OUTBOX_MESSAGES_MAX + 1):
            sessions.send("s1", acknowledge(number))
        (only,) = taken(session, 1)
    assert only.goodbye.code == Code.OVERLOADED


def test_a_refused_stream_does_not_take_the_commands_of_the_current_one():
    sessions = Sessions()
    with sessions.opened("peer_a", "current") as current:
        with sessions.opened("peer_a", "refused"):
            sessions.end(do.DisconnectPeer(
                peer_id="peer_a", session_id="refused", code="INVALID_ARGUMENT", message="no"))
        sessions.send("current", acknowledge(3))
        (message,) = taken(current, 1)
    assert message.reports_durable.through_number == 3


def test_a_peer_may_have_few_streams():
    sessions = Sessions()

    def open_more(left):
        with sessions.admitted("peer_a"):
            if left:
                open_more(left - 1)

    open_more(STREAMS_PER_PEER_MAX - 1)
    with pytest.raises(HomespunError) as caught:
        open_more(STREAMS_PER_PEER_MAX)
    assert caught.value.code is Code.OVERLOADED
    with sessions.admitted("peer_b"):
        open_more(STREAMS_PER_PEER_MAX - 1)
    assert not sessions._streams
