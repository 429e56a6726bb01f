"""What happens at random: work, losses, owners, operators, broker restarts, and their end."""

from __future__ import annotations

from broker.core import events as ev
from tests.properties.broker_world.nonsense import Nonsense
from tests.properties.broker_world.parts import (
    AVAILABILITIES,
    CAUSES,
    HARDWARE,
    OWNERS,
    PEERS,
    Node,
    make_spec,
)
from tests.properties.broker_world.world import MS


class Chaos(Nonsense):
    """A world whose peers mostly behave. `run` lets things happen, `calm` ends all faults."""

    def run(self, events: int) -> Chaos:
        while self.count < events:
            self.now_ns += self.random.choice([0, 1, 10, 50, 200]) * MS
            if self.random.random() < 0.003:
                self.now_ns += self.random.choice([1_000, 6_000, 20_000, 700_000]) * MS
            wakeup = self.broker.next_wakeup_ns()
            if wakeup is not None and wakeup <= self.now_ns and self.random.random() < 0.8:
                self.take(self.broker.timer(self.now_ns))
            self.take(self.next_event())
        return self

    def next_event(self) -> ev.AnyEvent:
        makers = [self.deliver, self.plan, self.heartbeats, self.connect, self.submit,
                  self.fault, self.hostile]
        maker = self.random.choices(makers, weights=[140, 40, 40, 14, 3, 4, 16])[0]
        return maker()

    def plan(self) -> ev.AnyEvent:
        if not self.pending:
            return self.deliver()
        event = self.pending.pop(self.random.randrange(len(self.pending)))
        if self.random.random() < 0.05:
            self.pending.append(event)
        return event

    def deliver(self) -> ev.AnyEvent:
        """A peer works, and a report of somebody arrives, in order; some arrive twice."""
        there = [node for node in self.nodes.values() if node.session]
        if not there:
            return self.connect()
        self.work(self.random.choice(there))
        node = self.random.choice(there)
        if node.sent >= len(node.outbox):
            return self.heartbeats()
        event = node.outbox[node.sent]
        node.sent += self.random.random() > 0.05
        return event

    def heartbeats(self) -> ev.AnyEvent:
        quiet = "" if self.is_calm else self.random.choice([*PEERS, "", "", ""])
        there = tuple(n.name for n in self.nodes.values() if n.session and n.name != quiet)
        return ev.HeartbeatsSeen(at_ns=0, peer_ids=there)

    def connect(self) -> ev.AnyEvent:
        """A peer connects, or its stream ends, or its process is killed."""
        node = self.nodes[self.random.choice(PEERS)]
        if node.session and self.random.random() < 0.5:
            gone = ev.PeerDisconnected(at_ns=0, peer_id=node.name, session_id=node.session)
            node.session = ""
            if self.random.random() < 0.3:
                node.die()
            if self.random.random() < 0.2:
                self.pending.append(gone)
                return self.heartbeats()
            return gone
        if self.random.random() < 0.1:
            node.die()
            node.disk = {} if self.random.random() < 0.2 else node.disk
        return self.registration(node)

    def registration(self, node: Node) -> ev.PeerConnected:
        node.session, node.sent = f"s{self.count}", 0
        leases = [ev.HeldLease(job_id=lease.job, segment=lease.segment.index, token=token,
                               phase=lease.phase) for token, lease in node.held.items()]
        if self.random.random() < 0.1 and not self.is_calm:
            leases.append(ev.HeldLease(job_id="job_000001", segment=0, token=1, phase="running"))
        return ev.PeerConnected(
            at_ns=0, peer_id=node.name, session_id=node.session, name=node.name,
            leases=tuple(leases), software_version="1", hardware=HARDWARE, joins_parts=True,
            tensor_address=f"{node.name}:{self.random.choice([1, 1, 2])}",
            standbys=tuple(ev.HeldStandby(job_id=duty.job, segment=duty.segment, token=token,
                                          level=duty.level)
                           for token, duty in node.duties.items()),
            snapshots=tuple(ev.HeldSnapshot(job_id=job, segment=serial, position=position,
                                            digest=digest, size_bytes=100, shard=shard,
                                            data_shards=shards)
                            for (job, serial, position), (digest, shard, shards)
                            in list(node.disk.items())[-64:]),
            availability=node.availability, drain_ms=self.random.choice([0, 5_000]))

    def submit(self) -> ev.AnyEvent:
        r = self.random
        spec = make_spec(steps=r.randint(1, 40), peers=r.choice([0, 0, 0, 1, 2, 3, 9]),
                         batch=r.choice([8, 8, 8, 7]), clip=r.choice([0.0, 0.0, 1.0]))
        return ev.JobSubmitted(at_ns=0, request_id="r", owner_id=r.choice(OWNERS),
                               submission_id=f"x{r.randrange(300)}", spec=spec)

    def fault(self) -> ev.AnyEvent:
        """Owners, operators and segments that do what they may do."""
        r, node = self.random, self.nodes[self.random.choice(PEERS)]
        running = [lease for lease in node.held.values() if lease.phase in ("running", "loading")]
        if node.session and running and r.random() < 0.4:
            lease, member = running[0], r.choice(PEERS)
            if r.random() < 0.3:
                node.say(ev.NeighbourLost, *lease.at, neighbour=r.choice([0, 1]), message="m",
                         code=r.choice(["UNREACHABLE", "TIMED_OUT", "CONFLICT"]),
                         blamed_peer=member)
            else:
                lease.phase = "failed"
                node.say(ev.SegmentFailed, *lease.at, code="STALLED", message="m",
                         blamed_peer=r.choice(["", "", member]), cause=r.choice(CAUSES))
            return self.heartbeats()
        if r.random() < 0.5:
            node.availability = r.choice([*AVAILABILITIES, "open", "open"])
            return ev.AvailabilityChanged(at_ns=0, peer_id=node.name, deadline_ms=r.choice(
                [0, 100, 60_000]), availability=node.availability)
        if r.random() < 0.3:
            for other in self.nodes.values():
                other.session = ""
            if r.random() < 0.1:
                self.take(ev.JournalRestored(at_ns=0, by="operator_x", reason="", copied_at_ns=0))
            return ev.BrokerStarted(at_ns=0, policy=self.policy)
        if r.random() < 0.2:
            return ev.MemberBanned(at_ns=0, request_id="r", member_id=node.name, by="operator_x",
                                   undo=r.random() < 0.7)
        return ev.DrainRequested(at_ns=0, request_id="r", peer_id=node.name, by="operator_x",
                                 deadline_ms=r.choice([0, 100, 60_000]), undo=r.random() < 0.7)

    # --- the end of all faults -------------------------------------------------------------------

    def calm(self) -> None:
        """Faults stop: everybody comes back and does what it should, until nothing more happens.

        Raises:
            AssertionError: the core goes on asking for wake-ups and nothing comes of it.
        """
        self.is_calm = True
        for job_id in sorted(self.spoiled & set(self.broker.state.unfinished)):
            self.take(ev.CancelRequested(at_ns=0, request_id="r", job_id=job_id, by="operator_x"))
        for node in self.nodes.values():
            node.availability = "open"
            self.take(ev.MemberBanned(at_ns=0, request_id="r", member_id=node.name,
                                      by="operator_x", undo=True))
            self.take(ev.AvailabilityChanged(at_ns=0, peer_id=node.name, availability="open",
                                             deadline_ms=0))
            self.take(ev.DrainRequested(at_ns=0, request_id="r", peer_id=node.name, by="operator_x",
                                        deadline_ms=0, undo=True))
        for _ in range(400):
            self.settle()
            wakeup = self.broker.next_wakeup_ns()
            if not self.broker.state.unfinished or wakeup is None:
                return
            self.now_ns = max(self.now_ns, min(wakeup, self.now_ns + 1_000 * MS))
            self.take(self.heartbeats())
            self.take(self.broker.timer(self.now_ns))

    def settle(self) -> None:
        """Let everybody act until nobody has anything to do or say."""
        for _ in range(20_000):
            self.now_ns += MS
            away = [node for node in self.nodes.values() if not node.session]
            if away:
                self.take(self.registration(away[0]))
            elif self.pending:
                self.take(self.pending.pop(0))
            elif not self._somebody_acts():
                return
        raise AssertionError("the world does not come to rest")

    def _somebody_acts(self) -> bool:
        acted = False
        for node in self.nodes.values():
            acted |= self.work(node)
            while node.sent < len(node.outbox):
                node.sent += 1
                self.take(node.outbox[node.sent - 1])
                acted = True
        return acted
