"""One stream of a link, from hello to its end: a reader, a writer and a heartbeat."""

from __future__ import annotations

import asyncio
from typing import NoReturn, Protocol

from homespun.errors import Code, HomespunError
from homespun.ids import PeerId
from homespun.pieces import Pieces
from peer.frames import Frame
from peer.links.chunks import Assembler
from peer.links.control import Hello, hello_message, read_hello
from peer.links.messages import Messages
from peer.links.outbox import Outbox
from peer.links.settings import LinkSettings


class LinkEnd(Protocol):
    """What a stream needs of the link that it serves."""

    @property
    def remote_id(self) -> PeerId:
        """The other peer."""
        ...

    @property
    def settings(self) -> LinkSettings:
        """The link's numbers."""
        ...

    def payload_limit(self, frame: Frame) -> int:
        """Most payload bytes to accept for this header."""
        ...

    def hello(self) -> Hello:
        """Where this side stands."""
        ...

    def stream_is_up(self, hello: Hello) -> Outbox:
        """The other side said where it stands; what to write comes from the outbox."""
        ...

    def take(self, frame: Frame) -> None:
        """A frame arrived."""
        ...

    def fail(self, error: HomespunError) -> None:
        """The other side sent what no correct peer sends; the stream ends soon."""
        ...

    def is_over(self) -> bool:
        """Whether the other side said that it closed the link."""
        ...

    def wake(self) -> None:
        """Let `something_to_write` return."""
        ...

    async def something_to_write(self) -> None:
        """Wait until the outbox may have a message."""
        ...

    def farewell(self) -> bytes | None:
        """The last message, once, when this side has closed the link or refused the other."""
        ...


async def exchange(link: LinkEnd, messages: Messages) -> NoReturn:
    """Carry a link's frames over one stream until the stream ends.

    Raises:
        HomespunError: always: why it ended. UNREACHABLE for a broken or ended stream, TIMED_OUT
            for a silent one; anything else is a defect or a lie of the other side.
    """
    assembler = Assembler(link.remote_id, link.payload_limit)
    timeout_s = link.settings.hello_timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            await messages.write(hello_message(link.hello()))
            first = await _read(link, messages)
    except TimeoutError:
        raise HomespunError(
            Code.TIMED_OUT, f"{link.remote_id} sent no hello within {timeout_s} s.",
            peer=link.remote_id) from None
    hellos = assembler.add(first)
    if len(hellos) != 1:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"The stream from {link.remote_id} did not begin with a hello.",
            peer=link.remote_id)
    outbox = link.stream_is_up(read_hello(hellos[0]))
    stream = _Stream(link, messages, assembler, outbox)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.read_all())
            tasks.create_task(stream.write_all())
            tasks.create_task(stream.beat())
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    raise AssertionError("a stream ends only by an error")


async def _read(link: LinkEnd, messages: Messages) -> bytes:
    if (message := await messages.read()) is None:
        raise HomespunError(
            Code.UNREACHABLE, f"{link.remote_id} ended the stream.", peer=link.remote_id)
    return message


class _Stream:
    """The three loops of one stream."""

    def __init__(
        self, link: LinkEnd, messages: Messages, assembler: Assembler, outbox: Outbox
    ) -> None:
        self._link = link
        self._messages = messages
        self._assembler = assembler
        self._outbox = outbox
        self._now = asyncio.get_running_loop().time
        self._heard_at = self._now()

    async def read_all(self) -> NoReturn:
        """Take whatever comes. Never waits for the consumer: the windows bound what is held."""
        while not self._link.is_over():
            message = await _read(self._link, self._messages)
            self._heard_at = self._now()
            try:
                for frame in self._assembler.add(message):
                    self._link.take(frame)
            except HomespunError as error:
                self._link.fail(error)
                await self._discard()
        raise HomespunError(
            Code.UNREACHABLE, f"{self._link.remote_id} closed the link.",
            peer=self._link.remote_id)

    async def _discard(self) -> NoReturn:
        """Read nothing more out of a stream that is refused, until the other side ends it.

        Reading goes on so that our farewell gets through; the link sets it a deadline.
        """
        while True:
            await _read(self._link, self._messages)

    async def write_all(self) -> NoReturn:
        """Write what the outbox gives, and the farewell before anything else."""
        pieces = Pieces(self._link.settings.chunk_bytes)
        while True:
            if (message := self._link.farewell()) is not None:
                await self._messages.write(message)
                await asyncio.get_running_loop().create_future()  # read_all ends the stream
            self._outbox.chunk_bytes = pieces.size_bytes
            if (message := self._outbox.next_message()) is not None:
                began_s = self._now()
                await self._messages.write(message)
                pieces.took(len(message), self._now() - began_s)
            else:
                await self._link.something_to_write()

    async def beat(self) -> NoReturn:
        """Make this side audible, and notice when the other side is not."""
        settings = self._link.settings
        while True:
            await asyncio.sleep(settings.heartbeat_s)
            silent_s = self._now() - self._heard_at
            if silent_s > settings.silence_timeout_s:
                raise HomespunError(
                    Code.TIMED_OUT,
                    f"Nothing was heard from {self._link.remote_id} for {silent_s:.0f} s.",
                    peer=self._link.remote_id)
            self._outbox.is_ack_wanted = True
            self._link.wake()
