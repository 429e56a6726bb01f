"""What a segment has sent to its neighbours since the complete position: log and outgoing queue.

A neighbour that is replaced is served from here; so is one that is only slow. Entries of one target
segment are numbered from 0 in the order of sending, and their positions never go down. The newest
lie in memory, older ones in files; when both are full the oldest go, and `complete_from` says from
where on a target can still be served.

The books are kept in the event loop. Threads only read and write files, each of which is written
once, never changed, and removed when nothing in it is wanted any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from pathlib import Path

from homespun.errors import Code, HomespunError
from peer.core.phases import Mode
from peer.frames import Frame, Payload, digest_of

MEMORY_BYTES = 256 << 20
"""Payload kept in memory by default: some steps of a large boundary, hundreds of a small one."""
DISK_BYTES = 4 << 30
"""Payload kept on disk by default."""
ENTRY_BYTES = 256
"""What an entry costs in memory beside its payload."""


def position_of(frame: Frame) -> int:
    """The position of a boundary tensor: of inference its microbatch, else its step."""
    return frame.microbatch if frame.mode is Mode.INFER else frame.step


@dataclass(slots=True, eq=False)
class _File:
    """Payloads that were written together.

    Attributes:
        wanted: entries that are still of the log.
        through: the last number of each target in it.
    """

    path: Path
    size_bytes: int
    wanted: int = 0
    through: dict[int, int] = dataclasses.field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Entry:
    """A frame; without its payload once that is in a file, at `offset`.

    `before`: payload bytes of all frames that its target got before it.
    """

    frame: Frame
    before: int
    file: _File | None = None
    offset: int = 0

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return ENTRY_BYTES + (0 if self.file else self.frame.payload_bytes)


@dataclass(slots=True)
class _Target:
    """The entries for one segment.

    Attributes:
        first: number of the first entry.
        written: entries before this number have their payload in a file.
        complete_from: nothing that belongs to this position or a later one was dropped.
        cut: what was before this number is not here, and may be needed.
        payload_bytes: of all frames ever.
    """

    complete_from: int
    first: int = 0
    written: int = 0
    cut: int = 0
    payload_bytes: int = 0
    entries: deque[_Entry] = dataclasses.field(default_factory=deque)

    @property
    def end(self) -> int:
        return self.first + len(self.entries)


_Chosen = tuple[int, int, _Entry]
"""(target, number, entry)"""


class BoundaryLog:
    """The log of one lease. Use it in one event loop."""

    def __init__(
        self, path: Path, position: int = 0, memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        """Make an empty log.

        Args:
            path: what the names of its files begin with.
            position: what the segment begins at; nothing of an earlier one will be here.
            memory_bytes: kept in memory at most, >= 0.
            disk_bytes: kept in files at most, >= 0.
        """
        self._path, self._position = path, position
        self._memory_limit, self._disk_limit = memory_bytes, disk_bytes
        self._targets: dict[int, _Target] = {}
        self._files: list[_File] = []
        self._memory = self._disk = 0
        self._unwanted: list[Path] = []
        self._written_files = 0
        self._spilling = asyncio.Lock()

    # --- the queue -----------------------------------------------------------------------------

    def append(self, frame: Frame) -> int:
        """Add a frame for its target segment; returns its number."""
        target = self._targets.setdefault(frame.target, _Target(self._position))
        entry = _Entry(frame, target.payload_bytes)
        target.entries.append(entry)
        target.payload_bytes += frame.payload_bytes
        self._memory += entry.cost
        return target.end - 1

    def end(self, segment: int) -> int:
        """The number that the next frame for a segment will get."""
        target = self._targets.get(segment)
        return 0 if target is None else target.end

    def first_at(self, segment: int, position: int) -> int:
        """Number of the first frame for a segment that belongs to a position or a later one.

        Raises:
            HomespunError: CONFLICT when some of those are not here any more.

        Cost: linear in the frames of earlier positions.
        """
        if self.complete_from(segment) > position:
            raise self._cut_error(segment)
        target = self._targets.get(segment)
        if target is None:
            return 0
        earlier = 0
        for entry in target.entries:
            if position_of(entry.frame) >= position:
                break
            earlier += 1
        return target.first + earlier

    def complete_from(self, segment: int) -> int:
        """The first position of which everything sent to a segment is still here."""
        target = self._targets.get(segment)
        return self._position if target is None else target.complete_from

    def next_from(self, segment: int, number: int, position: int) -> int:
        """The first frame from this number on that belongs to a position or a later one.

        Raises:
            HomespunError: CONFLICT when frames from this number on were cut, and may be needed.

        Cost: linear in the frames that are passed over.
        """
        target = self._targets.get(segment)
        if target is None:
            return number
        if number < target.cut:
            raise self._cut_error(segment)
        number = max(number, target.first)
        while number < target.end and (
                position_of(target.entries[number - target.first].frame) < position):
            number += 1
        return number

    def bytes_from(self, segment: int, number: int) -> int:
        """Payload bytes of the frames for a segment from this number on."""
        target = self._targets.get(segment)
        if target is None or number >= target.end:
            return 0
        return target.payload_bytes - target.entries[max(number - target.first, 0)].before

    async def read(self, segment: int, number: int) -> Frame:
        """A frame of the log with its payload.

        Raises:
            HomespunError: CONFLICT when it is not here any more, or its file was damaged: then the
                log is cut behind it.
        """
        target = self._targets[segment]
        if number < target.first:
            raise self._cut_error(segment)
        entry = target.entries[number - target.first]
        if entry.file is None:
            return entry.frame
        frame = entry.frame
        payload = await asyncio.to_thread(
            _read, entry.file.path, entry.offset, frame.payload_bytes)
        if payload is None or digest_of(payload) != frame.digest:
            self._cut(segment, number)
            raise HomespunError(
                Code.CONFLICT,
                f"the logged {frame.title()} for segment {segment} cannot be read as it was "
                f"written: the disk of {self._path.parent} has lost or changed it")
        return dataclasses.replace(frame, payload=payload)

    def forget_before(self, position: int) -> None:
        """Drop what belongs to earlier positions; `sweep` removes the files that are left over.

        Cost: linear in what is dropped.
        """
        self._position = max(self._position, position)
        for target in self._targets.values():
            while target.entries and position_of(target.entries[0].frame) < position:
                self._drop_first(target)
            if target.complete_from <= position:
                target.complete_from = position
                target.cut = 0  # what was cut is not needed any more either

    # --- memory and disk -----------------------------------------------------------------------

    @property
    def held_bytes(self) -> tuple[int, int]:
        """Bytes in memory and in files."""
        return self._memory, self._disk

    @property
    def is_spill_due(self) -> bool:
        """Whether more is in memory than may be."""
        return self._memory > self._memory_limit

    async def spill(self) -> None:
        """Move the oldest payloads in memory to a file until half of the memory is free.

        Where no room is left on the disk, the oldest entries of all go.
        """
        async with self._spilling:
            while self.is_spill_due:
                chosen = self._oldest_in_memory(self._memory - self._memory_limit // 2)
                size = sum(entry.frame.payload_bytes for _, _, entry in chosen)
                while self._files and self._disk + size > self._disk_limit:
                    self._cut_file(self._files[0])
                if size and size <= self._disk_limit and await self._write(chosen, size):
                    continue
                if self._files:
                    self._cut_file(self._files[0])  # the disk is full: perhaps it has room then
                else:
                    self._cut_oldest(chosen)

    async def sweep(self) -> None:
        """Remove files that nobody wants."""
        unwanted, self._unwanted = self._unwanted, []
        if unwanted:
            await asyncio.to_thread(_remove, unwanted)

    async def close(self) -> None:
        """Forget everything and remove all files."""
        async with self._spilling:
            self._targets.clear()
            self._unwanted += [file.path for file in self._files]
            self._files.clear()
            self._memory = self._disk = 0
            await self.sweep()

    def _oldest_in_memory(self, wanted_bytes: int) -> list[_Chosen]:
        """Entries that would free so much, or all that could, in the order of their positions."""
        chosen: list[_Chosen] = []
        freed = 0
        for _, number, segment, entry in merge(*(
                _in_memory(segment, target) for segment, target in self._targets.items())):
            if freed >= wanted_bytes:
                break
            freed += entry.frame.payload_bytes
            chosen.append((segment, number, entry))
        return chosen

    async def _write(self, chosen: list[_Chosen], size: int) -> bool:
        """Move entries' payloads to a new file; False when the disk takes no more."""
        self._written_files += 1
        file = _File(Path(f"{self._path}.{self._written_files}"), size)
        payloads = [entry.frame.payload for _, _, entry in chosen]
        unwanted, self._unwanted = self._unwanted, []
        try:
            digests = await asyncio.to_thread(_write, file.path, payloads, unwanted)
        except asyncio.CancelledError:
            self._unwanted.append(file.path)
            raise
        if digests is None:
            return False
        offset = 0
        for (segment, number, entry), digest in zip(chosen, digests, strict=True):
            target = self._targets.get(segment)
            if target is not None and number >= target.first:  # not forgotten meanwhile
                self._memory -= entry.frame.payload_bytes
                entry.file, entry.offset = file, offset
                file.wanted += 1
                file.through[segment] = number
                target.written = number + 1
            offset += entry.frame.payload_bytes
            entry.frame = dataclasses.replace(entry.frame, digest=digest, payload=b"")
        if file.wanted:
            self._files.append(file)
            self._disk += size
        else:
            self._unwanted.append(file.path)
        return True

    def _cut_file(self, file: _File) -> None:
        """Give up the oldest file, and all that is older than what is in it."""
        for segment, number in list(file.through.items()):
            self._cut(segment, number)

    def _cut_oldest(self, chosen: list[_Chosen]) -> None:
        """Give up the oldest entries that are in memory, or the oldest position of all."""
        if not any(entry.frame.payload_bytes for _, _, entry in chosen):
            oldest = min(position_of(target.entries[0].frame)
                         for target in self._targets.values() if target.entries)
            chosen = [
                (segment, number, entry) for segment, target in self._targets.items()
                for number, entry in enumerate(target.entries, target.first)
                if position_of(entry.frame) <= oldest]
        for segment, number, _ in chosen:
            self._cut(segment, number)

    def _cut(self, segment: int, through: int) -> None:
        """Give up a target's entries through a number."""
        target = self._targets[segment]
        while target.entries and target.first <= through:
            position = position_of(target.entries[0].frame)
            self._drop_first(target)
            target.cut = target.first
            target.complete_from = max(target.complete_from, position + 1)

    def _drop_first(self, target: _Target) -> None:
        entry = target.entries.popleft()
        self._memory -= entry.cost
        target.first += 1
        target.written = max(target.written, target.first)
        file = entry.file
        if file is not None:
            file.wanted -= 1
            if not file.wanted:
                self._files.remove(file)
                self._disk -= file.size_bytes
                self._unwanted.append(file.path)

    def _cut_error(self, segment: int) -> HomespunError:
        return HomespunError(
            Code.CONFLICT,
            f"the log for segment {segment} begins at position {self.complete_from(segment)}: what "
            "was sent before is not kept any more", segment=segment)


def _in_memory(segment: int, target: _Target) -> Iterator[tuple[int, int, int, _Entry]]:
    """(position, number, target, entry) of what has its payload in memory; no two are equal."""
    start = target.written - target.first
    for number, entry in enumerate(islice(target.entries, start, None), target.written):
        yield position_of(entry.frame), number, segment, entry


# --- in threads ------------------------------------------------------------------------------


def _write(path: Path, payloads: list[Payload], unwanted: list[Path]) -> list[bytes] | None:
    """Write a file, after others were removed; the digests, or None if the disk takes it not."""
    _remove(unwanted)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.writelines(payloads)
    except OSError:
        _remove([path])
        return None
    return [digest_of(payload) for payload in payloads]


def _read(path: Path, offset: int, size: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError:
        return None


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
