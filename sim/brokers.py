"""A simulated broker: the real broker core, a journal that survives crashes, and session streams.

Events and commands of the two cores are translated here field by field, as the wire and the shells
do it; everything else about them is the real thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from broker.core import commands as do
from broker.core import events as ev
from broker.core import invariants
from broker.core.digest import difference
from broker.core.machine import Broker
from broker.core.policy import Policy
from dag.cluster import PeerRates
from peer.core import commands as peer_do
from peer.core import events as peer_ev
from sim.peers import SimulatedPeer
from sim.world import SECOND, Line, World

STREAM_MS = 40.0
PLAN_MS = 500.0
BACKOFF_MS = 2_500.0
HEARTBEAT_NS = 2 * SECOND
HARDWARE = ev.PeerHardware(
    device="cpu", device_name="simulated", memory_bytes=1 << 33, executor="null",
    platform="simulated", threads=1,
    rates=PeerRates(matmul_flops_per_s=1e12, attention_flops_per_s=1e12, memory_bytes_per_s=1e11))

Plan = Callable[[do.SolvePlacement], ev.PlacementSolved | ev.PlanningFailed]
Replan = Callable[[do.ReplanJob], ev.JobReplanned]


class Session:
    """One stream between a peer and the broker. What is under way when it breaks is lost."""

    def __init__(self, world: World, session_id: str, peer: SimulatedPeer) -> None:
        self.session_id = session_id
        self.peer = peer
        self.process = peer.core
        self.up = Line(world, STREAM_MS)
        self.down = Line(world, STREAM_MS)
        self.outbox: list[tuple[type, dict[str, Any]]] = []
        self.is_welcome = False

    @property
    def is_open(self) -> bool:
        """Whether both ends still use it."""
        return not self.up.is_cut

    def send(self, event_class: type, **fields: Any) -> None:
        """Towards the peer; nothing goes before the welcome."""
        if self.is_welcome:
            self.down.send(lambda: self.peer.take(event_class, **fields))
        else:
            self.outbox.append((event_class, fields))

    def welcome(self, last_report: int) -> None:
        """Let the peer know that it is registered, then what was kept for it."""
        self.is_welcome = True
        self.send(peer_ev.BrokerConnected, last_report=last_report)
        for event_class, fields in self.outbox:
            self.send(event_class, **fields)

    def cut(self) -> None:
        """Lose everything under way."""
        self.up.is_cut = self.down.is_cut = True


class SimulatedBroker:
    """One broker over any number of processes.

    Attributes:
        core: the process of now; None while it is down.
        journal: what survives.
        answers: replies and rejections by request id.
        on_heard: called when a report was applied; its acknowledgement is on its way.
    """

    def __init__(self, world: World, plan: Plan, replan: Replan, policy: Policy) -> None:
        self.world = world
        self.plan, self.replan = plan, replan
        self.policy = policy
        self.journal: list[ev.AnyEvent] = []
        self.answers: dict[str, do.Reply | do.Reject] = {}
        self.sessions: dict[str, Session] = {}
        self.on_heard: Callable[[Session], None] = lambda session: None
        self.core: Broker | None = None
        self._next = Broker()
        self._count = 0
        self._alarm_ns: int | None = None
        self.start()
        world.after(HEARTBEAT_NS, self._beat)

    # --- processes -----------------------------------------------------------------------------

    def start(self) -> None:
        """A new process goes on, which has read the journal."""
        self.core = self._next
        self._alarm_ns = None
        self.take(ev.BrokerStarted(at_ns=0, policy=self.policy))

    def crash(self) -> None:
        """Lose the process and every stream; the journal stays, and says everything."""
        assert self.core is not None
        self._next = replayed(self.journal)
        if forgotten := difference(self.core, self._next):
            raise AssertionError(f"the journal does not tell what the broker knew: {forgotten}")
        self.core = None
        for session in list(self.sessions.values()):
            self.break_stream(session)

    # --- streams -------------------------------------------------------------------------------

    def dial(self, peer: SimulatedPeer) -> None:
        """A peer opens a stream and registers; if the broker is down it tries again later."""
        self._count += 1
        session = Session(self.world, f"session_{self._count}", peer)
        held = registration(peer)
        session.up.send(lambda: self._registered(session, held))

    def _registered(self, session: Session, held: dict[str, Any]) -> None:
        peer = session.peer
        if peer.core is not session.process:
            return
        if self.core is None:
            self.world.soon(BACKOFF_MS, lambda: self._redial(session))
            return
        peer.on_report = lambda report: session.up.send(lambda: self._heard(session, report))
        old = self.sessions.get(peer.peer_id)
        self.sessions[peer.peer_id] = session
        self.take(ev.PeerConnected(
            at_ns=0, peer_id=peer.peer_id, session_id=session.session_id, name=peer.peer_id,
            software_version="1", tensor_address="here:1", hardware=HARDWARE, joins_parts=True,
            **held))
        if old is not None:
            old.cut()
        session.welcome(self.core.state.peers[peer.peer_id].last_report)

    def break_stream(self, session: Session) -> None:
        """A stream ends: each side notices in its own time, and the peer dials again."""
        if not session.is_open:
            return
        session.cut()
        peer = session.peer
        self.world.soon(STREAM_MS, lambda: self._ended(session))
        if peer.core is session.process:
            peer.take(peer_ev.BrokerDisconnected)
            self.world.soon(BACKOFF_MS, lambda: self._redial(session))

    def _redial(self, session: Session) -> None:
        if session.peer.core is session.process:
            self.dial(session.peer)

    def _ended(self, session: Session) -> None:
        if self.sessions.get(session.peer.peer_id) is session:
            del self.sessions[session.peer.peer_id]
        if self.core is not None:
            self.take(ev.PeerDisconnected(
                at_ns=0, peer_id=session.peer.peer_id, session_id=session.session_id))

    def _heard(self, session: Session, report: peer_do.SendReport) -> None:
        if self.sessions.get(session.peer.peer_id) is session and self.core is not None:
            self.take(report_event(session.peer.peer_id, report))
            self.on_heard(session)

    # --- the loop ------------------------------------------------------------------------------

    def take(self, event: ev.AnyEvent) -> None:
        """Journal an event, apply it, carry out what the core asks for."""
        core = self.core
        if core is None:
            return
        stamped = replace(event, at_ns=self.world.now_ns)
        if ev.is_journalled(stamped):
            self.journal.append(stamped)
        commands = core.apply(stamped)
        invariants.check(core.state)
        for command in commands:
            self._obey(command)
        self._set_alarm()

    def _obey(self, command: do.AnyCommand) -> None:
        match command:
            case do.Reply() | do.Reject():
                self.answers[command.request_id] = command
            case do.SolvePlacement():
                answer, core = self.plan(command), self.core
                self.world.soon(
                    PLAN_MS, lambda: self.take(answer) if self.core is core else None)
            case do.ReplanJob():
                self.world.soon(PLAN_MS, partial(self._replan, self.core, command))
            case do.RankBackups():
                self.world.soon(PLAN_MS, partial(self._rank, self.core, command))
            case do.DisconnectPeer():
                session = self.sessions.get(command.peer_id)
                if session is not None and session.session_id == command.session_id:
                    self.break_stream(session)
            case (do.AssignSegment() | do.StartJob() | do.RevokeSegment() | do.StandBy()
                  | do.PlanSnapshots() | do.CompleteSnapshot() | do.AcknowledgeReports()):
                session = self.sessions.get(command.peer_id)
                if session is not None:
                    event_class, fields = peer_event(command)
                    session.send(event_class, **fields)

    def _rank(self, core: Broker | None, command: do.RankBackups) -> None:
        """Everybody could run everything, in any order."""
        if self.core is not core:
            return
        peers = [peer.peer_id for peer in command.cluster.peers]
        ranking = tuple(
            tuple((peer_id, 0.02) for peer_id in self.world.random.sample(peers, len(peers)))
            for _ in command.segments)
        self.take(ev.BackupsRanked(
            at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version,
            ranking=ranking))

    def _replan(self, core: Broker | None, command: do.ReplanJob) -> None:
        if self.core is core:
            self.take(self.replan(command))

    def _beat(self) -> None:
        alive = tuple(s.peer.peer_id for s in self.sessions.values() if s.is_open)
        self.take(ev.HeartbeatsSeen(at_ns=0, peer_ids=alive))
        self.world.after(HEARTBEAT_NS, self._beat)

    def _set_alarm(self) -> None:
        assert self.core is not None
        wakeup_ns = self.core.next_wakeup_ns()
        if wakeup_ns is not None and (self._alarm_ns is None or wakeup_ns < self._alarm_ns):
            self._alarm_ns = wakeup_ns
            self.world.at(max(wakeup_ns, self.world.now_ns + 1), self._ring)

    def _ring(self) -> None:
        self._alarm_ns = None
        if self.core is None:
            return
        wakeup_ns = self.core.next_wakeup_ns()
        if wakeup_ns is not None and wakeup_ns <= self.world.now_ns:
            self.take(self.core.timer(self.world.now_ns))
        else:
            self._set_alarm()


def replayed(journal: list[ev.AnyEvent]) -> Broker:
    """A core that has seen a journal."""
    core = Broker()
    for event in journal:
        core.apply(event)
    return core


def registration(peer: SimulatedPeer) -> dict[str, Any]:
    """What a peer says that it holds when it registers."""
    return {
        "leases": tuple(
            ev.HeldLease(job_id=job, segment=segment, token=token, phase=phase)
            for job, segment, token, phase in peer.leases()),
        "standbys": tuple(
            ev.HeldStandby(job_id=job, segment=segment, token=record.asked.token,
                           level=str(record.level or ""))
            for (job, segment), record in peer.core.state.standbys.items()),
        "snapshots": tuple(
            ev.HeldSnapshot(job_id=job, segment=serial, position=position, digest=kept.digest,
                            size_bytes=10, shard=kept.shard, data_shards=kept.data_shards)
            for (job, serial, position), kept in peer.disk.items()),
    }


PeerCommand = (
    do.AssignSegment | do.StartJob | do.RevokeSegment | do.AcknowledgeReports | do.StandBy
    | do.PlanSnapshots | do.CompleteSnapshot
)


def peer_event(command: PeerCommand) -> tuple[type, dict[str, Any]]:
    """The event that a command of the broker is for the peer, without its time."""
    match command:
        case do.AssignSegment():
            assigned = ("job_id", "token", "spec", "segment", "in_flight", "segments",
                        "stall_timeout_ms", "position", "first_serial")
            return peer_ev.AssignmentReceived, {
                **{name: getattr(command, name) for name in assigned},
                "snapshot": None if command.snapshot is None else _source(command.snapshot),
                "parts": tuple(
                    peer_ev.SnapshotPart(serial=part.serial, source=_source(part.source))
                    for part in command.parts)}
        case do.StandBy():
            names = ("job_id", "token", "spec", "in_flight", "segments", "stall_timeout_ms",
                     "source", "first_serial")
            return peer_ev.StandByReceived, {
                **{name: getattr(command, name) for name in names},
                "segment": command.segment.index, "program": command.segment,
                "level": peer_ev.StandbyLevel(command.level)}
        case do.PlanSnapshots():
            return peer_ev.SnapshotPlanReceived, {
                "job_id": command.job_id, "segment": command.segment, "token": command.token,
                "interval": command.interval, "holders": _holders(command.holders),
                "data_shards": command.data_shards}
        case do.CompleteSnapshot():
            return peer_ev.SnapshotCompleted, {
                "job_id": command.job_id, "segment": command.segment, "token": command.token,
                "position": command.position}
        case do.StartJob():
            members = tuple(
                peer_ev.Member(segment=m.segment, peer_id=m.peer_id, token=m.token,
                               tensor_address=m.tensor_address, position=m.position)
                for m in command.members)
            return peer_ev.StartReceived, {
                "job_id": command.job_id, "segment": command.segment, "token": command.token,
                "members": members}
        case do.RevokeSegment():
            return peer_ev.RevokeReceived, {
                "job_id": command.job_id, "segment": command.segment, "token": command.token,
                "reason": command.reason}
        case do.AcknowledgeReports():
            return peer_ev.ReportsAcknowledged, {"through_number": command.through_number}


def _holders(holders: tuple[do.Holder, ...]) -> tuple[peer_ev.Holder, ...]:
    return tuple(peer_ev.Holder(peer_id=h.peer_id, address=h.address, shard=h.shard)
                 for h in holders)


def _source(source: do.SnapshotSource) -> peer_ev.SnapshotSource:
    return peer_ev.SnapshotSource(
        digest=source.digest, size_bytes=source.size_bytes, data_shards=source.data_shards,
        holders=_holders(source.holders))


_REPORTS: dict[type, type] = {
    peer_do.ReadyBody: ev.SegmentReady,
    peer_do.StepsBody: ev.StepsDone,
    peer_do.EvaluationBody: ev.EvaluationDone,
    peer_do.FailedBody: ev.SegmentFailed,
    peer_do.FinishedBody: ev.SegmentFinished,
    peer_do.ReleasedBody: ev.SegmentReleased,
    peer_do.SnapshotBody: ev.SnapshotStored,
    peer_do.NeighbourLostBody: ev.NeighbourLost,
    peer_do.StandbyBody: ev.StandbyReady,
    peer_do.PaceBody: ev.SegmentPace,
}


def report_event(peer_id: str, report: peer_do.SendReport) -> ev.AnyEvent:
    """The event that a peer's report is for the broker, without its time."""
    body = {name: getattr(report.body, name) for name in type(report.body).__dataclass_fields__}
    if isinstance(report.body, peer_do.NeighbourLostBody):
        body["blamed_peer"] = body.pop("peer_id")
    event: ev.AnyEvent = _REPORTS[type(report.body)](
        at_ns=0, peer_id=peer_id, number=report.number, job_id=report.job_id,
        segment=report.segment, token=report.token, **body)
    return event
