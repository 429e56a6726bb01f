"""Open session streams, by peer: where commands to peers go.

A command for a peer without a stream is dropped: when the peer comes back the core compares what it
holds with what it should hold, and asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Iterator

import structlog

from broker.core import commands as do
from broker.core.events import AvailabilityChanged
from broker.core.no_work import NoWorkReason
from broker.rpc.command_codec import PeerCommand, message_of
from homespun.errors import Code, HomespunError
from homespun.v1 import session_pb2

log = structlog.get_logger(__name__)

OUTBOX_MESSAGES_MAX = 1_000
"""Messages that may wait for one peer; one that reads so slowly is disconnected."""
STREAMS_PER_PEER_MAX = 4
"""One is the rule; a peer that reconnects may leave some behind that are about to end."""


class Session:
    """One open stream: what waits to be written to it.

    Attributes:
        probes: peers to which this one was asked to measure its link, and has not yet.
        transfers_at_s: neighbour -> when this one last told how fast its transfers were.
        availability: what its owner said last on this stream; None for nothing yet.
        no_work: why it runs nothing, as it was told last.
    """

    def __init__(self, peer_id: str, session_id: str) -> None:
        self.peer_id = peer_id
        self.session_id = session_id
        self.probes: set[str] = set()
        self.transfers_at_s: dict[str, float] = {}
        self.availability: AvailabilityChanged | None = None
        self.no_work: tuple[NoWorkReason, ...] = ()
        self._outbox: deque[session_pb2.BrokerMessage] = deque()
        self._wake = asyncio.Event()

    def put(self, message: session_pb2.BrokerMessage) -> None:
        """Queue a message; one too many turns into the end of the stream."""
        if len(self._outbox) >= OUTBOX_MESSAGES_MAX:
            log.warning("peer_reads_too_slowly", peer_id=self.peer_id)
            self._outbox.clear()
            message = _goodbye(
                Code.OVERLOADED, f"{OUTBOX_MESSAGES_MAX} messages wait for {self.peer_id}"
            )
        self._outbox.append(message)
        self._wake.set()

    async def take(self) -> session_pb2.BrokerMessage:
        """The next message, when there is one. For one reader."""
        while not self._outbox:
            self._wake.clear()
            await self._wake.wait()
        return self._outbox.popleft()


class Sessions:
    """All open streams. Which one is a peer's current one, the core knows."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}
        self._streams: Counter[str] = Counter()

    @contextlib.contextmanager
    def admitted(self, peer_id: str) -> Iterator[None]:
        """Count a stream of a peer for as long as it lasts, registered or not.

        Raises:
            HomespunError: OVERLOADED when the peer has too many.
        """
        if self._streams[peer_id] >= STREAMS_PER_PEER_MAX:
            raise HomespunError(
                Code.OVERLOADED, f"{peer_id} has {STREAMS_PER_PEER_MAX} streams open already"
            )
        self._streams[peer_id] += 1
        try:
            yield
        finally:
            self._streams[peer_id] -= 1
            if not self._streams[peer_id]:
                del self._streams[peer_id]

    @contextlib.contextmanager
    def opened(self, peer_id: str, session_id: str) -> Iterator[Session]:
        """Make a stream known for as long as it lasts."""
        session = self._open[session_id] = Session(peer_id, session_id)
        try:
            yield session
        finally:
            del self._open[session_id]

    def send(self, session_id: str, command: PeerCommand) -> None:
        """Queue a command on a stream, if it is still open."""
        session = self._open.get(session_id)
        if session is not None:
            if isinstance(command, do.MeasureLink):
                session.probes.add(command.to_peer)
            session.put(message_of(command))

    def end(self, command: do.DisconnectPeer) -> None:
        """Say goodbye and end a stream, be it the current one or one that was replaced."""
        session = self._open.get(command.session_id)
        if session is not None:
            session.put(_goodbye(command.code, command.message))


def _goodbye(code: str, message: str) -> session_pb2.BrokerMessage:
    return session_pb2.BrokerMessage(goodbye=session_pb2.Goodbye(code=code, message=message))
