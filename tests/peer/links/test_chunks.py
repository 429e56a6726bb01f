import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.errors import Code, HomespunError
from peer.frames import Kind, opaque_frame, with_digest
from peer.links.chunks import Assembler, part_message, whole_message
from peer.links.control import ack_message, close_message, read_ack, read_close


def assembler(limit=1 << 20):
    return Assembler("peer_a", lambda frame: limit)


def numbered(size, sequence=1):
    payload = random.Random(size).randbytes(size)
    return with_digest(opaque_frame(Kind.ACTIVATION, payload, sequence=sequence))


def split(frame, chunk_bytes):
    """A frame as messages of at most so much payload."""
    begins = range(0, frame.payload_bytes or 1, chunk_bytes)
    return [part_message(frame, begin, begin + chunk_bytes) for begin in begins]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=6), st.integers(1, 200), st.data())
def test_frames_come_out_as_they_went_in(sizes, chunk_bytes, data):
    sent = [numbered(size, number + 1) for number, size in enumerate(sizes)]
    receiver, received, acks = assembler(), [], 0
    for frame in sent:
        for message in split(frame, chunk_bytes):
            if data.draw(st.booleans()):
                acks += len(receiver.add(ack_message(3)))
            received += receiver.add(message)
    assert received == sent
    assert acks >= 0


def test_small_frames_share_a_message():
    sent = [numbered(size, size) for size in (1, 0, 40)]
    message = ack_message(9) + b"".join(map(whole_message, sent))
    ack, *frames = assembler().add(message)
    assert read_ack(ack) == 9
    assert frames == sent


def refused(receiver, *messages):
    *good, bad = messages
    for message in good:
        receiver.add(message)
    with pytest.raises(HomespunError) as caught:
        receiver.add(bad)
    return caught.value


def test_a_corrupted_payload_names_its_sender():
    frame = numbered(100)
    whole = bytearray(whole_message(frame))
    whole[-1] ^= 1
    parts = split(frame, 30)
    parts[2] = parts[2][:-1] + bytes([parts[2][-1] ^ 128])
    for messages in ([bytes(whole)], parts):
        error = refused(assembler(), *messages)
        assert error.code is Code.DIGEST_MISMATCH
        assert error.details["peer"] == "peer_a"
        assert "peer_a" in error.message


def test_more_bytes_than_expected_are_refused_at_the_header():
    first, *_ = split(numbered(100), 10)
    error = refused(assembler(limit=99), first)
    assert error.code is Code.LIMIT_EXCEEDED
    assert error.details == {"peer": "peer_a", "wanted_bytes": "100", "limit_bytes": "99"}


def test_streams_that_make_no_sense_are_refused():
    parts = split(numbered(100), 40)
    other = split(numbered(90), 40)
    small = whole_message(numbered(3))
    for messages in (
        [parts[1]], [b"+"], [parts[0], b"+"], [parts[0], other[0]], [parts[0], small],
        [parts[0], parts[1], parts[1]], [small + parts[0]], [b"x" * 70], [ack_message(1)[:-1]],
    ):
        assert refused(assembler(), *messages).code is Code.INVALID_ARGUMENT


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=4), st.booleans())
def test_any_messages_are_frames_or_refused(messages, begun):
    receiver = assembler(limit=1000)
    if begun:
        receiver.add(split(numbered(100), 40)[0])
    try:
        for message in messages:
            receiver.add(message)
    except HomespunError as refusal:
        code = refusal.code
    else:
        return
    assert code in (Code.INVALID_ARGUMENT, Code.LIMIT_EXCEEDED, Code.DIGEST_MISMATCH)


def test_the_reason_of_a_close_survives():
    (frame,) = assembler().add(close_message(HomespunError(Code.DIGEST_MISMATCH, "bad é" * 500)))
    error = read_close(frame)
    assert error.code is Code.DIGEST_MISMATCH
    assert error.message.startswith("bad é")
    (orderly,) = assembler().add(close_message(None))
    assert read_close(orderly) is None
    unknown = dataclasses.replace(frame, payload=b"NO_SUCH_CODE\nhm")
    assert read_close(unknown).code is Code.INTERNAL
