import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.errors import Code, HomespunError
from peer.frames import FIXED_BYTES, Kind, opaque_frame, with_digest
from peer.links.chunks import Assembler
from peer.links.control import read_ack
from peer.links.outbox import Outbox
from peer.links.settings import LinkSettings
from peer.links.windows import ReceiveWindow, SendWindow


def frame(size, number=0):
    return with_digest(opaque_frame(Kind.ACTIVATION, bytes(size), microbatch=number))


class Stream:
    """One direction, played by hand: what is written is lost or arrives, as the test says."""

    def __init__(self, sender_bytes, receiver_bytes, chunk_bytes=64):
        self.settings = LinkSettings(
            window_bytes=receiver_bytes, window_frames=8, chunk_bytes=chunk_bytes)
        self.sending = SendWindow(sender_bytes, 100)
        self.receiving = ReceiveWindow(self.settings)
        self.delivered = []
        self.waiting = []
        self.reconnect()

    def reconnect(self):
        self.sending.resume(
            self.receiving.received, self.settings.window_bytes, self.settings.window_frames)
        self.outbox = Outbox(
            self.sending, ReceiveWindow(LinkSettings()), self.settings.chunk_bytes)
        self.assembler = Assembler("peer_a", lambda frame: 1 << 20)

    def write(self):
        message = self.outbox.next_message()
        if message is not None:
            for arrived in self.assembler.add(message):
                self.receiving.arrive(arrived)
                self.waiting.append(arrived)
        return message is not None

    def accept(self):
        if self.waiting:
            self.receiving.accept(self.waiting[0])
            self.delivered.append(self.waiting.pop(0).microbatch)

    def acknowledge(self):
        self.sending.acknowledge(self.receiving.report())


@settings(max_examples=400, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 400), min_size=1, max_size=30),
    actions=st.lists(st.sampled_from("wwwwaakr"), max_size=200),
    sender_bytes=st.integers(1, 1000), receiver_bytes=st.integers(1, 1000))
def test_every_frame_arrives_once_in_order_whatever_breaks(
    sizes, actions, sender_bytes, receiver_bytes
):
    stream = Stream(sender_bytes, receiver_bytes)
    pending = [frame(size, number) for number, size in enumerate(sizes)]
    for action in [*actions, *"w" * 200]:
        while pending and stream.sending.has_room(pending[0]):
            stream.sending.admit(pending.pop(0))
        held = stream.sending.held
        assert held <= sender_bytes or stream.sending.unacked == 1
        {"w": stream.write, "a": stream.accept, "k": stream.acknowledge,
         "r": stream.reconnect}[action]()
    for _ in range(len(sizes) * 20):  # liveness: without more faults everything gets through
        while pending and stream.sending.has_room(pending[0]):
            stream.sending.admit(pending.pop(0))
        while stream.write():
            pass
        stream.accept()
        stream.acknowledge()
    assert stream.delivered == list(range(len(sizes)))
    assert stream.sending.unacked == 0
    assert stream.sending.held == 0


def test_acknowledgements_overtake_a_large_frame():
    sending, receiving = SendWindow(10_000, 10), ReceiveWindow(LinkSettings())
    sending.resume(0, 10_000, 10)
    sending.admit(frame(1000))
    outbox = Outbox(sending, receiving, 100)
    first = outbox.next_message()
    outbox.is_ack_wanted = True
    second, third = outbox.next_message(), outbox.next_message()
    reader = Assembler("peer_a", lambda frame: 1000)
    assert reader.add(first) == []
    (ack,) = reader.add(second)
    assert read_ack(ack) == 0
    assert reader.add(third) == []


def code_of(action):
    with pytest.raises(HomespunError) as caught:
        action()
    return caught.value.code


def test_a_receiver_that_lies_is_refused():
    sending = SendWindow(1000, 10)
    sending.resume(0, 1000, 10)
    sending.admit(frame(1))
    sending.admit(frame(2))
    sending.advance()
    assert code_of(lambda: sending.acknowledge(2)) is Code.INVALID_ARGUMENT
    assert code_of(lambda: sending.resume(3, 1000, 10)) is Code.INVALID_ARGUMENT
    sending.acknowledge(1)
    assert code_of(lambda: sending.resume(0, 1000, 10)) is Code.INVALID_ARGUMENT
    assert sending.held == 2 + FIXED_BYTES


def test_a_sender_that_skips_repeats_or_overruns_is_refused():
    receiving = ReceiveWindow(LinkSettings(window_bytes=300, window_frames=4))
    sized = [opaque_frame(Kind.ACTIVATION, bytes(100), sequence=number) for number in range(5)]
    assert code_of(lambda: receiving.arrive(sized[2])) is Code.INVALID_ARGUMENT
    receiving.arrive(sized[1])
    assert code_of(lambda: receiving.arrive(sized[1])) is Code.INVALID_ARGUMENT
    assert code_of(lambda: receiving.arrive(sized[3])) is Code.INVALID_ARGUMENT
    assert code_of(lambda: receiving.arrive(sized[2])) is Code.LIMIT_EXCEEDED
    receiving.accept(sized[1])
    receiving.arrive(sized[2])


def test_acknowledgements_are_urgent_after_a_quarter_of_the_window():
    settings = LinkSettings(window_bytes=1000, ack_every_frames=3)
    large, receiving = frame(250), ReceiveWindow(settings)
    receiving.accept(large)
    assert receiving.is_ack_urgent
    assert receiving.report() == 1
    assert not receiving.is_ack_pending
    for _ in range(3):
        assert not receiving.is_ack_urgent
        receiving.accept(frame(0))
    assert receiving.is_ack_urgent
