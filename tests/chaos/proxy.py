"""A TCP proxy that spoils connections while they run: what home networks do, on one machine.

It stands in front of processes that listen, forwards bytes both ways, and knows who dials, so that
every *directed pair* of processes has conditions of its own: latency, jitter, a rate, slices,
flipped bits, a hold (nothing passes, nobody is told: a blackhole) or a refusal (reset at once).
TLS runs through it untouched, so all it can do is what a network can do.

It runs in a thread with an event loop of its own. Conditions may change at any time and hold for
the connections that are open and for those to come.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

CHUNK_BYTES = 1 << 14
QUEUE_CHUNKS = 256
"""Under way per direction: 4 MiB, more than a home line holds; beyond that the sender waits."""
RESET = struct.pack("ii", 1, 0)
"""Of SO_LINGER: closing sends RST."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What happens to bytes on their way from one process to another.

    Attributes:
        latency_s: every byte arrives so much later.
        jitter_s: and up to so much more, drawn per chunk; the order stays.
        bytes_per_s: at most so many arrive per second; 0 for no limit.
        slice_bytes: they arrive in writes of at most so many; 0 for as they come.
        corrupt_share: of the chunks get one bit flipped.
        is_held: nothing arrives, not even the end of the connection, until it is lifted.
        is_refused: connections are reset, old ones and new ones.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    slice_bytes: int = 0
    corrupt_share: float = 0.0
    is_held: bool = False
    is_refused: bool = False


FINE = Condition()
HELD = Condition(is_held=True)
REFUSED = Condition(is_refused=True)
Pair = tuple[str, str]


@dataclass(eq=False, slots=True)
class _Connection:
    """One connection through the proxy: who dialled whom, and both sockets' writers."""

    source: str
    target: str
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        """End both sides with RST, as a router does that has lost its table."""
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            with suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        for task in self.tasks:
            task.cancel()


class ChaosProxy:
    """Proxies in front of any number of processes. Use it as a context manager.

    Args:
        who: the name of the process that dials from a local port; "" for nobody known.
        seed: of jitter and flipped bits.
    """

    def __init__(self, who: Callable[[int], str], seed: int = 0) -> None:
        self._who = who
        self._random = random.Random(seed)
        self._conditions: dict[Pair, Condition] = {}
        self._connections: set[_Connection] = set()
        self._told = threading.Condition()
        self._moved: Counter[Pair] = Counter()
        self._dialled: Counter[Pair] = Counter()
        self._corrupted: Counter[Pair] = Counter()
        self._free_at_s: defaultdict[Pair, float] = defaultdict(float)
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="chaos")

    def __enter__(self) -> ChaosProxy:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def front(self, name: str, address: str) -> str:
        """Stand in front of the process `name` at `host:port`; returns where to dial instead."""
        host, _, port = address.rpartition(":")
        return self._call(self._listen(name, host, int(port)))

    # --- what happens to whom --------------------------------------------------------------

    def impose(self, source: str, target: str, condition: Condition) -> None:
        """From now on, for bytes from `source` to `target`, whoever of the two dialled."""
        async def change() -> None:
            self._conditions[source, target] = condition
            if condition.is_refused:
                self._reset(frozenset((source, target)))
            self._wake()

        self._call(change())

    def between(self, one: str, other: str, condition: Condition) -> None:
        """The same for both directions."""
        self.impose(one, other, condition)
        self.impose(other, one, condition)

    def heal(self) -> None:
        """Lift every condition: what was held arrives now."""
        async def change() -> None:
            self._conditions.clear()
            self._wake()

        self._call(change())

    def cut(self, one: str, other: str) -> None:
        """Reset the connections between two processes; new ones are welcome."""
        async def change() -> None:
            self._reset(frozenset((one, other)))

        self._call(change())

    # --- what was seen ---------------------------------------------------------------------

    def moved(self, source: str, target: str) -> int:
        """Bytes that have arrived."""
        with self._told:
            return self._moved[source, target]

    def dialled(self, source: str, target: str) -> int:
        """Connections that `source` has opened."""
        with self._told:
            return self._dialled[source, target]

    def corrupted(self, source: str, target: str) -> int:
        """Chunks with a flipped bit that have arrived."""
        with self._told:
            return self._corrupted[source, target]

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something is so that bytes or connections through here decide."""
        with self._told:
            return self._told.wait_for(is_so, timeout_s)

    # --- in the proxy's own thread ---------------------------------------------------------

    def _call(self, work):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self, name: str, host: str, port: int) -> str:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._accept(name, (host, port), reader, writer)

        server = await asyncio.start_server(accept, host, 0)
        self._servers.append(server)
        return f"{host}:{server.sockets[0].getsockname()[1]}"

    async def _accept(
        self, target: str, address: tuple[str, int],
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
    ) -> None:
        source = await asyncio.to_thread(self._who, writer.get_extra_info("peername")[1])
        try:
            if self._condition((source, target)).is_refused:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection(*address)
        except OSError:
            _Connection(source, target, (writer, writer)).reset()
            return
        connection = _Connection(source, target, (writer, far_writer))
        self._connections.add(connection)
        self._count(self._dialled, (source, target), 1)
        connection.tasks = [
            asyncio.ensure_future(self._pump((source, target), reader, far_writer)),
            asyncio.ensure_future(self._pump((target, source), far_reader, writer))]
        try:
            results = await asyncio.gather(*connection.tasks, return_exceptions=True)
            if any(isinstance(result, OSError) for result in results):
                connection.reset()
        finally:
            self._connections.discard(connection)
            for each in connection.writers:
                each.close()

    async def _pump(
        self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Move one direction's bytes: one task takes them in, this one gives them out in time."""
        under_way: asyncio.Queue[tuple[float, bytes | OSError]] = asyncio.Queue(QUEUE_CHUNKS)
        taking = asyncio.ensure_future(self._take(pair, reader, under_way))
        try:
            while True:
                due_s, chunk = await under_way.get()
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                while self._condition(pair).is_held:
                    await self._changed.wait()
                if isinstance(chunk, OSError):
                    raise chunk
                if not chunk:
                    with suppress(OSError):
                        writer.write_eof()
                    return
                await self._give(pair, chunk, writer)
        finally:
            taking.cancel()

    async def _take(
        self, pair: Pair, reader: asyncio.StreamReader,
        under_way: asyncio.Queue[tuple[float, bytes | OSError]],
    ) -> None:
        last_due_s, chunk = 0.0, b"?"
        while chunk:
            condition = self._condition(pair)
            try:
                chunk = await reader.read(CHUNK_BYTES)
            except OSError as error:
                await under_way.put((last_due_s, error))
                return
            delay_s = condition.latency_s + condition.jitter_s * self._random.random()
            last_due_s = max(last_due_s, time.monotonic() + delay_s)
            await under_way.put((last_due_s, chunk))

    async def _give(self, pair: Pair, chunk: bytes, writer: asyncio.StreamWriter) -> None:
        condition = self._condition(pair)
        if condition.corrupt_share and self._random.random() < condition.corrupt_share:
            chunk = _flipped(chunk, self._random)
            self._count(self._corrupted, pair, 1)
        size = condition.slice_bytes or len(chunk)
        for begin in range(0, len(chunk), size):
            part = chunk[begin:begin + size]
            if condition.bytes_per_s:
                # One line for all connections of the pair, as a house has.
                now_s = time.monotonic()
                free_s = max(now_s, self._free_at_s[pair]) + len(part) / condition.bytes_per_s
                self._free_at_s[pair] = free_s
                await asyncio.sleep(free_s - now_s)
            writer.write(part)
            await writer.drain()
            if condition.slice_bytes:
                await asyncio.sleep(0)
        self._count(self._moved, pair, len(chunk))

    def _condition(self, pair: Pair) -> Condition:
        return self._conditions.get(pair, FINE)

    def _reset(self, both: frozenset[str]) -> None:
        for connection in list(self._connections):
            if frozenset((connection.source, connection.target)) == both:
                connection.reset()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _count(self, counter: Counter[Pair], pair: Pair, amount: int) -> None:
        with self._told:
            counter[pair] += amount
            self._told.notify_all()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.reset()
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def _flipped(chunk: bytes, chance: random.Random) -> bytes:
    """A chunk with one bit of it the other way round."""
    spoilt = bytearray(chunk)
    spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
    return bytes(spoilt)
