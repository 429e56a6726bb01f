"""What to write next on one stream: acknowledgements first, then frames, in chunks. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from peer.links.chunks import split, whole_message
from peer.links.control import ack_message
from peer.links.windows import ReceiveWindow, SendWindow, held_bytes


class Outbox:
    """Turns the state of a link's windows into the messages of one stream."""

    def __init__(self, sending: SendWindow, receiving: ReceiveWindow, chunk_bytes: int) -> None:
        self._sending = sending
        self._receiving = receiving
        self._chunk_bytes = chunk_bytes
        self._chunks: Iterator[bytes] = iter(())
        self._chunks_left = 0
        self.is_ack_wanted = False
        """Send an acknowledgement now, whatever the windows say: a timer or heartbeat came."""

    def next_message(self) -> bytes | None:
        """The next message to write, or None when there is nothing to say."""
        acknowledgement = self._acknowledgement()
        if self._chunks_left:
            if acknowledgement is not None:
                return acknowledgement
            return self._next_chunk()
        parts = [] if acknowledgement is None else [acknowledgement]
        room = self._chunk_bytes
        while (frame := self._sending.peek()) is not None:
            if frame.payload_bytes > self._chunk_bytes:
                if parts:
                    break
                self._sending.advance()
                self._chunks = split(frame, self._chunk_bytes)
                self._chunks_left = -(-frame.payload_bytes // self._chunk_bytes)
                return self._next_chunk()
            if parts and held_bytes(frame) > room:
                break
            self._sending.advance()
            parts.append(whole_message(frame))
            room -= held_bytes(frame)
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _next_chunk(self) -> bytes:
        self._chunks_left -= 1
        return next(self._chunks)

    def _acknowledgement(self) -> bytes | None:
        if not (self.is_ack_wanted or self._receiving.is_ack_urgent):
            return None
        self.is_ack_wanted = False
        return ack_message(self._receiving.report())
