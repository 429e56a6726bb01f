"""How fast a path is: round trips of empty frames, then growing bursts, all bounded.

The client sends a burst of `probe` frames and the server answers the last one of each burst, so one
clock measures everything. A ping is a burst of one empty frame.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import grpc

from homespun.errors import Code, HomespunError
from homespun.ids import PeerId
from peer.frames import Frame, Kind, encode_header, opaque_frame, with_digest
from peer.links.chunks import Assembler, whole_message
from peer.links.messages import PROBE, PROTOCOL_METADATA, Messages, open_stream
from peer.links.settings import PROTOCOL_VERSION
from peer.metering import UNMETERED, Route

MAX_PROBE_BYTES = 256 << 20
"""Payload that a server takes in one probe."""
MAX_PROBE_FRAMES = 4096
MAX_PROBES = 4
"""Probes that a server takes in at once; one is measured at a time, the others wait."""
PROBE_TIMEOUT_S = 60.0
_CHUNK_BYTES = 1 << 20
_FIRST_BURST_BYTES = 64 << 10
_PINGS = 9
_LONG_ENOUGH_S = 0.2
_LONG_ENOUGH_TRIPS = 10
"""A burst that took so long, and so many round trips, has outgrown them and TCP's slow start, which
takes about log2(line's bytes in flight / 14 KB) of them: at 20 ms one way, 0.2 s was all it."""
_LONG_S = 5.0
"""A burst that took so long was a line's, whatever the round trips: on a slow line one is enough,
and two would outlast the probe. 64 KiB take so long at 0.1 Mbit/s."""
_MORE, _LAST = 0, 1


@dataclass(frozen=True, slots=True)
class Measurement:
    """A path, as measured from this end.

    Attributes:
        latency_s: half the median round trip of an empty frame; about 0.1 ms is gRPC's own.
        bandwidth_bytes_per_s: payload of the last burst over its time without one round trip.
    """

    latency_s: float
    bandwidth_bytes_per_s: float


async def measure(
    channel: grpc.aio.Channel, remote: str, probe_bytes: int = 32 << 20,
    timeout_s: float = PROBE_TIMEOUT_S, route: Route = UNMETERED,
) -> Measurement:
    """Measure the path to a peer that runs a `LinkServer`.

    Bursts double from 64 KiB until one takes 0.2 s and ten round trips, or 5 s, or all of
    `probe_bytes` is spent, so a slow path is not flooded; the last one is repeated if it was
    shorter than 5 s and the bytes allow. That is below 30 s in all above 20 kbit/s.

    Args:
        channel: to the peer.
        remote: the peer's id, for messages.
        probe_bytes: most payload to send, >= 1; at most `MAX_PROBE_BYTES` is used.
        timeout_s: for everything.
        route: meters it, so that what is measured is what the owner's rate leaves.

    Raises:
        HomespunError: UNREACHABLE, TIMED_OUT, or NOT_ALLOWED when the peer refuses.
    """
    call = open_stream(channel, PROBE, ((PROTOCOL_METADATA, str(PROTOCOL_VERSION)),))
    burst = _Bursts(Messages(call, remote, route), remote)
    try:
        async with asyncio.timeout(timeout_s):
            await burst.run(0)  # opens the connection
            trips = [await burst.run(0) for _ in range(_PINGS)]
            return Measurement(
                median(trips) / 2,
                await _bandwidth(burst, median(trips), min(probe_bytes, MAX_PROBE_BYTES)))
    except TimeoutError:
        raise HomespunError(
            Code.TIMED_OUT, f"Measuring the path to {remote} took longer than {timeout_s} s.",
            peer=remote) from None
    finally:
        call.cancel()


async def _bandwidth(burst: _Bursts, trip_s: float, budget_bytes: int) -> float:
    """The quicker one of the last burst and its repetition.

    Whatever else the line carries, such as a probe the other way, only ever adds to one.
    """
    size = min(_FIRST_BURST_BYTES, budget_bytes)
    enough_s = min(_LONG_S, max(_LONG_ENOUGH_S, _LONG_ENOUGH_TRIPS * trip_s))
    while True:
        took_s = await burst.run(size)
        budget_bytes -= size
        if took_s > enough_s or budget_bytes < 2 * size:
            break
        size *= 2
    if budget_bytes >= size and took_s < _LONG_S:
        took_s = min(took_s, await burst.run(size))
    return size / max(took_s - trip_s, 1e-6)


class _Bursts:
    """The client's side of one probe."""

    def __init__(self, messages: Messages, remote: str) -> None:
        self._messages = messages
        self._answers = Assembler(remote, lambda frame: 0)
        self._remote = remote
        full = with_digest(opaque_frame(Kind.PROBE, bytes(_CHUNK_BYTES), edge=_MORE))
        self._full = whole_message(full)
        self._last = encode_header(with_digest(opaque_frame(Kind.PROBE, edge=_LAST)))

    async def run(self, size: int) -> float:
        """Send `size` bytes and wait for the answer; seconds."""
        began_s = time.perf_counter()
        for _ in range(size // _CHUNK_BYTES):
            await self._messages.write(self._full)
        if rest := size % _CHUNK_BYTES:
            frame = with_digest(opaque_frame(Kind.PROBE, bytes(rest), edge=_MORE))
            await self._messages.write(whole_message(frame))
        await self._messages.write(self._last)
        answer = await self._messages.read()
        if answer is None or not self._answers.add(answer):
            raise HomespunError(
                Code.UNREACHABLE, f"{self._remote} ended the probe early.", peer=self._remote)
        return time.perf_counter() - began_s


class ProbeServer:
    """The server's side: reads, forgets, answers."""

    def __init__(self, accept: Callable[[PeerId], bool]) -> None:
        self._accept = accept
        self._running = 0
        self._turn = asyncio.Lock()

    async def serve(self, messages: Messages, peer_id: PeerId) -> None:
        """Answer one probe, when those before it are through: two would share our line.

        Raises:
            HomespunError: NOT_ALLOWED, OVERLOADED when too many run, LIMIT_EXCEEDED when the caller
                sends too much, TIMED_OUT, or UNREACHABLE when the caller goes away.
        """
        if not self._accept(peer_id):
            raise HomespunError(Code.NOT_ALLOWED, f"{peer_id} may not measure this peer.")
        if self._running >= MAX_PROBES:
            raise HomespunError(Code.OVERLOADED, f"{MAX_PROBES} probes run here already.")
        self._running += 1
        try:
            async with self._turn, asyncio.timeout(PROBE_TIMEOUT_S):
                await _answer(messages, peer_id)
        except TimeoutError:
            raise HomespunError(
                Code.TIMED_OUT, f"A probe of {peer_id} took longer than {PROBE_TIMEOUT_S} s.",
            ) from None
        finally:
            self._running -= 1


async def _answer(messages: Messages, peer_id: PeerId) -> None:
    assembler = Assembler(peer_id, _probe_limit)
    answer = encode_header(with_digest(opaque_frame(Kind.PROBE)))
    taken_bytes = taken_frames = 0
    while (message := await messages.read()) is not None:
        for frame in assembler.add(message):
            taken_bytes += frame.payload_bytes
            taken_frames += 1
            if taken_bytes > MAX_PROBE_BYTES or taken_frames > MAX_PROBE_FRAMES:
                raise HomespunError(
                    Code.LIMIT_EXCEEDED, f"A probe may bring {MAX_PROBE_BYTES} bytes in "
                    f"{MAX_PROBE_FRAMES} frames.")
            if frame.edge == _LAST:
                await messages.write(answer)


def _probe_limit(frame: Frame) -> int:
    return _CHUNK_BYTES if frame.kind is Kind.PROBE else 0
