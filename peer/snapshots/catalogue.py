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
            HomespunError: LIMIT_EXCEEDED for too many positions, DISK_FULL for too many bytes, when
                dropping all that is older than complete does not help.
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
        positions = {one.key.position for one in others
                     if (one.key.job_id, one.key.segment) == where} - {key.position}
        if len(positions) < POSITIONS_MAX:
            return []
        ours = [one for one in spares if (one.key.job_id, one.key.segment) == where]
        if not ours:
            raise HomespunError(
                Code.LIMIT_EXCEEDED,
                f"{len(positions)} positions of {key.job_id}, segment {key.segment}, lie here, and "
                "none is older than the complete one.", limit="positions")
        return [one for one in ours if one.key.position == ours[0].key.position]

    def _is_spare(self, key: SnapshotKey) -> bool:
        return key.position < self.complete.get((key.job_id, key.segment), 0)
