"""The payloads of a link's own frames: hello, acknowledgement, close. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from homespun.errors import Code, HomespunError
from peer.frames import Frame, Kind, Payload, encode_header, opaque_frame, with_digest

CONTROL_KINDS = frozenset({Kind.LINK_HELLO, Kind.LINK_ACK, Kind.LINK_CLOSE})
_HELLO = Struct("<5Q")
_ACK = Struct("<Q")
_MAX_REASON_BYTES = 1000
CONTROL_LIMIT_BYTES = {
    Kind.LINK_HELLO: _HELLO.size, Kind.LINK_ACK: _ACK.size, Kind.LINK_CLOSE: _MAX_REASON_BYTES + 64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First frame of a stream, in both directions: where to go on.

    Attributes:
        link: random number of the sender's `Link` object: a restarted process has another one.
        known_link: the other side's number as the sender knows it, 0 at first.
        received: last frame that the sender has in full; the other side goes on after it.
        window_bytes: payload bytes that the sender is willing to hold.
        window_frames: frames that the sender is willing to hold.
    """

    link: int
    known_link: int
    received: int
    window_bytes: int
    window_frames: int


def hello_message(hello: Hello) -> bytes:
    """A hello as one message."""
    return _message(Kind.LINK_HELLO, _HELLO.pack(
        hello.link, hello.known_link, hello.received, hello.window_bytes, hello.window_frames))


def ack_message(through: int) -> bytes:
    """Tell the other side that this frame and every earlier one were accepted."""
    return _message(Kind.LINK_ACK, _ACK.pack(through))


def close_message(error: HomespunError | None) -> bytes:
    """Tell the other side that the link ends, and why when it is not the orderly end."""
    if error is None:
        return _message(Kind.LINK_CLOSE, b"")
    text = error.message.encode()[:_MAX_REASON_BYTES]
    return _message(Kind.LINK_CLOSE, error.code.encode() + b"\n" + text)


def read_hello(frame: Frame) -> Hello:
    """Read the first frame of a stream."""
    if frame.kind is not Kind.LINK_HELLO:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"A stream began with a frame of kind {frame.kind}, no hello.")
    link, known_link, received, window_bytes, window_frames = _unpack(_HELLO, frame)
    return Hello(link=link, known_link=known_link, received=received, window_bytes=window_bytes,
                 window_frames=window_frames)


def read_ack(frame: Frame) -> int:
    """Read how far the other side accepted."""
    through: int = _unpack(_ACK, frame)[0]
    return through


def read_close(frame: Frame) -> HomespunError | None:
    """Read why the other side ends the link; None for the orderly end."""
    payload = bytes(frame.payload)
    if not payload:
        return None
    code, _, text = payload.decode(errors="replace").partition("\n")
    return HomespunError(Code(code) if code in Code.__members__ else Code.INTERNAL, text)


def _message(kind: Kind, payload: Payload) -> bytes:
    return encode_header(with_digest(opaque_frame(kind, payload))) + payload


def _unpack(layout: Struct, frame: Frame) -> tuple[int, ...]:
    if len(frame.payload) != layout.size:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"A frame of kind {frame.kind} has {len(frame.payload)} bytes, not {layout.size}.")
    return layout.unpack(frame.payload)
