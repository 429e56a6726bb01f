"""Which frames are under way in one direction of a link. Pure bookkeeping, one half per end."""

from __future__ import annotations

import dataclasses
from collections import deque
from itertools import islice

from homespun.errors import Code, HomespunError
from peer.frames import FIXED_BYTES, Frame
from peer.links.settings import LinkSettings


def held_bytes(frame: Frame) -> int:
    """What holding a frame costs; an empty one is not free."""
    return frame.payload_bytes + FIXED_BYTES


class SendWindow:
    """Frames that the other side has not accepted yet: kept, to be written again if need be."""

    def __init__(self, limit_bytes: int, limit_frames: int) -> None:
        self._limit_bytes, self._limit_frames = limit_bytes, limit_frames
        self._remote_bytes, self._remote_frames = 0, 0
        self._frames: deque[Frame] = deque()
        self._held = 0
        self._flying = 0
        self._acked = 0
        self._written = 0

    @property
    def unacked(self) -> int:
        """Frames sent but not accepted by the other side yet."""
        return len(self._frames)

    @property
    def held(self) -> int:
        """Bytes of those frames."""
        return self._held

    @property
    def accepted(self) -> int:
        """Number of the last frame that the other side has accepted."""
        return self._acked

    def has_room(self, frame: Frame) -> bool:
        """Whether a frame may be admitted now. One that is larger than the window goes alone."""
        if not self._frames:
            return True
        return (self._held + held_bytes(frame) <= self._limit_bytes
                and len(self._frames) < self._limit_frames)

    def admit(self, frame: Frame) -> None:
        """Number a frame and keep it until it is accepted. `has_room` was true."""
        self._frames.append(
            dataclasses.replace(frame, sequence=self._acked + len(self._frames) + 1))
        self._held += held_bytes(frame)

    def peek(self) -> Frame | None:
        """The next frame to write on the current stream; None when the other side has no room."""
        index = self._written - self._acked
        if index >= len(self._frames):
            return None
        frame = self._frames[index]
        if index and (self._flying + held_bytes(frame) > self._remote_bytes
                      or index >= self._remote_frames):
            return None
        return frame

    def advance(self) -> None:
        """The frame that `peek` showed is being written."""
        self._flying += held_bytes(self._frames[self._written - self._acked])
        self._written += 1

    def acknowledge(self, through: int) -> None:
        """The other side accepted this frame and every earlier one.

        Raises:
            HomespunError: INVALID_ARGUMENT when that frame was never written.
        """
        if through > self._written:
            raise _violation(f"frame {through} was acknowledged, {self._written} were written")
        while self._acked < through:
            freed = held_bytes(self._frames.popleft())
            self._held -= freed
            self._flying -= freed
            self._acked += 1

    def resume(self, received: int, remote_bytes: int, remote_frames: int) -> None:
        """A new stream is up: go on after the last frame that the other side has in full.

        Raises:
            HomespunError: INVALID_ARGUMENT when it claims frames that it cannot have, or lacks
                frames that it acknowledged.
        """
        if not self._acked <= received <= self._acked + len(self._frames):
            raise _violation(
                f"resumed after frame {received}; frames {self._acked} to "
                f"{self._acked + len(self._frames)} are possible")
        self._remote_bytes, self._remote_frames = remote_bytes, remote_frames
        self._written = received
        self._flying = sum(
            held_bytes(frame) for frame in islice(self._frames, received - self._acked))


class ReceiveWindow:
    """Frames that arrived: in order, none twice, and no more than this side offered to hold."""

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._held = 0
        self._reported = 0
        self._unreported_bytes = 0
        self.received = 0
        """Last frame that is here in full."""
        self.accepted = 0
        """Last frame that the consumer took."""

    def arrive(self, frame: Frame) -> None:
        """Check and count a frame.

        Raises:
            HomespunError: INVALID_ARGUMENT when it is not the next one; LIMIT_EXCEEDED when the
                sender overran the window.
        """
        if frame.sequence != self.received + 1:
            raise _violation(f"frame {frame.sequence} arrived after frame {self.received}")
        waiting = self.received - self.accepted
        held = self._held + held_bytes(frame)
        if waiting and (
            held > self._settings.window_bytes or waiting >= self._settings.window_frames
        ):
            raise HomespunError(
                Code.LIMIT_EXCEEDED,
                f"The sender overran the window: {held} bytes in {waiting + 1} frames are held; "
                f"{self._settings.window_bytes} bytes in {self._settings.window_frames} frames "
                "were offered.")
        self.received += 1
        self._held = held

    def accept(self, frame: Frame) -> None:
        """The consumer took the oldest frame."""
        self.accepted += 1
        self._held -= held_bytes(frame)
        self._unreported_bytes += held_bytes(frame)

    @property
    def is_ack_pending(self) -> bool:
        """Whether the sender has not been told of everything accepted."""
        return self.accepted > self._reported

    @property
    def is_ack_urgent(self) -> bool:
        """Whether so much was accepted that the sender should know at once."""
        return (self.accepted - self._reported >= self._settings.ack_every_frames
                or self._unreported_bytes > self._settings.window_bytes // 4)

    def report(self) -> int:
        """The acknowledgement to send now."""
        self._reported, self._unreported_bytes = self.accepted, 0
        return self.accepted


def _violation(what: str) -> HomespunError:
    return HomespunError(Code.INVALID_ARGUMENT, f"The stream contradicts itself: {what}.")
