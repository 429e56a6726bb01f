"""Which snapshots exist, which position is complete, and when segments take the next ones.

A position is complete when every segment has a snapshot there in safety: enough of it off its own
peer to be put together again. A vacant segment restarts there, so everybody keeps what it would
need from there on, and nothing older (docs/adr/0026-takeover.md). The newest complete position and
the one before it are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf, sqrt

from broker.core import limits
from broker.core.commands import CompleteSnapshot, Holder, SnapshotPart, SnapshotSource
from broker.core.events import HeldSnapshot, SnapshotStored
from broker.core.state import (
    VALID_PHASES,
    JobRecord,
    LeasePhase,
    LeaseRecord,
    PeerRecord,
    PeerState,
    SnapshotRecord,
    State,
    Turn,
)
from homespun.ids import is_digest
from ir.segment import Segment

WHOLE = -1
"""The shard number of a whole copy: any one of them is enough."""


def begin(job: JobRecord) -> None:
    """Keep books for a job that was just placed. Its interval follows from the predicted step."""
    job.snapshots = [{} for _ in job.leases]
    job.position = 0


def stored(turn: Turn, job: JobRecord, lease: LeaseRecord, event: SnapshotStored) -> None:
    """A holder has a snapshot; nothing is believed of one that contradicts what is known."""
    problem = _problem_with(turn.state, job, lease, event)
    if problem:
        turn.note(job.job_id, "snapshot_ignored", f"Segment {lease.index}: {problem}.")
        return
    known = job.snapshots[lease.index]
    record = known.get(event.position)
    if record is None or record.digest != event.digest:
        # Another digest: the segment was restarted and has computed the step on another machine.
        record = known[event.position] = SnapshotRecord(
            position=event.position, digest=event.digest, size_bytes=event.size_bytes,
            data_shards=1, at_ns=turn.now_ns)
    if event.data_shards == 1:
        record.holders[event.holder] = WHOLE
    else:
        record.data_shards = event.data_shards
        record.holders[event.holder] = event.shard
    record.giving_s = max(record.giving_s, event.giving_s)
    job.copy_s = max(job.copy_s, event.seconds)
    _complete(turn, job)


def _problem_with(
    state: State, job: JobRecord, lease: LeaseRecord, event: SnapshotStored
) -> str:
    if not 0 < event.position <= job.spec.training.steps:
        return f"a snapshot of position {event.position} of {job.spec.training.steps}"
    if not is_digest(event.digest) or event.size_bytes < 0:
        return f"a snapshot of {event.size_bytes} bytes with digest {event.digest[:80]!r}"
    if event.holder not in state.peers:
        return f"a snapshot on {event.holder[:80]!r}, which is no peer"
    if not 1 <= event.data_shards <= limits.MAX_SHARDS or not 0 <= event.shard < limits.MAX_SHARDS:
        return f"shard {event.shard} of {event.data_shards}"
    if not 0 <= event.seconds <= limits.MAX_COPY_S:
        return f"a copy that took {event.seconds} s"
    if not 0 <= event.giving_s <= limits.MAX_GIVING_S:
        return f"a snapshot whose giving took {event.giving_s} s"
    if event.position > lease.steps_done:
        return f"a snapshot of position {event.position} after {lease.steps_done} steps"
    return ""


def _complete(turn: Turn, job: JobRecord) -> None:
    """Move the complete position on as far as all segments have come."""
    # A segment that replays needs its neighbours' logs until it has come as far itself.
    reached = min((lease.steps_done for lease in job.leases if lease.phase in VALID_PHASES),
                  default=job.position)
    common = set.intersection(*(
        {position for position, record in known.items()
         if job.position < position <= reached and _is_safe(turn.state, job, index, record)}
        for index, known in enumerate(job.snapshots)))
    if not common:
        return
    before, job.position = job.position, max(common)
    for known in job.snapshots:
        for position in [old for old in known if old < before]:
            del known[position]
    for lease in job.leases:
        command = completion(turn, job, lease)
        if command is not None:
            turn.emit(command)


def _is_safe(state: State, job: JobRecord, index: int, record: SnapshotRecord) -> bool:
    """Whether a snapshot outlives its segment's peer, or there is no other to keep it."""
    own = job.leases[index].peer_id
    shards = {shard for peer_id, shard in record.holders.items()
              if peer_id != own and state.peers[peer_id].state is not PeerState.LOST}
    if WHOLE in shards or len(shards) >= record.data_shards > 1:
        return True
    others = any(peer.peer_id != own and peer.state is PeerState.LIVE
                 for peer in state.peers.values())
    return own in record.holders and not others


def completion(turn: Turn, job: JobRecord, lease: LeaseRecord) -> CompleteSnapshot | None:
    """The command that tells a holder of the complete position; None where nobody listens."""
    if not job.position or lease.phase not in VALID_PHASES or not (
            turn.state.peers[lease.peer_id].session_id):
        return None
    return CompleteSnapshot(
        peer_id=lease.peer_id, job_id=job.job_id, segment=lease.index, token=lease.token,
        position=job.position)


def was_gone(turn: Turn, job: JobRecord, lease: LeaseRecord) -> bool:
    """Strike the snapshot that a taker found nowhere off the books; False if it needed none.

    It has asked everybody who is said to have it and is here. So the next one restarts at another
    position, at worst at 0, instead of looking in vain as well.
    """
    record = job.snapshots[lease.index].get(lease.position)
    if record is None or lease.phase is not LeasePhase.ASSIGNED:
        return False
    # Of one that is put together, some part was nowhere; which one it was is not told.
    for kept in record.kept:
        for peer_id in list(kept.holders):
            if turn.state.peers[peer_id].state is PeerState.LIVE:
                del kept.holders[peer_id]
    turn.note(job.job_id, "snapshot_gone", (
        f"The snapshot of segment {lease.index} at {lease.position} is on no live peer any more."))
    return True


def source(state: State, job: JobRecord, index: int, position: int) -> SnapshotSource | None:
    """Where a segment's own snapshot can be had now; None if not enough of it is on live peers."""
    record = job.snapshots[index].get(position)
    return None if record is None or record.parts else source_of(state, record)


def parts(state: State, job: JobRecord, index: int, position: int) -> tuple[SnapshotPart, ...]:
    """Where a segment's state can be had from snapshots of the cut before; () if not all of it."""
    record = job.snapshots[index].get(position)
    if record is None:
        return ()
    found = [(serial, source_of(state, part)) for serial, part in record.parts]
    there = tuple(SnapshotPart(serial=serial, source=source)
                  for serial, source in found if source is not None)
    return there if len(there) == len(found) else ()


def source_of(state: State, record: SnapshotRecord) -> SnapshotSource | None:
    """Where a snapshot can be had now, one that is not in parts; None if on no live peers."""
    live = {peer_id: shard for peer_id, shard in record.holders.items()
            if state.peers[peer_id].state is PeerState.LIVE}
    wholes = [peer_id for peer_id, shard in live.items() if shard == WHOLE]
    if not wholes and len(set(live.values())) < max(record.data_shards, 1):
        return None
    chosen = wholes or list(live)
    return SnapshotSource(
        digest=record.digest, size_bytes=record.size_bytes,
        data_shards=1 if wholes else record.data_shards,
        holders=tuple(
            Holder(peer_id=peer_id, address=state.peers[peer_id].tensor_address,
                   shard=max(live[peer_id], 0))
            for peer_id in chosen))


def every_holder(record: SnapshotRecord) -> frozenset[str]:
    """Peers that have anything of a snapshot."""
    return frozenset(holder for kept in record.kept for holder in kept.holders)


def holders(record: SnapshotRecord) -> frozenset[str]:
    """Peers that have a snapshot or shards of it; where it is in parts, of every part."""
    return frozenset.intersection(*(frozenset(kept.holders) for kept in record.kept))


def can_restart(state: State, job: JobRecord, index: int, position: int) -> bool:
    """Whether a segment can restart at a position: at 0 always, else with its state."""
    record = job.snapshots[index].get(position)
    return position == 0 or (record is not None and all(
        source_of(state, kept) is not None for kept in record.kept))


def cut_anew(job: JobRecord, segments: Sequence[Segment]) -> None:
    """Let other segments go on from what is kept: each takes its parameters' state by name.

    Kept are the complete position and what all segments have before it. `job.leases` and
    `job.first_serial` are those of the cut before.
    """
    kept = set.intersection(*(
        {position for position, record in known.items()
         if position <= job.position and not record.parts} for known in job.snapshots))
    job.snapshots = [
        {position: _joined(job, segment, position) for position in sorted(kept)}
        for segment in segments]


def _joined(job: JobRecord, segment: Segment, position: int) -> SnapshotRecord:
    """All that has any of a segment's parameters; of one without any, something all the same."""
    own = frozenset(segment.parameters)
    records = [(job.first_serial + lease.index, known[position])
               for lease, known in zip(job.leases, job.snapshots, strict=True)
               if not own.isdisjoint(lease.segment.parameters)]
    chosen = tuple(records) or ((job.first_serial, job.snapshots[0][position]),)
    return SnapshotRecord(
        position=position, digest="", data_shards=1, at_ns=max(r.at_ns for _, r in chosen),
        size_bytes=sum(record.size_bytes for _, record in chosen), parts=chosen)


def common_position(state: State, job: JobRecord) -> int:
    """The newest position at which every segment could restart; 0 at worst."""
    common = set.intersection(*(set(known) for known in job.snapshots))
    return max((position for position in common if all(
        can_restart(state, job, index, position) for index in range(len(job.snapshots)))),
        default=0)


def reconcile(turn: Turn, peer: PeerRecord, held: tuple[HeldSnapshot, ...]) -> None:
    """Believe a peer that registers about what lies on its disk: neither more nor less is there."""
    named = {(item.job_id, item.segment, item.position): item for item in held}
    for job in list(turn.state.unfinished.values()):
        for index, known in enumerate(job.snapshots):
            for position, record in known.items():
                for serial, kept in record.parts or ((job.first_serial + index, record),):
                    item = named.get((job.job_id, serial, position))
                    shard = None if item is None else _shard(item, kept)
                    if shard is None:
                        kept.holders.pop(peer.peer_id, None)
                    else:
                        kept.holders[peer.peer_id] = shard


def _shard(item: HeldSnapshot, record: SnapshotRecord) -> int | None:
    """What a peer has of a snapshot; None if it is of another run, or cannot be."""
    if item.digest != record.digest:
        return None
    if item.data_shards == 1:
        return WHOLE
    fits = item.data_shards == record.data_shards and 0 <= item.shard < limits.MAX_SHARDS
    return item.shard if fits else None


def restart_at(job: JobRecord, position: int) -> None:
    """All segments go back to a position: what was taken after it is of another run."""
    job.position = position
    for known in job.snapshots:
        for later in [taken for taken in known if taken > position]:
            del known[later]


def interval(turn: Turn, job: JobRecord) -> int:
    """Positions between two snapshots.

    The best time between two weighs what copying costs against what a loss would cost to replay
    (Young 1974; Daly 2006, doi:10.1016/j.future.2004.11.016): the root of twice the copy's time
    times the mean time between losses. It is bounded from above by the policy's replay budget.
    From below, and that goes first, by what copying and sending may take of the segments' time and
    of their lines, and by `limits.SNAPSHOT_SPACING_MS`.
    """
    policy, step_s = turn.state.policy, max(step_seconds(job), 1e-4)
    best_s = sqrt(2 * job.copy_s * _seconds_between_losses(turn, job))
    giving_s, _ = _slowest_giver(turn.state, job)
    spacing_s = max(
        limits.SNAPSHOT_SPACING_MS / 1_000, job.copy_s / policy.snapshot_overhead,
        giving_s / policy.snapshot_line_share)
    wanted_s = max(spacing_s, min(best_s or inf, policy.replay_budget_ms / 1_000))
    return max(1, int(wanted_s / step_s))


def _seconds_between_losses(turn: Turn, job: JobRecord) -> float:
    """Mean time between losses of one segment's holder: an hour, until this job knows better."""
    lived_s = (turn.now_ns - job.submitted_at_ns) / 1e9 * len(job.leases)
    return (limits.USUAL_LIFE_S + lived_s) / (1 + job.takeovers)


def why_seldom(turn: Turn, job: JobRecord) -> str:
    """Which line makes snapshots so seldom that a loss exceeds the replay budget; "" for none."""
    policy = turn.state.policy
    giving_s, lease = _slowest_giver(turn.state, job)
    spacing_s, budget_s = giving_s / policy.snapshot_line_share, policy.replay_budget_ms / 1_000
    if spacing_s <= budget_s:
        return ""
    left = job.spec.training.steps - job.steps_done
    often = f"every {job.interval} steps" if job.interval < left else "not any more"
    return (
        f"Snapshots are taken {often}: giving one of segment {lease.index} takes "
        f"{turn.state.peers[lease.peer_id].label} {giving_s:.0f} s, and may take "
        f"{policy.snapshot_line_share:.0%} of its line. A loss repeats up to {spacing_s:.0f} s of "
        f"work; the budget is {budget_s:g} s.")


def _slowest_giver(state: State, job: JobRecord) -> tuple[float, LeaseRecord]:
    """The segment whose peer takes longest to give its snapshot away, and how long, seconds."""
    return max(
        ((_giving_seconds(state, lease, known), lease)
         for lease, known in zip(job.leases, job.snapshots, strict=True)),
        key=lambda found: found[0])


def _giving_seconds(
    state: State, lease: LeaseRecord, known: dict[int, SnapshotRecord]
) -> float:
    """What giving a segment's snapshot to all who are to keep it takes.

    As it took last; before that, as its size and the measured lines to them say: a line that is too
    slow is known before the first one has crossed it.
    """
    took_s = [known[position].giving_s for position in sorted(known) if known[position].giving_s]
    if took_s or not known:
        return took_s[-1] if took_s else 0.0
    record = known[max(known)]
    planned = () if lease.plan is None else (holder.peer_id for holder in lease.plan.holders)
    return sum(
        record.size_bytes / record.data_shards / link.link.bandwidth_bytes_per_s
        for keeper in {*record.holders, *planned}
        if (link := state.links.get((lease.peer_id, keeper))) is not None)


def step_seconds(job: JobRecord) -> float:
    """What a step takes: the median of the last ones, or before there are any the prediction."""
    assert job.placement is not None
    times = job.losses_at_ns[-limits.PACE_STEPS:]
    if len(times) < limits.PACE_STEPS:
        return job.placement.step_s
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    return max(gaps[len(gaps) // 2], (times[-1] - times[0]) // (len(times) - 1)) / 1e9
