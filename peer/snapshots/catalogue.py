"""What a store has, and what goes when room is needed. Pure: the store does it to the files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from homespun.errors import Code, HomespunError
from peer.snapshots.record import SnapshotKey, SnapshotRecord

POSITIONS_MAX = 8
"""Positions of one segment that other peers may put here."""


@dataclass(slots=True)
class Catalogue:
    """Complete files and those on their way.

    Attributes:
        limit_bytes: what other peers may put here, all together, >= 0.
        records: complete files.
        parts: files on their way, and those that a broken transfer left.
        complete: (job, segment) -> the newest position that is known to be complete.
    """

    limit_bytes: int
    records: dict[SnapshotKey, SnapshotRecord]
    parts: dict[Path, SnapshotRecord] = field(default_factory=dict)
    complete: dict[tuple[str, int], int] = field(default_factory=dict)

    def of(self, job_id: str, segment: int) -> list[SnapshotRecord]:
        """Complete files of a segment."""
        return [record for record in self.records.values()
                if (record.key.job_id, record.key.segment) == (job_id, segment)]

    def segments_of(self, job_id: str, before: int) -> list[int]:
        """Segments of a job, of smaller numbers than `before`, that something complete is of."""
        return sorted({record.key.segment for record in self.records.values()
                       if record.key.job_id == job_id and record.key.segment < before})

    def superseded(self, job_id: str, segment: int, position: int) -> list[SnapshotRecord]:
        """What is older than `position`, except the newest of that."""
        older = [record for record in self.of(job_id, segment) if record.key.position < position]
        kept = max((record.key.position for record in older), default=position)
        return [record for record in older if record.key.position < kept]

    def spares(self) -> list[SnapshotRecord]:
        """What is older than complete, oldest first: the last resort of a job, or of a disk."""
        spares = [record for record in self.records.values() if self._is_spare(record.key)]
        return sorted(spares, key=lambda record: record.key.position)

    def going_for(self, record: SnapshotRecord, part: Path) -> list[SnapshotRecord]:
        """What must go so that another peer's file fits.

        Args:
            record: the file.
            part: where it will be written; what is there already counts as its own.

        Raises:
            HomespunError: LIMIT_EXCEEDED for a position older than all that lie here, where that
                are too many; DISK_FULL for too many bytes, when dropping all that is older than
                complete does not help.
        """
        others = [one for path, one in self.parts.items() if path != part and one.source]
        others += [one for one in self.records.values() if one.source and one.key != record.key]
        spares = [one for one in self.spares() if one in others]
        going = self._beyond_positions(record.key, others, spares)
        free = self.limit_bytes - sum(one.content_bytes for one in others if one not in going)
        for spare in spares:
            if free >= record.content_bytes:
                break
            if spare not in going:
                going.append(spare)
                free += spare.content_bytes
        if free < record.content_bytes:
            raise HomespunError(
                Code.DISK_FULL,
                f"{record.key.title} takes {record.content_bytes} bytes; of the "
                f"{self.limit_bytes} that this peer keeps for others {free} can be freed.",
                wanted_bytes=record.content_bytes, had_bytes=free)
        return going

    def _beyond_positions(
        self, key: SnapshotKey, others: list[SnapshotRecord], spares: list[SnapshotRecord],
    ) -> list[SnapshotRecord]:
        """Files of the same segment that must go because of their number."""
        where = (key.job_id, key.segment)
        ours = [one for one in others if (one.key.job_id, one.key.segment) == where]
        positions = {one.key.position for one in ours} - {key.position}
        if len(positions) < POSITIONS_MAX:
            return []
        complete = self.complete.get(where, 0)
        spare = [one.key.position for one in ours if one in spares]
        newer = [position for position in positions if complete < position < key.position]
        if not spare and not newer:
            raise HomespunError(
                Code.LIMIT_EXCEEDED,
                f"{len(positions)} positions of {key.job_id}, segment {key.segment}, lie here, and "
                f"{key.position} is no newer one.", limit="positions")
        goes = min(spare or newer)
        return [one for one in ours
                if one.key.position == goes and self.records.get(one.key) is one]

    def surplus(self, job_id: str, segment: int, most: int) -> list[SnapshotRecord]:
        """Of what is newer than complete, all but the newest so many positions.

        A segment that replays may be far ahead of the complete position: its neighbours had passed
        there when snapshots were taken elsewhere. Complete itself serves every takeover till then.
        """
        complete = self.complete.get((job_id, segment), 0)
        newer = [one for one in self.of(job_id, segment) if one.key.position > complete]
        kept = sorted({one.key.position for one in newer})[-most:]
        return [one for one in newer if one.key.position not in kept]

    def _is_spare(self, key: SnapshotKey) -> bool:
        return key.position < self.complete.get((key.job_id, key.segment), 0)
