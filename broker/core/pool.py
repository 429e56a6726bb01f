"""The backup pool: who stands by for which segment, who keeps its snapshots, who takes it over.

Peers that no job needs are the pool. For every segment of a started job the broker keeps backups
there where it can: outside the failure domain of the segment's holder (its owner, its address
block), and spread. A backup has the segment's snapshots on its disk (`store`), its blobs and a
process (`warm`), and one segment compiled (`hot`). Where the pool is empty, members of the job keep
each other's snapshots. `gap` says what is uncovered and why; `readiness` what becomes of a backup
that breaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from broker.core import limits, readiness, snapshots
from broker.core.commands import Holder, PlanSnapshots, RankBackups, RevokeSegment, StandBy
from broker.core.events import BackupsRanked, StandbyReady
from broker.core.leases import stall_timeout_ms
from broker.core.readiness import HOT, LEVELS, READY, STORE, WARM
from broker.core.state import (
    HELD_PHASES,
    STARTED,
    JobRecord,
    LeaseRecord,
    PeerRecord,
    PeerState,
    StandbyRecord,
    State,
    Turn,
    free_peers,
)
from dag.cluster import Cluster, PeerResources

# --- who could --------------------------------------------------------------------------------


def refusal(state: State, job: JobRecord, index: int, peer: PeerRecord) -> str:
    """Why a peer cannot run a segment, to follow its name; "" if it can."""
    return obstacle(state, job, index, peer)[1]


def obstacle(
    state: State, job: JobRecord, index: int, peer: PeerRecord,
    times: Mapping[str, float] | None = None,
) -> tuple[str, str]:
    """The same with a stable short name before it: `avoided`, `memory`, `executor`, `unranked`.

    Args:
        state: the core's.
        job: whose segment.
        index: its number.
        peer: who is asked about.
        times: the segment's ranking as a dict, for who asks about many peers.
    """
    assert job.placement is not None
    failure = job.failures.get(index)
    if failure is not None and peer.peer_id in failure.avoided:
        return "avoided", failure.avoided[peer.peer_id]
    placed = job.placement.segments[index]
    if peer.hardware.memory_bytes < placed.memory_bytes:
        return "memory", (f"offers {peer.hardware.memory_bytes} bytes of memory; segment {index} "
                          f"needs {placed.memory_bytes}")
    if peer.peer_id in job.ranked_peers:
        able = any(peer.peer_id == name for name, _ in job.ranking[index]) if times is None else (
            peer.peer_id in times)
        return ("", "") if able else (
            "executor", f"has an executor that does not run segment {index}")
    first = state.peers[placed.peer_id].hardware
    return ("", "") if peer.hardware.support == first.support else (
        "unranked", "is not ranked yet")


def _rank(job: JobRecord, index: int, peer: PeerRecord) -> int:
    names = [name for name, _ in job.ranking[index]] if job.ranking else []
    return names.index(peer.peer_id) if peer.peer_id in names else len(names)


BLOCK_PARTS = 3
"""Leading parts of an address that make its block: /24 of IPv4, /48 of IPv6."""


def domain(state: State, peer: PeerRecord) -> tuple[str, str]:
    """What may fail together with a peer: the owner's key, and the address block."""
    identity = state.identities.get(peer.peer_id)
    host = peer.tensor_address.rpartition(":")[0].strip("[]")
    separator = ":" if ":" in host else "."
    return (identity.key_id if identity else peer.peer_id,
            separator.join(host.split(separator)[:BLOCK_PARTS]))


def _shared_domains(state: State, one: PeerRecord, other: PeerRecord) -> int:
    """How many of their failure domains two peers share."""
    return sum(a == b for a, b in zip(domain(state, one), domain(state, other), strict=True))


def shortage(state: State, job: JobRecord, index: int) -> str:
    """Why nobody takes a vacant segment over, for a person."""
    free = free_peers(state)
    if not free:
        live = sum(peer.is_present for peer in state.peers.values())
        return f"none of {live} live peers is free"
    whys = [f"{peer.label} {refusal(state, job, index, peer) or 'is about to be asked'}"
            for peer in free[:3]]
    return "; ".join(whys)


# --- who does ---------------------------------------------------------------------------------


def takers(
    state: State, job: JobRecord, vacant: list[int], wanted: Mapping[int, str]
) -> list[tuple[int, PeerRecord]]:
    """Peers for vacant segments, each at most once, so that as many as can be have one.

    Those whose wanted peer is there choose first, then those with the fewest choices, each the best
    that is left. Who finds none gets one from a segment that has another choice.

    Args:
        state: who is free.
        job: whose segments.
        vacant: their indices.
        wanted: segment -> id of the peer that goes before all others, if it can run it.

    Cost: O(segments * peers log peers); O(segments^2 * peers) where choices are scarce.
    """
    free = free_peers(state)
    choices = {
        index: sorted(
            (peer for peer in free if not refusal(state, job, index, peer)),
            key=lambda peer: (
                peer.peer_id != wanted.get(index), _readiness(state, job, index, peer)))
        for index in vacant}
    taken: dict[str, int] = {}
    there = {peer.peer_id for peer in free}
    for index in sorted(vacant, key=lambda index: (
            wanted.get(index) not in there, len(choices[index]), index)):
        _choose(index, choices, taken, set())
    return sorted(((index, state.peers[peer_id]) for peer_id, index in taken.items()),
                  key=lambda item: item[0])


def _choose(
    index: int, choices: dict[int, list[PeerRecord]], taken: dict[str, int], asked: set[str]
) -> bool:
    """Find a peer for one segment more, without leaving another without one."""
    left = [peer for peer in choices[index] if peer.peer_id not in taken]
    for peer in left or choices[index]:
        if peer.peer_id not in asked:
            asked.add(peer.peer_id)
            other = taken.get(peer.peer_id)
            if other is None or _choose(other, choices, taken, asked):
                taken[peer.peer_id] = index
                return True
    return False


def _readiness(
    state: State, job: JobRecord, index: int, peer: PeerRecord
) -> tuple[int, bool, int, int, str]:
    """Sorts first who goes on soonest: by level, then by what lies on its disk."""
    standby = standby_of(job, index, peer)
    level = 0 if standby is None else LEVELS.index(standby.level)
    record = job.snapshots[index].get(job.position)
    lacks = job.position > 0 and (record is None or peer.peer_id not in record.holders)
    return -level, lacks, peer.losses, _rank(job, index, peer), peer.peer_id


def standby_of(job: JobRecord, index: int, peer: PeerRecord) -> StandbyRecord | None:
    """A peer's standby for a segment, if it has one."""
    return next((standby for standby in peer.standbys.values()
                 if standby.job_id == job.job_id and standby.index == index), None)


def is_covered(state: State, job: JobRecord, index: int) -> bool:
    """Whether a ready backup could take a segment over at once."""
    return any(
        standby.index == index and is_ready(state, standby) for standby in job.standbys.values()
    ) and snapshots.can_restart(state, job, index, job.position)


def is_ready(state: State, standby: StandbyRecord) -> bool:
    """Whether a backup has what it takes, and is free."""
    peer = state.peers[standby.peer_id]
    return standby.level in READY and peer.is_open and not peer.leases


def gap(state: State, job: JobRecord, index: int) -> str:
    """What a segment lacks to survive the loss of its holder at once; "" if nothing."""
    if not snapshots.can_restart(state, job, index, job.position):
        return f"no live peer has its snapshot of position {job.position}"
    if is_covered(state, job, index):
        return ""
    standing_by = [standby for standby in job.standbys.values() if standby.index == index]
    if any(standby.wanted in READY for standby in standing_by):
        return "its backup is getting ready"
    for standby in standing_by:
        if readiness.is_resting(standby):
            label = state.peers[standby.peer_id].label
            return f"its backup {label} is asked again later: {standby.problem}"
    able = [peer for peer in free_peers(state) if not refusal(state, job, index, peer)]
    return "no free peer can run it" if not able else "its backup is being chosen"


# --- what is asked of whom --------------------------------------------------------------------


def review_all(turn: Turn) -> None:
    """Keep backups right for every started job that something has changed for.

    Cost: O(unfinished jobs), and O(segments * peers log peers) for a job that is looked at.
    """
    state = turn.state
    for job in list(state.unfinished.values()):
        if job.state in STARTED and not job.growth.awaited and (
                job.is_review_due or job.reviewed_version != state.cluster_version):
            job.reviewed_version, job.is_review_due = state.cluster_version, False
            _review(turn, job)


def _review(turn: Turn, job: JobRecord) -> None:
    _ask_for_ranking(turn, job)
    for standby in list(job.standbys.values()):
        if not _still_serves(turn.state, job, standby):
            revoke_standby(turn, job, standby)
    for lease in job.leases:
        _add_backups(turn, job, lease)
    _spread_hot(turn.state, job)
    for lease in job.leases:
        _add_keepers(turn, job, lease)
    _tell_duties(turn, job)
    for lease in job.leases:
        plan_snapshots(turn, job, lease)


def _ask_for_ranking(turn: Turn, job: JobRecord) -> None:
    state = turn.state
    if job.is_ranking_asked:
        return
    live = [peer for _, peer in sorted(state.peers.items()) if peer.is_present]
    if all(peer.peer_id in job.ranked_peers for peer in live):
        return
    assert job.placement is not None
    job.is_ranking_asked = True
    job.ranked_version = state.cluster_version
    job.ranking_peers = tuple(peer.peer_id for peer in live)
    turn.emit(RankBackups(
        job_id=job.job_id, spec=job.spec,
        segments=tuple(replace(placed, peer_id=lease.peer_id) for placed, lease in zip(
            job.placement.segments, job.leases, strict=True)),
        cluster=cluster_of(state, live), cluster_version=state.cluster_version))


def cluster_of(state: State, peers: list[PeerRecord]) -> Cluster:
    """What the planner may choose from: these peers, and the measured links between them."""
    ids = {peer.peer_id for peer in peers}
    resources = tuple(
        PeerResources(
            peer_id=peer.peer_id,
            memory_bytes=peer.hardware.memory_bytes,
            rates=peer.hardware.rates,
            executor=peer.hardware.executor,
            support=peer.hardware.support,
            numeric_class=peer.hardware.numeric_class,
        )
        for peer in peers
    )
    links = tuple(
        record.link
        for (source, target), record in sorted(state.links.items())
        if source in ids and target in ids
    )
    return Cluster(peers=resources, links=links)


def ranked(turn: Turn, event: BackupsRanked) -> None:
    """Use the planner's answer: who could run which segment."""
    job = turn.state.unfinished.get(event.job_id)
    if job is None or not job.is_ranking_asked or event.cluster_version != job.ranked_version:
        return
    job.is_ranking_asked = False
    if len(event.ranking) == len(job.leases):
        job.ranking = event.ranking
        job.ranked_peers = frozenset(job.ranking_peers)
        job.is_review_due = True


def _still_serves(state: State, job: JobRecord, standby: StandbyRecord) -> bool:
    peer = state.peers[standby.peer_id]
    if peer.state is PeerState.LOST or not 0 <= standby.index < len(job.leases):
        return False
    if job.leases[standby.index].peer_id == peer.peer_id:
        return False
    if standby.wanted == STORE:
        return not peer.is_emptied
    return (peer.state is PeerState.SUSPECT or peer.is_open) and not peer.leases and not refusal(
        state, job, standby.index, peer)


def _add_backups(turn: Turn, job: JobRecord, lease: LeaseRecord) -> None:
    """Bring a segment's backups in the pool up to their number."""
    state, index = turn.state, lease.index
    own = state.peers[lease.peer_id]
    ready = [standby for standby in job.standbys.values()
             if standby.index == index and standby.wanted != STORE]
    lacking = limits.BACKUPS_PER_SEGMENT - len(ready)
    if lacking <= 0:
        return
    chosen = {standby.peer_id for standby in ready}
    able = [peer for peer in free_peers(state)
            if peer is not own and peer.peer_id not in chosen and peer.session_id
            and not _rests(job, index, peer)
            and len(peer.standbys) < limits.MAX_HELD_STANDBYS
            and not refusal(state, job, index, peer)]
    able.sort(key=lambda peer: (
        _shared_domains(state, own, peer), _backups_of(peer), peer.losses, _rank(job, index, peer),
        peer.peer_id))
    for peer in able[:lacking]:
        _stand_by(turn.state, job, lease, peer, WARM)


def _rests(job: JobRecord, index: int, peer: PeerRecord) -> bool:
    standby = standby_of(job, index, peer)
    return standby is not None and readiness.is_resting(standby)


def _backups_of(peer: PeerRecord) -> int:
    return sum(standby.wanted != STORE for standby in peer.standbys.values())


def _spread_hot(state: State, job: JobRecord) -> None:
    """Let each backup have one segment compiled, so that as many segments as can be are somewhere.

    A backup that is hot changes over only where that covers one segment more: compiling costs.
    """
    hot = Counter(standby.index for standby in job.standbys.values() if standby.wanted == HOT)
    for peer_id in sorted({standby.peer_id for standby in job.standbys.values()}):
        standbys = state.peers[peer_id].standbys.values()
        now = next((standby for standby in standbys if standby.wanted == HOT), None)
        ours = [standby for standby in standbys
                if standby.job_id == job.job_id and standby.wanted == WARM]
        if not ours or (now is not None and now.job_id != job.job_id):
            continue
        best = min(ours, key=lambda standby: (hot[standby.index], standby.index))
        if now is not None and (hot[best.index] > 0 or hot[now.index] < 2):
            continue
        if now is not None:
            now.wanted = WARM
            hot[now.index] -= 1
        best.wanted = HOT
        hot[best.index] += 1


def _add_keepers(turn: Turn, job: JobRecord, lease: LeaseRecord) -> None:
    """Where the pool is too small, other members keep the segment's snapshots too."""
    state = turn.state
    own = state.peers[lease.peer_id]
    having = {standby.peer_id for standby in job.standbys.values() if standby.index == lease.index}
    lacking = state.policy.snapshot_holders - len(having)
    if lacking <= 0:
        return
    others = [peer for _, peer in sorted(state.peers.items())
              if peer is not own and peer.peer_id not in having and peer.session_id
              and peer.is_present and not peer.is_emptied
              and len(peer.standbys) < limits.MAX_HELD_STANDBYS]
    others.sort(key=lambda peer: (
        bool(peer.leases), _shared_domains(state, own, peer), len(peer.standbys), peer.losses,
        peer.peer_id))
    for peer in others[:lacking]:
        _stand_by(turn.state, job, lease, peer, STORE)


def _stand_by(
    state: State, job: JobRecord, lease: LeaseRecord, peer: PeerRecord, level: str
) -> None:
    known = standby_of(job, lease.index, peer)
    if known is not None:
        readiness.ask_again(known, level)
        return
    state.last_token += 1
    standby = StandbyRecord(
        job_id=job.job_id, peer_id=peer.peer_id, token=state.last_token, index=lease.index,
        blobs=lease.blobs, wanted=level)
    job.standbys[standby.token] = peer.standbys[standby.token] = standby


def _tell_duties(turn: Turn, job: JobRecord) -> None:
    """Tell peers what they stand by for, and who holds it now, where that is news to them.

    What they need not be ready for any more comes first: they have room for one compiled segment.
    """
    told = sorted(job.standbys.values(), key=lambda standby: LEVELS.index(standby.wanted))
    for standby in told:
        source = job.leases[standby.index].peer_id
        is_news = (standby.wanted, source) != (standby.told_level, standby.source)
        if is_news and turn.state.peers[standby.peer_id].session_id:
            tell_duty(turn, job, standby)


def tell_duty(turn: Turn, job: JobRecord, standby: StandbyRecord) -> None:
    """Tell a peer what it stands by for; repeats change nothing there.

    Backups take snapshots from the segment's holder and from nobody else.
    """
    assert job.placement is not None
    if standby.wanted in READY:
        readiness.ask_again(standby, standby.wanted)
        readiness.watch(turn, job, standby)
    standby.told_level = standby.wanted
    standby.source = job.leases[standby.index].peer_id
    placed = job.placement.segments[standby.index]
    turn.emit(StandBy(
        peer_id=standby.peer_id, job_id=job.job_id, segment=placed.segment, token=standby.token,
        spec=job.spec, in_flight=placed.in_flight, segments=len(job.leases),
        stall_timeout_ms=stall_timeout_ms(turn, job), level=standby.wanted, source=standby.source,
        first_serial=job.first_serial))


def plan_snapshots(turn: Turn, job: JobRecord, lease: LeaseRecord, *, again: bool = False) -> None:
    """Tell a segment's holder when to take snapshots and who keeps them, if that is news to it."""
    state = turn.state
    if lease.phase not in HELD_PHASES or not state.peers[lease.peer_id].session_id:
        return
    keepers = [standby for standby in job.standbys.values()
               if standby.index == lease.index and standby.level
               and state.peers[standby.peer_id].state is PeerState.LIVE]
    keepers.sort(key=lambda standby: (-LEVELS.index(standby.wanted), standby.token))
    size_bytes = max((record.size_bytes for record in job.snapshots[lease.index].values()),
                     default=0)
    shards = _data_shards(state, size_bytes, len(keepers))
    command = PlanSnapshots(
        peer_id=lease.peer_id, job_id=job.job_id, segment=lease.index, token=lease.token,
        interval=job.interval, data_shards=shards,
        holders=tuple(
            Holder(peer_id=keeper.peer_id,
                   address=state.peers[keeper.peer_id].tensor_address,
                   shard=number if shards > 1 else 0)
            for number, keeper in enumerate(keepers)))
    if again or command != lease.plan:
        lease.plan = command
        turn.emit(command)


def _data_shards(state: State, size_bytes: int, keepers: int) -> int:
    """Whole copies, or for what is large one parity shard beside the others: less to send."""
    is_large = 0 < state.policy.shard_bytes < size_bytes
    return keepers - 1 if is_large and keepers >= 3 else 1


def choose_interval(turn: Turn, job: JobRecord) -> None:
    """Follow what steps and copies really take, when that has changed much."""
    wanted = snapshots.interval(turn, job)
    if job.interval == 0 or not job.interval / 1.5 <= wanted <= job.interval * 1.5:
        job.interval = wanted
        job.is_review_due = True
        if why := snapshots.why_seldom(turn, job):
            turn.note(job.job_id, "snapshots_seldom", why)


def prepared(turn: Turn, peer: PeerRecord, event: StandbyReady) -> JobRecord | None:
    """A standby has reached a level; returns the job, None if there is no such standby."""
    standby = peer.standbys.get(event.token)
    if standby is None or event.level not in LEVELS:
        turn.note(peer.peer_id, "report_ignored", f"{peer.label} has no such standby.")
        return None
    standby.level = event.level
    job = turn.state.jobs[standby.job_id]
    job.is_review_due = True
    if event.problem and standby.wanted in READY and standby.level not in READY:
        readiness.rest(turn, job, standby, event.problem)
    readiness.watch(turn, job, standby)
    return job


# --- ends -------------------------------------------------------------------------------------


def end_standby(turn: Turn, job: JobRecord, index: int, peer: PeerRecord) -> None:
    """A peer takes over what it stood by for: the lease takes the standby's place."""
    standby = standby_of(job, index, peer)
    if standby is not None:
        forget_standby(turn.state, standby)


def forget_standby(state: State, standby: StandbyRecord) -> None:
    """Strike a standby off the books; the peer is not told."""
    del state.jobs[standby.job_id].standbys[standby.token]
    del state.peers[standby.peer_id].standbys[standby.token]


def revoke_standby(turn: Turn, job: JobRecord, standby: StandbyRecord) -> None:
    """End a standby; a peer that is away is told when it registers with it."""
    forget_standby(turn.state, standby)
    if turn.state.peers[standby.peer_id].session_id:
        turn.emit(RevokeSegment(
            peer_id=standby.peer_id, job_id=job.job_id, segment=standby.index,
            token=standby.token, reason="the standby is not needed any more"))


def end_all_standbys(turn: Turn, job: JobRecord) -> None:
    """A job has ended."""
    for standby in list(job.standbys.values()):
        revoke_standby(turn, job, standby)


def jobs_of(state: State, peer: PeerRecord) -> Iterator[JobRecord]:
    """Jobs that a peer holds a segment of."""
    return (state.jobs[lease.job_id] for lease in peer.leases.values()
            if lease.phase in HELD_PHASES)
