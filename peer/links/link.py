"""One end of a link: the frames to and from one other peer for one job.

A link outlives its streams. When a stream breaks, the next one begins with both sides saying which
frame they have in full, and goes on after it: as long as both processes live, no frame is lost,
repeated or reordered (docs/protocol.md, "Tensor stream").
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from homespun.errors import Code, HomespunError
from homespun.ids import JobId, PeerId
from peer.frames import Frame, Kind, digest_of
from peer.links.allocator import keep_freed_memory
from peer.links.control import (
    CONTROL_KINDS,
    Hello,
    ack_message,
    close_message,
    read_ack,
    read_close,
)
from peer.links.exchange import exchange
from peer.links.goodput import Goodput
from peer.links.messages import Messages
from peer.links.outbox import Outbox
from peer.links.settings import LinkSettings
from peer.links.windows import ReceiveWindow, SendWindow

_TRANSIENT = frozenset({
    Code.UNREACHABLE, Code.TIMED_OUT, Code.NOT_ALLOWED, Code.NOT_AUTHENTICATED,
    Code.CERTIFICATE_EXPIRED,
})
"""Why a stream may end and the link go on. NOT_ALLOWED too: the other side may not know the job's
members yet."""
_HASH_IN_THREAD_BYTES = 4 << 20
"""Below, hashing holds up the event loop for less than 0.5 ms and a thread would cost as much."""


class LinkState(StrEnum):
    """Whether a link has a stream."""

    CONNECTING = "connecting"
    """No stream yet."""
    UP = "up"
    BROKEN = "broken"
    """The stream is gone; another is awaited."""
    FAILED = "failed"
    """The other side broke the protocol, restarted or refused: this link will not recover."""
    CLOSED = "closed"
    """`close` was called."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Payload bytes since the link was made; a frame sent twice counts once."""

    sent_bytes: int
    received_bytes: int


class Link:
    """A reliable, ordered frame channel to one peer. Make it inside a running event loop."""

    def __init__(
        self,
        job_id: JobId,
        local_id: PeerId,
        remote_id: PeerId,
        *,
        on_frame: Callable[[Frame], Awaitable[None]],
        on_broken: Callable[[HomespunError], None],
        payload_limit: Callable[[Frame], int],
        settings: LinkSettings | None = None,
        tokens: tuple[int, int] = (0, 0),
    ) -> None:
        """Start a link without a stream: `dial` it, or let a `LinkServer` find it.

        Args:
            job_id: the job whose tensors it carries.
            local_id: this peer.
            remote_id: the other peer.
            on_frame: takes the arriving frames, one after the other, in order. While it runs the
                sender's window fills: this is the back-pressure. An error it raises fails the link.
            on_broken: told once per outage that lasts longer than `broken_timeout_s`, and once
                when the link fails; the error names the peer and what happened.
            payload_limit: most payload bytes to accept for a header; it may raise to refuse.
            settings: the link's numbers.
            tokens: of the leases at this end and at the other one. A link is between leases, so
                the peer that held a segment before cannot take part.
        """
        keep_freed_memory()
        self.job_id = job_id
        self.local_id = local_id
        self.remote_id = remote_id
        self.tokens = tokens
        self.settings = settings or LinkSettings()
        self.payload_limit = payload_limit
        self.ended = asyncio.Event()
        """Set when no stream is wanted any more: failed, or closed by either side."""
        self._on_frame = on_frame
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._number = secrets.randbits(63) + 1
        self._remote_number = 0
        self._sending = SendWindow(self.settings.window_bytes, self.settings.window_frames)
        self._receiving = ReceiveWindow(self.settings)
        self._outbox: Outbox | None = None
        self._arrived: deque[Frame] = deque()
        self._arrival = asyncio.Event()
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._send_turn = asyncio.Lock()
        self._stream_turn = asyncio.Lock()
        self._stream: asyncio.Task[None] | None = None
        self._dialer: asyncio.Task[None] | None = None
        self._failure: HomespunError | None = None
        self._is_closing = False
        self._is_over = False
        self._farewell: bytes | None = None
        self._ack_timer: asyncio.TimerHandle | None = None
        self._broken_timer: asyncio.TimerHandle | None = None
        self._sent_bytes = 0
        self._received_bytes = 0
        self._goodput = Goodput()
        self.state = LinkState.CONNECTING
        self.since = self._loop.time()
        """When the state began, on the event loop's clock."""
        self._reason = "no stream was opened yet"
        self._await_stream()
        self._delivery = self._loop.create_task(
            self._deliver(), name=f"link {local_id} <- {remote_id}: deliver")

    # What the owner calls.

    async def send(self, frame: Frame) -> None:
        """Hand over a frame; returns when it is kept for delivery, not when it is delivered.

        Frames of one caller arrive in the order of its calls.

        Args:
            frame: of a tensor kind; the payload must not change until it is delivered.

        Raises:
            HomespunError: STALLED when no frame got any farther for `send_timeout_s`; the
                link's own error when it has failed; CONFLICT when it is closed.
        """
        if frame.kind in CONTROL_KINDS or frame.payload_bytes != len(frame.payload):
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"The {frame.title()} cannot be sent: its payload is incomplete, or its kind is "
                "the link's own.")
        if frame.payload_bytes > _HASH_IN_THREAD_BYTES:
            digest = await asyncio.to_thread(digest_of, frame.payload)
        else:
            digest = digest_of(frame.payload)
        async with self._send_turn:
            self._check_usable()
            if not self._sending.has_room(frame):
                await self._room_for(frame)
            self._goodput.sent(
                frame.payload_bytes, self._loop.time(),
                is_first=not self._sending.unacked and self.state is LinkState.UP)
            self._sending.admit(dataclasses.replace(frame, digest=digest))
        self._sent_bytes += frame.payload_bytes
        self._wake.set()

    @property
    def traffic(self) -> Traffic:
        """Payload bytes handed over by `send`, and taken by `on_frame`."""
        return Traffic(self._sent_bytes, self._received_bytes)

    def goodput_report(self) -> float | None:
        """Bandwidth of what was sent, bytes per second, when there is news of it."""
        return self._goodput.report(self._loop.time())

    @property
    def held_bytes(self) -> int:
        """Bytes of the frames that the other side has not accepted yet."""
        return self._sending.held

    @property
    def unaccepted(self) -> int:
        """The number of frames that the other side has not accepted yet."""
        return self._sending.unacked

    @property
    def is_failed(self) -> bool:
        """Whether the link will not recover."""
        return self._failure is not None

    async def drain(self, timeout_s: float) -> int:
        """Wait until the other side has accepted everything sent, or the link has ended.

        Args:
            timeout_s: how long to wait at most.

        Returns:
            The number of frames that the other side has not accepted.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self._sending.unacked and not self.ended.is_set():
                    await self._next_progress()
        except TimeoutError:
            pass
        return self._sending.unacked

    async def close(self, drain_s: float = 0.0) -> int:
        """End the link: wait for frames sent to be accepted, say goodbye, free everything.

        Frames that arrived and were not taken by `on_frame` are dropped. Not to be called from
        `on_frame`.

        Args:
            drain_s: how long to wait for the other side to accept what was sent.

        Returns:
            The number of frames that the other side did not accept.
        """
        self._is_closing = True
        await self.drain(drain_s)
        if self._farewell is None and self._failure is None:
            self._farewell = ack_message(self._receiving.report()) + close_message(None)
        self._wake.set()
        self.ended.set()
        self._progress.set()
        if self._stream is not None and self._outbox is not None:
            await asyncio.wait({self._stream}, timeout=self.settings.close_timeout_s)
        await self._cancel(self._stream, self._delivery, self._dialer)
        self._drop_broken_timer()
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        self._enter(LinkState.CLOSED)
        return self._sending.unacked

    # What the dialer and the server call.

    async def run(self, messages: Messages) -> None:
        """Carry the link over a new stream, in place of an older one, until the stream ends."""
        async with self._stream_turn:
            await self._cancel(self._stream)
            if self.ended.is_set():
                return
            self._outbox = None
            stream = self._stream = self._loop.create_task(
                exchange(self, messages), name=f"link {self.local_id} <-> {self.remote_id}")
        try:
            await asyncio.wait({stream})
        finally:
            await self._cancel(stream)
            error = None if stream.cancelled() else stream.exception()
            if self._stream is stream:
                self._stream = self._outbox = None
                self.stream_ended(error)

    def keep_dialer(self, dialer: asyncio.Task[None]) -> None:
        """Let `close` end this task too."""
        self._dialer = dialer

    # What the current stream calls (`exchange.LinkEnd`).

    def hello(self) -> Hello:
        """Where this side stands."""
        return Hello(
            link=self._number, known_link=self._remote_number, received=self._receiving.received,
            window_bytes=self.settings.window_bytes, window_frames=self.settings.window_frames)

    def stream_is_up(self, hello: Hello) -> Outbox:
        """Go on where the other side stands.

        Raises:
            HomespunError: PEER_LOST when one of the two processes is not the one it was.
        """
        if (hello.link != (self._remote_number or hello.link)
                or hello.known_link not in (0, self._number)):
            raise HomespunError(
                Code.PEER_LOST,
                f"{self.remote_id} and {self.local_id} do not remember the same link: one of them "
                "was started anew, and what it held is gone.", peer=self.remote_id)
        self._sending.resume(hello.received, hello.window_bytes, hello.window_frames)
        self._remote_number = hello.link
        self._outbox = Outbox(self._sending, self._receiving, self.settings.chunk_bytes)
        self._outbox.is_ack_wanted = self._receiving.accepted > 0
        self._drop_broken_timer()
        self._enter(LinkState.UP)
        return self._outbox

    def take(self, frame: Frame) -> None:
        """A frame arrived, complete and undamaged."""
        if frame.kind is Kind.LINK_ACK:
            self._sending.acknowledge(read_ack(frame))
            if not self._sending.unacked:
                self._goodput.all_accepted(self._loop.time())
            self._progress.set()
            self._wake.set()
        elif frame.kind is Kind.LINK_CLOSE:
            self._remote_closed(read_close(frame))
        elif frame.kind is Kind.LINK_HELLO:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"{self.remote_id} sent a second hello.",
                peer=self.remote_id)
        else:
            self._receiving.arrive(frame)
            self._arrived.append(frame)
            self._arrival.set()

    def is_over(self) -> bool:
        """Whether the other side has closed the link."""
        return self._is_over

    def wake(self) -> None:
        """Let the writer look for something to write."""
        self._wake.set()

    async def something_to_write(self) -> None:
        """Wait until there may be something to write."""
        await self._wake.wait()
        self._wake.clear()

    def farewell(self) -> bytes | None:
        """The last message, once this side wants no more."""
        return self._farewell

    def fail(self, error: HomespunError) -> None:
        """Give the link up for good, tell the other side why, and tell the owner."""
        if self._failure is not None or self.state is LinkState.CLOSED:
            return
        self._failure = error
        self._farewell = close_message(error)
        self._enter(LinkState.FAILED)
        self.ended.set()
        self._progress.set()
        self._wake.set()
        if (stream := self._stream) is not None:
            self._loop.call_later(self.settings.close_timeout_s, stream.cancel)
        self._drop_broken_timer()
        if not self._is_closing:
            self._on_broken(error)

    # Inside.

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._is_closing:
            raise HomespunError(
                Code.CONFLICT, f"The link with {self.remote_id} is closed.", peer=self.remote_id)

    async def _room_for(self, frame: Frame) -> None:
        timeout_s = self.settings.send_timeout_s
        farthest, since_s = self._reached(), self._loop.time()
        while not self._sending.has_room(frame):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(since_s + timeout_s):
                    await self._next_progress()
            self._check_usable()
            if (reached := self._reached()) > farthest:
                farthest, since_s = reached, self._loop.time()
            elif self._loop.time() >= since_s + timeout_s:
                raise HomespunError(
                    Code.STALLED,
                    f"The {frame.title()} waited for {self.remote_id} to accept "
                    f"{self._sending.unacked} earlier frames, of which nothing has moved for "
                    f"{timeout_s} s; the link is {self.state}.", peer=self.remote_id)

    def _reached(self) -> tuple[int, int, int]:
        """How far frames have come; more than ever means that the line works, however slowly."""
        written = (0, 0) if self._outbox is None else self._outbox.reached
        return self._sending.accepted, *written

    async def _next_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    async def _deliver(self) -> None:
        """Give the arrived frames to the owner, one at a time; each is acknowledged after that."""
        while True:
            while not self._arrived:
                self._arrival.clear()
                await self._arrival.wait()
            frame = self._arrived.popleft()
            try:
                await self._on_frame(frame)
            except HomespunError as error:
                self.fail(error)
                return
            except Exception as error:  # the owner's defect must not become a silent stall
                self.fail(HomespunError(
                    Code.INTERNAL, f"Taking the {frame.title()} failed: {error!r}"))
                return
            self._receiving.accept(frame)
            self._received_bytes += frame.payload_bytes
            if self._receiving.is_ack_urgent:
                self._wake.set()
            elif self._ack_timer is None:
                self._ack_timer = self._loop.call_later(
                    self.settings.ack_every_s, self._acknowledge)

    def _acknowledge(self) -> None:
        self._ack_timer = None
        if self._outbox is not None and self._receiving.is_ack_pending:
            self._outbox.is_ack_wanted = True
            self._wake.set()

    def _remote_closed(self, error: HomespunError | None) -> None:
        self._is_over = True
        if error is not None:
            self.fail(HomespunError(
                error.code, f"{self.remote_id} gave up the link: {error.message}",
                reported_by=self.remote_id))
        self.ended.set()
        self._progress.set()

    def stream_ended(self, error: BaseException | None) -> None:
        """A stream ended, or could not be opened: wait for another one, or give up."""
        self._goodput.interrupted()
        if self._is_closing or self._failure is not None:
            return
        if error is None or (isinstance(error, HomespunError) and error.code in _TRANSIENT):
            self._reason = error.message if error else "the stream was cancelled"
            if self.state is LinkState.UP:
                self._enter(LinkState.BROKEN)
            self._await_stream()
        elif isinstance(error, HomespunError):
            self.fail(error)
        else:
            self.fail(HomespunError(Code.INTERNAL, f"The link failed: {error!r}"))

    def _await_stream(self) -> None:
        """Report the link as broken, once, unless a stream comes up in time."""
        if self._broken_timer is None:
            self._broken_timer = self._loop.call_later(
                self.settings.broken_timeout_s, self._report_broken)

    def _report_broken(self) -> None:
        self._on_broken(HomespunError(
            Code.UNREACHABLE,
            f"The link from {self.local_id} to {self.remote_id} has had no stream for "
            f"{self.settings.broken_timeout_s} s: {self._reason}", peer=self.remote_id))

    def _drop_broken_timer(self) -> None:
        if self._broken_timer is not None:
            self._broken_timer.cancel()
            self._broken_timer = None

    def _enter(self, state: LinkState) -> None:
        self.state = state
        self.since = self._loop.time()

    async def _cancel(self, *tasks: asyncio.Task[None] | None) -> None:
        """Cancel tasks and see them end."""
        running = {task for task in tasks if task is not None and not task.done()}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
