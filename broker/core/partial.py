"""The partial result: what a training job that was cancelled or has failed leaves to its submitter.

Its peers have let go of their segments by then; what is left are snapshots on their disks. So the
holders of the newest position that all segments can be had of are asked for the parameters in them,
one *piece* for each snapshot, and store them where results are stored. Nobody's device waits for
that. Who is asked and is gone, or cannot, is followed by the next holder, up to a deadline
(docs/adr/0032-partial-results.md).
"""

from __future__ import annotations

from math import inf

from broker.core import limits, snapshots
from broker.core.commands import StorePiece
from broker.core.events import PieceStored
from broker.core.state import (
    NS_PER_MS,
    JobRecord,
    PartialRecord,
    PeerRecord,
    PeerState,
    PieceRecord,
    State,
    Turn,
)
from homespun.errors import Code
from homespun.ids import is_digest
from ir.graph import TRAIN


def begin(turn: Turn, job: JobRecord) -> None:
    """Begin to collect what a job leaves that is ending without a result, if there is anything."""
    position = _position(turn.state, job) if job.spec.kind == TRAIN and job.snapshots else 0
    if not position:
        return
    pieces: dict[int, PieceRecord] = {}
    for index, known in enumerate(job.snapshots):
        record = known[position]
        for serial, kept in record.parts or ((job.first_serial + index, record),):
            pieces[serial] = PieceRecord(
                snapshot=kept, bytes_max=_bytes_max(job, kept.size_bytes))
    deadline_ns = turn.now_ns + NS_PER_MS * (limits.PARTIAL_TIMEOUT_MS + sum(
        1_000 * piece.bytes_max // limits.PARTIAL_BYTES_PER_S for piece in pieces.values()))
    job.partial = PartialRecord(position=position, deadline_ns=deadline_ns, pieces=pieces)
    turn.state.collecting[job.job_id] = job


def _position(state: State, job: JobRecord) -> int:
    """The newest position that live peers have together, or else that any have; 0 for none.

    If the loss stopped being finite, parameters count only where a finite loss came out of them.
    """
    below = len(job.losses) if job.error_code == Code.LOSS_NOT_FINITE else inf
    common = {position for position in set.intersection(*map(set, job.snapshots))
              if position < below}
    there = [position for position in common if all(
        snapshots.can_restart(state, job, index, position) for index in range(len(job.snapshots)))]
    return max(there, default=max(common, default=0))


def _bytes_max(job: JobRecord, snapshot_bytes: int) -> int:
    """Most bytes of a piece: those of the parameters, and no more than the snapshot has."""
    sizes = [ref.type.size_bytes for ref in job.spec.parameters]
    return (min(sum(sizes), snapshot_bytes) + limits.RESULT_OVERHEAD_BYTES
            + limits.RESULT_OVERHEAD_BYTES_PER_TENSOR * len(sizes))


def advance(turn: Turn) -> None:
    """Ask whoever is to be asked next. Cost: O(jobs that collect), where nothing has changed."""
    state = turn.state
    for job in list(state.collecting.values()):
        record = job.partial
        assert record is not None, "it collects"
        is_over = record.deadline_ns <= turn.now_ns
        if record.seen_version == state.cluster_version and not is_over:
            continue
        record.seen_version = state.cluster_version
        for serial, piece in record.pieces.items():
            if not piece.digest and not is_over and not _is_asked(state, piece):
                _ask_next(turn, job, serial, piece)
        if is_over or all(_is_settled(state, piece) for piece in record.pieces.values()):
            _settle(turn, job, record)


def _is_asked(state: State, piece: PieceRecord) -> bool:
    """Whether somebody was asked who has heard it and may still answer."""
    peer = state.peers.get(piece.asked)
    return peer is not None and peer.state is PeerState.LIVE and (
        peer.session_id == piece.session_id)


def _ask_next(turn: Turn, job: JobRecord, serial: int, piece: PieceRecord) -> None:
    record = job.partial
    assert record is not None, "it collects"
    source = snapshots.source_of(turn.state, piece.snapshot)
    peers = [] if source is None else [
        turn.state.peers[holder.peer_id] for holder in source.holders
        if holder.peer_id not in piece.refused]
    piece.asked = piece.session_id = ""
    if source is None or not peers:
        return
    peer = min(peers, key=_reluctance)
    piece.asked, piece.session_id = peer.peer_id, peer.session_id
    turn.emit(StorePiece(
        peer_id=peer.peer_id, job_id=job.job_id, serial=serial, position=record.position,
        source=source, timeout_ms=(record.deadline_ns - turn.now_ns) // NS_PER_MS))


def _reluctance(peer: PeerRecord) -> tuple[bool, str]:
    """Machines that their owners have taken back are asked last."""
    return not peer.is_open, peer.peer_id


def _is_settled(state: State, piece: PieceRecord) -> bool:
    """Whether a piece is here, or everybody who has its snapshot has said that it cannot come."""
    return bool(piece.digest) or piece.refused.keys() >= piece.snapshot.holders.keys()


def piece_of(state: State, event: PieceStored) -> PieceRecord | None:
    """The piece that somebody speaks of, if it was asked for it and is not too late."""
    job = state.collecting.get(event.job_id)
    record = None if job is None else job.partial
    piece = None if record is None else record.pieces.get(event.serial)
    if record is None or piece is None or event.position != record.position:
        return None
    return piece if piece.asked == event.peer_id and not piece.digest else None


def answered(turn: Turn, event: PieceStored) -> None:
    """A holder has stored a piece, or says why it cannot. Late and strange words are noted."""
    piece = piece_of(turn.state, event)
    if piece is None:
        turn.note(event.peer_id, "piece_ignored", (
            f"{event.peer_id} was not asked for the parameters of segment {event.serial} of "
            f"{event.job_id[: limits.MAX_TEXT]!r}, or is too late."))
        return
    record = turn.state.collecting[event.job_id].partial
    assert record is not None, "it collects"
    if problem := event.problem or _problem_with(event, piece):
        piece.refused[event.peer_id] = problem[: limits.MAX_MESSAGE]
        piece.asked = piece.session_id = ""
    else:
        piece.digest, piece.size_bytes = event.digest, event.size_bytes
    record.seen_version = -1


def _problem_with(event: PieceStored, piece: PieceRecord) -> str:
    if is_digest(event.digest) and 0 < event.size_bytes <= piece.bytes_max:
        return ""
    return (f"it speaks of {event.size_bytes} bytes with digest {event.digest[:80]!r}; expected "
            f"at most {piece.bytes_max} bytes")


def _settle(turn: Turn, job: JobRecord, record: PartialRecord) -> None:
    """Collecting is over; what is missing says why."""
    for piece in record.pieces.values():
        if not piece.digest:
            piece.problem = _why_missing(turn.state, piece)
    record.is_settled = True
    del turn.state.collecting[job.job_id]
    missing = sum(not piece.digest for piece in record.pieces.values())
    what = f"{missing} of {len(record.pieces)} pieces are missing" if missing else "all is stored"
    turn.note(job.job_id, "partial_result", (
        f"Parameters of step {record.position}, before the job ended: {what}."))


def _why_missing(state: State, piece: PieceRecord) -> str:
    if piece.asked:
        return f"{state.peers[piece.asked].label} has not sent it in time"
    if piece.refused:
        return "; ".join(
            f"{state.peers[peer_id].label}: {why}" for peer_id, why in piece.refused.items())
    holders = ", ".join(state.peers[peer_id].label for peer_id in piece.snapshot.holders)
    return f"nobody who has it is connected: {holders or 'it is lost'}"


def may_store(state: State, peer_id: str, size_bytes: int) -> bool:
    """Whether a peer was asked for a piece that may have so many bytes. Cost: O(pieces)."""
    return any(
        piece.asked == peer_id and not piece.digest and size_bytes <= piece.bytes_max
        for job in state.collecting.values() if job.partial is not None
        for piece in job.partial.pieces.values())


def next_deadline_ns(state: State) -> int | None:
    """When collecting ends for the first job; None if none collects."""
    return min((job.partial.deadline_ns for job in state.collecting.values()
                if job.partial is not None), default=None)
