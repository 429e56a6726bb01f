"""The world around a real broker core: it obeys the commands, and checks what must always hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from hashlib import blake2b
from math import nan
from typing import Any

from broker.core import commands as do
from broker.core import events as ev
from broker.core import invariants
from broker.core.machine import Broker
from broker.core.policy import Policy
from broker.core.state import TERMINAL, JobState
from dag.placement import Infeasible, Refusal
from tests.properties.broker_world.parts import Duty, Held, Node, make_placement
from tests.properties.broker_world.work import Workers

MS = 1_000_000


class World(Workers):
    """Peers and a planner around a real core. Nothing happens by itself: `take` takes an event."""

    def __init__(self, seed: int, **policy: Any) -> None:
        super().__init__(seed)
        self.broker = Broker()
        self.policy = Policy(**{
            "replay_budget_ms": 2_000, "growth_settle_ms": 20, "growth_pause_ms": 200,
            "growth_saved_min_ms": 0, **policy})
        self.now_ns = 1_000_000 * MS
        self.count = 0
        self.pending: list[ev.AnyEvent] = []
        self.journal: list[ev.AnyEvent] = []
        self.seen: Counter[str] = Counter()
        """Commands by their names, what the operator's log says, and segments that replay."""
        self.hash = blake2b(digest_size=16)
        self.ended: dict[str, JobState] = {}
        self.granted: dict[int, tuple[str, int, str]] = {}
        self.take(ev.BrokerStarted(at_ns=self.now_ns, policy=self.policy))

    def take(self, event: ev.AnyEvent) -> None:
        self.count += 1
        event = replace(event, at_ns=self.now_ns)
        if ev.is_journalled(event):
            self.journal.append(event)
        commands = self.broker.apply(event)
        self.hash.update(repr(commands).encode())
        for command in commands:
            self.obey(command)
        self.check()

    def check(self) -> None:
        """I1 to I5, here from outside and over time as well."""
        invariants.check(self.broker.state)
        for job in self.broker.state.jobs.values():
            known = self.ended.get(job.job_id)
            assert known is None or job.state is known, "I1: a job ended twice"
            if job.state in TERMINAL and known is None:
                self.ended[job.job_id] = job.state
                steps = [item.step for item in job.evaluations]
                assert steps == sorted(set(steps)), "I4: an evaluation counted twice"
                if job.state is JobState.SUCCEEDED:
                    assert len(job.losses) == job.spec.training.steps, "I4: losses"

    # --- the world's side of the commands --------------------------------------------------------

    def obey(self, command: do.AnyCommand) -> None:
        self.seen[type(command).__name__] += 1
        match command:
            case do.Note():
                self.seen[command.event] += 1
            case do.SolvePlacement():
                self.pending.append(self.answer(command))
                return
            case do.RankBackups():
                self.pending.append(self.rank(command))
                return
            case do.ReplanJob():
                self.pending.append(self.replan(command))
                return
            case do.StorePiece():
                self.pending.append(self.piece(command))
                return
            case do.AssignSegment():
                self.seen["replay"] += command.position > 0
                self.grant(command.token, command.job_id, command.segment.index, command.peer_id)
            case do.StandBy():
                self.grant(command.token, command.job_id, command.segment.index, command.peer_id)
        node = self.nodes.get(getattr(command, "peer_id", ""))
        if node is None or isinstance(command, do.MeasureLink):
            return
        if isinstance(command, do.DisconnectPeer):
            if node.session == command.session_id:
                node.session = ""
            self.pending.append(ev.PeerDisconnected(
                at_ns=0, peer_id=command.peer_id, session_id=command.session_id))
        elif node.session:
            self.told(node, command)

    def grant(self, token: int, job: str, segment: int, peer: str) -> None:
        known = self.granted.setdefault(token, (job, segment, peer))
        assert known == (job, segment, peer), "I2: a token was granted twice"
        assert token == max(self.granted) or len(self.granted) > 1, "I2: a token shrank"

    def told(self, node: Node, command: do.AnyCommand) -> None:
        token = getattr(command, "token", 0)
        lease = node.held.get(token)
        match command:
            case do.AcknowledgeReports():
                kept = [event for event in node.outbox if event.number > command.through_number]
                node.sent = max(0, node.sent - (len(node.outbox) - len(kept)))
                node.outbox = kept
                node.number = max(node.number, command.through_number)
            case do.AssignSegment() if lease is None:
                for duty in list(node.duties.values()):
                    if (duty.job, duty.segment) == (command.job_id, command.segment.index):
                        del node.duties[duty.token]
                own = command.first_serial + command.segment.index
                node.held[token] = Held(
                    command.job_id, command.segment, token, command.spec.training.steps,
                    command.position, command.position,
                    tuple((part.serial, part.source) for part in command.parts)
                    if command.snapshot is None else ((own, command.snapshot),),
                    command.first_serial)
            case do.StartJob() if lease is not None:
                lease.members = {member.segment: member for member in command.members}
                lease.phase = "running" if lease.phase == "ready" else lease.phase
            case do.PlanSnapshots() if lease is not None:
                lease.interval, lease.data_shards = command.interval, command.data_shards
                lease.holders = command.holders
            case do.CompleteSnapshot() if lease is not None:
                assert command.position <= lease.steps or lease.job in self.spoiled, (
                    "I5: a position is complete that a segment has not reached")
                lease.log_from = max(lease.log_from, command.position)
            case do.StandBy():
                duty = node.duties.setdefault(token, Duty(
                    command.job_id, command.segment.index,
                    command.first_serial + command.segment.index, token, command.level,
                    command.source))
                news = (command.level, command.source)
                duty.is_broken &= (duty.wanted, duty.source) == news
                duty.wanted, duty.source = news
            case do.RevokeSegment():
                node.held.pop(token, None)
                node.duties.pop(token, None)
                node.say(ev.SegmentReleased, command.job_id, command.segment, token)

    def answer(self, command: do.SolvePlacement) -> ev.AnyEvent:
        free = [peer.peer_id for peer in command.cluster.peers]
        wanted = command.spec.peers or self.random.randint(1, 3)
        dice = 1.0 if self.is_calm else self.random.random()
        if dice < 0.03:
            return ev.PlanningFailed(at_ns=0, job_id=command.job_id, code="INVALID_GRAPH",
                                     message="bad")
        if (wanted > len(free) and command.spec.peers) or not free or dice < 0.1:
            refusal = Refusal(subject="all", rule="memory", wanted=2, had=1, text="too small")
            return ev.PlacementSolved(
                at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version,
                answer=None, infeasible=Infeasible(refusals=(refusal,), missing_bytes=1))
        return ev.PlacementSolved(
            at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version,
            answer=make_placement(self.random.sample(free, min(wanted, len(free)))),
            infeasible=None)

    def replan(self, command: do.ReplanJob) -> ev.JobReplanned:
        r = self.random
        names = [peer.peer_id for peer in command.cluster.peers]
        plan = make_placement(r.sample(names, r.randint(1, min(4, len(names)))))
        lie = not self.is_calm and r.random() < 0.1
        if lie and r.random() < 0.5:
            plan = replace(plan, segments=r.choice([(), plan.segments * 2, plan.segments[1:]]))
        return ev.JobReplanned(
            at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version,
            answer=None if r.random() < 0.1 else replace(plan, step_s=r.choice([0.01, 0.5, 2.0])),
            stay_s=r.choice([nan, 0.0, -1.0]) if lie else 1.0, move_s=r.choice([0.0, 0.001]),
            problem="none fits")

    def piece(self, command: do.StorePiece) -> ev.PieceStored:
        """A holder has it, if it can be fetched and the peer's disk and line are well."""
        node, key = self.nodes[command.peer_id], (command.job_id, command.serial, command.position)
        assert node.session, "somebody was asked who is not there"
        is_well = self.random.random() < 0.8 and self.has(node, key, command.source)
        return ev.PieceStored(
            at_ns=0, peer_id=command.peer_id, job_id=command.job_id, serial=command.serial,
            position=command.position, digest=command.source.digest if is_well else "",
            size_bytes=100 if is_well else 0, problem="" if is_well else "it cannot")

    def rank(self, command: do.RankBackups) -> ev.BackupsRanked:
        r = self.random
        names = [peer.peer_id for peer in command.cluster.peers]
        ranking = [tuple((name, r.choice([0.05, 0.2, 1.0]))
                         for name in r.sample(names, len(names)) if self.is_calm or r.random() < .9)
                   for _ in command.segments]
        if not self.is_calm and r.random() < 0.05:
            self.spoiled.add(command.job_id)
            ranking = r.choice([[], ranking[1:], [(("peer_x", nan),)] * len(ranking)])
        return ev.BackupsRanked(at_ns=0, job_id=command.job_id, ranking=tuple(ranking),
                                cluster_version=command.cluster_version)
