"""The links of a job as a drawing: its peers in a row, arcs for what flows, backups below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.core.timeline import Span
from broker.core.views import JobView, SegmentCoverage, SegmentLink
from broker.placed_jobs import Traffic
from homespun.units import format_size

COLUMN = 150
"""Units from one peer to the next."""
BOX_WIDTH, BOX_HEIGHT = 118, 34
ARC = 26
"""Units that an arc rises for each column that it passes over..."""
ARC_MAX = 130
"""...at most."""
BELOW = 110
"""Units from the row of holders to that of backups."""
HOLDERS_MAX = 40
"""Larger jobs have the table only."""
MOVING = ("assigned", "ready")
"""Phases of a lease whose peer still loads the segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A peer.

    Attributes:
        peer_id, name: which.
        x, y: upper left corner.
        state: phase of its lease; of a backup `backup`, or `backup-waits` while it gets ready; of
            one that a segment moves away from `left`.
        text: what it has.
    """

    peer_id: str
    name: str
    x: int
    y: int
    state: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A curve from one peer to another.

    Attributes:
        kind: `link`, `standby` or `takeover`.
        path: as SVG wants it.
        label: short, or "" for none; at `label_x`, `label_y`.
        text: for who points at it.
    """

    kind: str
    path: str
    label: str
    label_x: int
    label_y: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRow:
    """One link in the table: the same as in the drawing, in words.

    Attributes:
        source, target: peers as (id, name).
        segments: `0 to 1`.
        microbatch_bytes: that cross for each microbatch, forward.
        latency_s, bandwidth_bytes_per_s: measured; None while they are not.
        sent_bytes: for this job so far.
    """

    source: tuple[str, str]
    target: tuple[str, str]
    segments: str
    microbatch_bytes: int
    latency_s: float | None
    bandwidth_bytes_per_s: float | None
    sent_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The drawing, and its links as rows. Without boxes where it would be too large."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    rows: tuple[LinkRow, ...]
    width: int
    height: int


def graph(
    job: JobView, links: Sequence[SegmentLink], coverage: Sequence[SegmentCoverage],
    spans: Sequence[Span], traffic: Traffic, names: Mapping[str, str],
) -> Graph:
    """Draw a job that has a place.

    Args:
        job: whose peers.
        links: between its segments.
        coverage: of its segments; empty before it has started.
        spans: its timeline, to tell whom a segment comes from that moves.
        traffic: what was sent so far.
        names: of peers, by id.
    """
    rows = tuple(_row(link, traffic, names) for link in links)
    if len(job.segments) > HOLDERS_MAX:
        return Graph(boxes=(), lines=(), rows=rows, width=0, height=0)
    holders = {one.peer_id: one for one in job.segments}
    columns = {peer_id: column for column, peer_id in enumerate(holders)}
    reach = max((abs(columns[link.source_peer] - columns[link.target_peer]) for link in links),
                default=1)
    top = min(ARC_MAX, ARC * reach) // 2 + 24
    backups: dict[str, list[tuple[int, str]]] = {}
    for one in coverage:
        for peer_id, level in one.standbys:
            if peer_id not in holders:
                backups.setdefault(peer_id, []).append((one.segment, level))
    comes_from = {segment: peer_id for segment, peer_id in _moves(job, spans).items()
                  if peer_id not in holders}
    below = list(dict.fromkeys((*backups, *comes_from.values())))
    place = {peer_id: (COLUMN * column, top) for peer_id, column in columns.items()}
    place |= {peer_id: (COLUMN * column, top + BELOW) for column, peer_id in enumerate(below)}

    def name(peer_id: str) -> str:
        return names.get(peer_id, peer_id)

    boxes = [Box(peer_id=peer_id, name=name(peer_id), x=place[peer_id][0], y=top,
                 state=one.phase, text=_held(job, peer_id)) for peer_id, one in holders.items()]
    for peer_id in below:
        duties = backups.get(peer_id, [])
        state = ("left" if not duties else "backup" if all(level for _, level in duties)
                 else "backup-waits")
        boxes.append(Box(
            peer_id=peer_id, name=name(peer_id), x=place[peer_id][0], y=place[peer_id][1],
            state=state, text=_ready(duties)))
    holder_of = {one.segment: one.peer_id for one in job.segments}
    lines = [_arc(row, place) for row in rows]
    lines += [_upright("standby", place[peer_id], place[holder_of[segment]],
                       f"{name(peer_id)} stands by for segment {segment}: {level or 'not ready'}")
              for peer_id, duties in backups.items() for segment, level in duties]
    lines += [_upright("takeover", place[peer_id], place[holder_of[segment]],
                       f"segment {segment} moves from {name(peer_id)} to "
                       f"{name(holder_of[segment])}")
              for segment, peer_id in comes_from.items()]
    return Graph(
        boxes=tuple(boxes), lines=tuple(lines), rows=rows,
        width=COLUMN * max(len(columns), len(below), 1),
        height=top + BOX_HEIGHT + 8 + (BELOW if below else 0))


def _row(link: SegmentLink, traffic: Traffic, names: Mapping[str, str]) -> LinkRow:
    source, target = link.source_peer, link.target_peer
    return LinkRow(
        source=(source, names.get(source, source)), target=(target, names.get(target, target)),
        segments=f"{link.source} to {link.target}", microbatch_bytes=link.microbatch_bytes,
        latency_s=link.measured.latency_s if link.measured else None,
        bandwidth_bytes_per_s=link.measured.bandwidth_bytes_per_s if link.measured else None,
        sent_bytes=traffic.get((source, target), 0))


def _moves(job: JobView, spans: Sequence[Span]) -> dict[int, str]:
    """Segments that are being taken over -> who had each before."""
    moving = {one.segment: one.token for one in job.segments if one.phase in MOVING}
    found: dict[int, str] = {}
    for span in spans:  # by segment, then in order of time
        if span.segment in moving and span.token < moving[span.segment] and span.running_at_ns:
            found[span.segment] = span.peer_id
    return found


def _held(job: JobView, peer_id: str) -> str:
    return "segment " + ", ".join(
        str(one.segment) for one in job.segments if one.peer_id == peer_id)


def _ready(duties: Sequence[tuple[int, str]]) -> str:
    """Short, for the box; which level it has of each stands on the lines."""
    return ", ".join(str(segment) for segment, _ in duties) or "has left"


def _arc(row: LinkRow, place: Mapping[str, tuple[int, int]]) -> Line:
    """From the right side of a box to the left of another, or over those between them."""
    (from_x, y), (to_x, _) = place[row.source[0]], place[row.target[0]]
    passed = abs(to_x - from_x) // COLUMN
    label = "" if row.bandwidth_bytes_per_s is None else \
        f"{format_size(row.bandwidth_bytes_per_s)}/s"
    text = f"{row.source[1]} to {row.target[1]}, segments {row.segments}: " + (
        f"{label}, {row.latency_s * 1000:.1f} ms" if row.latency_s is not None else "not measured")
    if passed == 1 and to_x > from_x:
        start, end, middle = from_x + BOX_WIDTH, to_x, y + BOX_HEIGHT // 2
        return Line(kind="link", path=f"M{start} {middle}H{end}", label=label,
                    label_x=(start + end) // 2, label_y=y - 6, text=text)
    start, end = from_x + BOX_WIDTH // 2, to_x + BOX_WIDTH // 2
    height = min(ARC_MAX, ARC * max(passed, 1))
    return Line(
        kind="link", path=f"M{start} {y}Q{(start + end) // 2} {y - height} {end} {y}",
        label=label, label_x=(start + end) // 2, label_y=y - height // 2 - 4, text=text)


def _upright(kind: str, low: tuple[int, int], high: tuple[int, int], text: str) -> Line:
    """From the top of a box in the lower row to the bottom of one in the upper."""
    half = BOX_WIDTH // 2
    return Line(
        kind=kind, path=f"M{low[0] + half} {low[1]}L{high[0] + half} {high[1] + BOX_HEIGHT}",
        label="", label_x=0, label_y=0, text=text)
