"""What a segment has sent to its neighbours since the complete position: log and outgoing queue.

A neighbour that is replaced is served from here; so is one that is only slow. Entries of one target
segment are numbered from 0 in the order of sending, and their positions never go down. The newest
lie in memory, older ones in a file; when both are full the oldest go, and `complete_from` says from
where on a target can still be served.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from homespun.errors import Code, HomespunError
from peer.core.phases import Mode
from peer.frames import Frame, digest_of

MEMORY_BYTES = 256 << 20
"""Payload kept in memory by default: some steps of a large boundary, hundreds of a small one."""
DISK_BYTES = 4 << 30
"""Payload kept on disk by default."""
ENTRY_BYTES = 256
"""What an entry costs beside its payload."""


def position_of(frame: Frame) -> int:
    """The position of a boundary tensor: of inference its microbatch, else its step."""
    return frame.microbatch if frame.mode is Mode.INFER else frame.step


@dataclass(slots=True)
class _Entry:
    """A frame; without its payload once that is in the file, at `offset`."""

    frame: Frame
    offset: int = -1

    @property
    def cost(self) -> int:
        return self.frame.payload_bytes + ENTRY_BYTES


@dataclass(slots=True)
class _Target:
    """The entries for one segment; the first has the number `first`."""

    first: int = 0
    entries: deque[_Entry] = dataclasses.field(default_factory=deque)
    in_memory: int = 0
    """Entries from this number on have their payload in memory."""
    complete_from: int = 0


class BoundaryLog:
    """The log of one lease. Not for several threads at once; `spill` and `read` touch the disk."""

    def __init__(
        self, path: Path, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES
    ) -> None:
        """Make an empty log; `path` is the file that it may write to."""
        self._path = path
        self._memory_limit, self._disk_limit = memory_bytes, disk_bytes
        self._targets: dict[int, _Target] = {}
        self._memory = 0
        self._file: BinaryIO | None = None
        self._file_bytes = 0

    def append(self, frame: Frame) -> int:
        """Add a frame for its target segment; returns its number."""
        target = self._targets.setdefault(frame.target, _Target())
        entry = _Entry(frame)
        target.entries.append(entry)
        self._memory += entry.cost
        return target.first + len(target.entries) - 1

    def end(self, segment: int) -> int:
        """The number that the next frame for a segment will get."""
        target = self._targets.get(segment)
        return 0 if target is None else target.first + len(target.entries)

    def first_at(self, segment: int, position: int) -> int:
        """Number of the first frame for a segment that belongs to a position or a later one.

        Cost: O(log entries).
        """
        target = self._targets.get(segment)
        if target is None:
            return 0
        low, high = 0, len(target.entries)
        while low < high:
            middle = (low + high) // 2
            if position_of(target.entries[middle].frame) < position:
                low = middle + 1
            else:
                high = middle
        return target.first + low

    def complete_from(self, segment: int) -> int:
        """The first position of which everything sent to a segment is still here."""
        target = self._targets.get(segment)
        return 0 if target is None else target.complete_from

    def header(self, segment: int, number: int) -> Frame:
        """A frame of the log, perhaps without its payload.

        Raises:
            HomespunError: CONFLICT when the log was cut behind it.
        """
        target = self._targets[segment]
        if number < target.first:
            raise HomespunError(
                Code.CONFLICT,
                f"the log for segment {segment} is complete from position {target.complete_from} "
                "on only: it had no more room", segment=segment)
        return target.entries[number - target.first].frame

    def read(self, segment: int, number: int) -> Frame:
        """A frame of the log with its payload, from disk where it has gone there.

        Raises:
            HomespunError: as `header`; DIGEST_MISMATCH when the file was damaged.
        """
        frame = self.header(segment, number)
        target = self._targets[segment]
        entry = target.entries[number - target.first]
        if entry.offset < 0:
            return frame
        assert self._file is not None
        self._file.seek(entry.offset)
        payload = self._file.read(frame.payload_bytes)
        if digest_of(payload) != frame.digest:
            raise HomespunError(
                Code.DIGEST_MISMATCH,
                f"the logged {frame.title()} does not have the digest that it was written with: "
                f"the disk of {self._path.parent} has changed it")
        return dataclasses.replace(frame, payload=payload)

    def is_on_disk(self, segment: int, number: int) -> bool:
        """Whether `read` will touch the disk."""
        target = self._targets[segment]
        return target.entries[number - target.first].offset >= 0 if (
            number >= target.first) else False

    def forget_before(self, position: int) -> None:
        """Drop what belongs to earlier positions. Cost: linear in what is dropped."""
        for target in self._targets.values():
            while target.entries and position_of(target.entries[0].frame) < position:
                self._drop_first(target)
            target.complete_from = max(target.complete_from, position)
        if self._file is not None and not any(
                target.in_memory > target.first for target in self._targets.values()):
            self._file.truncate(0)
            self._file_bytes = 0

    @property
    def is_spill_due(self) -> bool:
        """Whether more is in memory than may be."""
        return self._memory > self._memory_limit

    def spill(self) -> None:
        """Write the oldest payloads in memory to the file until half of the memory is free.

        A disk that has no room for them, or may not have more, costs the oldest entries.
        """
        while self._memory > self._memory_limit // 2:
            target = min(
                (t for t in self._targets.values() if t.in_memory < t.first + len(t.entries)),
                key=lambda t: position_of(t.entries[max(t.in_memory, t.first) - t.first].frame))
            number = max(target.in_memory, target.first)
            entry = target.entries[number - target.first]
            if self._file_bytes + entry.frame.payload_bytes > self._disk_limit or not (
                    self._write(entry)):
                self._cut(target, number)
                continue
            self._memory -= entry.frame.payload_bytes
            target.in_memory = number + 1

    def _write(self, entry: _Entry) -> bool:
        """Put an entry's payload into the file; False when the disk is full."""
        frame = entry.frame
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("w+b", buffering=0)
            self._file.seek(self._file_bytes)
            written = self._file.write(frame.payload)
        except OSError:
            return False
        if written != frame.payload_bytes:
            return False
        entry.offset = self._file_bytes
        entry.frame = dataclasses.replace(frame, digest=digest_of(frame.payload), payload=b"")
        self._file_bytes += written
        return True

    def _cut(self, target: _Target, through: int) -> None:
        """Give up a target's entries through a number: no room is left for them."""
        while target.first <= through:
            position = position_of(target.entries[0].frame)
            self._drop_first(target)
            target.complete_from = max(target.complete_from, position + 1)

    def _drop_first(self, target: _Target) -> None:
        entry = target.entries.popleft()
        self._memory -= ENTRY_BYTES if entry.offset >= 0 else entry.cost
        target.first += 1
        target.in_memory = max(target.in_memory, target.first)

    @property
    def held_bytes(self) -> tuple[int, int]:
        """Bytes in memory and on disk."""
        return self._memory, self._file_bytes

    def close(self) -> None:
        """Forget everything and remove the file."""
        self._targets.clear()
        self._memory = self._file_bytes = 0
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
