"""The pipe between a daemon and its executor process: frames back to back, blocking side.

The daemon's side is `peer.executor_process`, over asyncio.
"""

from __future__ import annotations

from typing import BinaryIO

from homespun.errors import Code, HomespunError
from peer.executor.messages import Message, encode
from peer.frames import FIXED_BYTES, Frame, Kind, decode_header, encode_header, opaque_frame

PAYLOAD_BYTES_MAX = 8 * 2**30
"""Largest tensor on the pipe: both ends are ours, so this only catches a broken stream."""
AXES_OFFSET = 7
"""Where the fixed header says how many axes follow (see `peer.frames`)."""


def header_bytes(fixed: bytes) -> int:
    """Size of the whole header, from its fixed part."""
    return FIXED_BYTES + 8 * fixed[AXES_OFFSET]


def control_frame(message: Message) -> Frame:
    """A message as a frame."""
    return opaque_frame(Kind.CONTROL, encode(message))


def write_frame(stream: BinaryIO, frame: Frame) -> None:
    """Write one frame and flush."""
    stream.write(encode_header(frame))
    stream.write(frame.payload)
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[Frame, bytearray] | None:
    """Read one frame; None when the stream has ended between frames.

    Raises:
        HomespunError: INTERNAL when the stream ends inside a frame.
    """
    fixed = stream.read(FIXED_BYTES)
    if not fixed:
        return None
    header = fixed + stream.read(header_bytes(fixed) - FIXED_BYTES)
    frame, _ = decode_header(header, PAYLOAD_BYTES_MAX)
    payload = bytearray(frame.payload_bytes)
    view, filled = memoryview(payload), 0
    while filled < len(payload):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise HomespunError(Code.INTERNAL, "the executor's pipe ended inside a frame")
        filled += count
    return frame, payload
