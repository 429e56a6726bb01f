"""Frames as gRPC messages, and back. Pure.

A message is either one or more whole frames, or the first part of one frame (its header and some
payload), or `CONTINUE` and the next part of the frame begun before. Control frames may come between
the parts of a large frame, so a tensor never holds up an acknowledgement for longer than one chunk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from blake3 import blake3

from homespun.errors import Code, HomespunError
from peer.frames import DIGEST_BYTES, Frame, decode_header, digest_of, encode_header
from peer.links.control import CONTROL_KINDS, CONTROL_LIMIT_BYTES

CONTINUE = b"+"
"""First byte of a continuation; no frame begins with it (`frames.MAGIC`)."""
_CONTINUE = CONTINUE[0]
_U64_MAX = 2**64 - 1


def whole_message(frame: Frame) -> bytes:
    """A small frame as one message, or as part of one."""
    return b"".join((encode_header(frame), frame.payload))


def part_message(frame: Frame, begin: int, end: int) -> bytes:
    """A part of a frame's payload as one message; the first part has the header before it.

    Args:
        frame: numbered, with its digest.
        begin: of the part, bytes.
        end: of the part; what follows the payload's end is nothing.
    """
    head = CONTINUE if begin else encode_header(frame)
    return b"".join((head, memoryview(frame.payload)[begin:end]))


class Assembler:
    """Puts the frames of one stream together again; holds at most one unfinished payload."""

    def __init__(self, sender: str, payload_limit: Callable[[Frame], int]) -> None:
        """Start a stream.

        Args:
            sender: the peer at the other end, for messages.
            payload_limit: most bytes that a frame with this header may bring, asked before anything
                is allocated; may raise `HomespunError` to refuse the frame.
        """
        self._sender = sender
        self._payload_limit = payload_limit
        self._frame: Frame | None = None
        self._buffer = memoryview(b"")
        self._filled = 0
        self._hasher = blake3()

    def add(self, message: bytes) -> list[Frame]:
        """Take the next message of the stream.

        Returns:
            The frames that it completed, in order, each verified against its digest.

        Raises:
            HomespunError: INVALID_ARGUMENT for malformed bytes, LIMIT_EXCEEDED for a payload larger
                than expected, DIGEST_MISMATCH for a corrupted one. The stream cannot go on.
        """
        if message[:1] == CONTINUE:
            return self._continue(memoryview(message)[1:])
        frames: list[Frame] = []
        rest = memoryview(message)
        while len(rest):
            frame, header_bytes = decode_header(rest, _U64_MAX)
            self._check(frame)
            part = rest[header_bytes:]
            if len(part) < frame.payload_bytes:
                if frames:
                    raise self._malformed("a large frame does not begin its message")
                self._begin(frame, part)
                return []
            payload = part[:frame.payload_bytes]
            if digest_of(payload) != frame.digest:
                raise self._corrupted(frame)
            frames.append(dataclasses.replace(frame, payload=payload))
            rest = part[frame.payload_bytes:]
        return frames

    def _check(self, frame: Frame) -> None:
        limit = CONTROL_LIMIT_BYTES.get(frame.kind)
        if limit is None:
            if self._frame is not None:
                raise self._malformed("a tensor began before the one before it was complete")
            limit = self._payload_limit(frame)
        if frame.payload_bytes > limit:
            raise HomespunError(
                Code.LIMIT_EXCEEDED,
                f"{self._sender} announced {frame.payload_bytes} bytes for the {frame.title()}; "
                f"at most {limit} are expected.",
                peer=self._sender, wanted_bytes=frame.payload_bytes, limit_bytes=limit)

    def _begin(self, frame: Frame, part: memoryview) -> None:
        if frame.kind in CONTROL_KINDS:
            raise self._malformed(f"a frame of kind {frame.kind} is not whole")
        self._frame = frame
        # Not a bytearray: that would be written twice, first with zeros.
        self._buffer = np.empty(frame.payload_bytes, np.uint8).data
        self._filled = 0
        self._hasher = blake3()
        self._fill(part)

    def _continue(self, part: memoryview) -> list[Frame]:
        frame = self._frame
        if frame is None or not len(part) or self._filled + len(part) > frame.payload_bytes:
            raise self._malformed("a continuation continues nothing, or is too long")
        self._fill(part)
        if self._filled < frame.payload_bytes:
            return []
        if self._hasher.digest(DIGEST_BYTES) != frame.digest:
            raise self._corrupted(frame)
        payload, self._buffer, self._frame = self._buffer, memoryview(b""), None
        return [dataclasses.replace(frame, payload=payload)]

    def _fill(self, part: memoryview) -> None:
        end = self._filled + len(part)
        self._buffer[self._filled:end] = part
        self._filled = end
        self._hasher.update(part)

    def _malformed(self, what: str) -> HomespunError:
        return HomespunError(
            Code.INVALID_ARGUMENT, f"The stream from {self._sender} is malformed: {what}.",
            peer=self._sender)

    def _corrupted(self, frame: Frame) -> HomespunError:
        return HomespunError(
            Code.DIGEST_MISMATCH,
            f"The {frame.title()} from {self._sender} does not have the digest that "
            f"{self._sender} announced ({frame.payload_bytes} bytes).",
            peer=self._sender)
