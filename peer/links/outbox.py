"""What to write next on one stream: acknowledgements first, then frames, in chunks. Pure."""

from __future__ import annotations

from peer.frames import Frame
from peer.links.chunks import part_message, whole_message
from peer.links.control import ack_message
from peer.links.windows import ReceiveWindow, SendWindow, held_bytes


class Outbox:
    """Turns the state of a link's windows into the messages of one stream."""

    def __init__(self, sending: SendWindow, receiving: ReceiveWindow, chunk_bytes: int) -> None:
        """Begin a stream.

        Args:
            sending: the link's window of frames that go out.
            receiving: that of frames that come in.
            chunk_bytes: most payload of one message, > 0; whoever writes fits it to the line.
        """
        self._sending = sending
        self._receiving = receiving
        self.chunk_bytes = chunk_bytes
        self._frame: Frame | None = None
        """The one whose parts are being written."""
        self.reached = (0, 0)
        """Number of the last frame that was begun, and bytes of it that are in messages."""
        self.is_ack_wanted = False
        """Send an acknowledgement now, whatever the windows say: a timer or heartbeat came."""

    def next_message(self) -> bytes | None:
        """The next message to write, or None when there is nothing to say."""
        acknowledgement = self._acknowledgement()
        if self._frame is not None:
            return acknowledgement or self._next_part(self._frame)
        parts = [] if acknowledgement is None else [acknowledgement]
        room = self.chunk_bytes
        while (frame := self._sending.peek()) is not None:
            if frame.payload_bytes > self.chunk_bytes:
                if parts:
                    break
                self._begin(frame, 0)
                return self._next_part(frame)
            if parts and held_bytes(frame) > room:
                break
            self._begin(frame, frame.payload_bytes)
            parts.append(whole_message(frame))
            room -= held_bytes(frame)
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _begin(self, frame: Frame, in_messages: int) -> None:
        self._sending.advance()
        self.reached = frame.sequence, in_messages

    def _next_part(self, frame: Frame) -> bytes:
        begin = self.reached[1]
        end = min(begin + self.chunk_bytes, frame.payload_bytes)
        self.reached = frame.sequence, end
        self._frame = frame if end < frame.payload_bytes else None
        return part_message(frame, begin, end)

    def _acknowledgement(self) -> bytes | None:
        if not (self.is_ack_wanted or self._receiving.is_ack_urgent):
            return None
        self.is_ack_wanted = False
        return ack_message(self._receiving.report())
