"""Where a job's segments are: a strip for each peer, full where it holds, hollow as a backup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.core.views import JobView, SegmentCoverage

CELL = 26
"""Units from one cell to the next, in both directions."""
LEFT = 170
"""Units for the names of peers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One peer and one segment.

    Attributes:
        peer_id: whose.
        segment: its number.
        x, y: upper left corner.
        state: the lease's phase; of a backup `backup`, or `backup-waits` while it gets ready.
        text: for who points at it.
    """

    peer_id: str
    segment: int
    x: int
    y: int
    state: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The placement of one job.

    Attributes:
        job_id, job_name, job_state: whose.
        peers: id, name and height of the text of each row.
        cells: of all rows.
        lacking: numbers of segments that could not go on at once without their peer.
        width, height: of the drawing.
    """

    job_id: str
    job_name: str
    job_state: str
    peers: tuple[tuple[str, str, int], ...]
    cells: tuple[Cell, ...]
    lacking: tuple[int, ...]
    width: int
    height: int


def strip(job: JobView, coverage: Sequence[SegmentCoverage], names: Mapping[str, str]) -> Strip:
    """Draw one job: peers in the order in which the segments run through them, then backups.

    Args:
        job: it has been placed.
        coverage: of its segments, empty before it has started.
        names: of peers, by id.
    """
    held = [(one.peer_id, one.segment, one.phase) for one in job.segments]
    backups = [(peer_id, one.segment, level) for one in coverage for peer_id, level in one.standbys]
    order = dict.fromkeys(peer_id for peer_id, *_ in (*held, *backups))
    rows = {peer_id: row for row, peer_id in enumerate(order)}

    def cell(peer_id: str, segment: int, state: str, what: str) -> Cell:
        return Cell(
            peer_id=peer_id, segment=segment, x=LEFT + CELL * segment, y=CELL * rows[peer_id],
            state=state, text=f"{names.get(peer_id, peer_id)}: segment {segment}, {what}")

    cells = [cell(peer_id, segment, phase, phase) for peer_id, segment, phase in held]
    cells += [
        cell(peer_id, segment, "backup" if level else "backup-waits",
             f"backup, {level or 'getting ready'}")
        for peer_id, segment, level in backups]
    return Strip(
        job_id=job.job_id, job_name=job.name, job_state=job.state,
        peers=tuple((peer_id, names.get(peer_id, peer_id), CELL * row + 17)
                    for peer_id, row in rows.items()),
        cells=tuple(cells), lacking=tuple(one.segment for one in coverage if one.gap),
        width=LEFT + CELL * len(job.segments), height=CELL * len(rows))
