"""What peers do by themselves: load, take steps, stand by, give snapshots, and report all of it."""

from __future__ import annotations

import random
from hashlib import blake2b
from math import nan

from broker.core import commands as do
from broker.core import events as ev
from broker.core.readiness import LEVELS, READY, STORE
from tests.properties.broker_world.parts import PEERS, Duty, Held, Node, near


class Workers:
    """Peers that do what they were told, each a little at a time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.nodes = {name: Node(name) for name in PEERS}
        self.is_calm = False
        self.spoiled: set[str] = set()
        """Jobs that a lie was told about: their peers' own books need not agree any more."""

    def work(self, node: Node) -> bool:
        """A peer does the next thing of something that it holds; False if there is nothing."""
        things: list[Held | Duty] = [*node.held.values(), *node.duties.values()]
        self.random.shuffle(things)
        for thing in things:
            done = self.train(node, thing) if isinstance(thing, Held) else self.prepare(node, thing)
            if done:
                return True
        return False

    def prepare(self, node: Node, duty: Duty) -> bool:
        if duty.level in READY and not self.is_calm and self.random.random() < 0.1:
            duty.level, duty.is_broken = STORE, True
            node.say(ev.StandbyReady, duty.job, duty.segment, duty.token, level=STORE,
                     problem=self.random.choice(["its process died", ""]))
            return True
        if duty.is_broken or duty.level == duty.wanted:
            return False
        step = 1 if LEVELS.index(duty.wanted) > LEVELS.index(duty.level) else -1
        duty.level = LEVELS[LEVELS.index(duty.level) + step]
        node.say(ev.StandbyReady, duty.job, duty.segment, duty.token, level=duty.level)
        return True

    def train(self, node: Node, lease: Held) -> bool:
        if lease.gifts:
            self.give(node, lease, *lease.gifts.pop())
            return True
        if lease.phase == "loading":
            return self.load(node, lease)
        if lease.phase != "running":
            return False
        if lease.steps == lease.total:
            lease.phase = "finished"
            node.say(ev.SegmentFinished, *lease.at, result_digest=f"{lease.token:064x}",
                     result_bytes=10)
            return True
        if not all(self.serves(node, lease, index) for index in sorted(near(lease.segment))):
            return False
        self.step(node, lease)
        return True

    def load(self, node: Node, lease: Held) -> bool:
        if lease.steps and lease.job not in self.spoiled and not self.can_fetch(node, lease):
            lease.phase = "failed"
            node.say(ev.SegmentFailed, *lease.at, code="NOT_FOUND", message="no snapshot",
                     blamed_peer="", cause="network")
            return True
        lease.phase = "ready"
        node.say(ev.SegmentReady, *lease.at)
        return True

    def can_fetch(self, node: Node, lease: Held) -> bool:
        assert lease.sources, "a segment is to begin where nobody has its snapshot"
        return all(self.has(node, (lease.job, serial, lease.steps), source)
                   for serial, source in lease.sources)

    def has(self, node: Node, key: tuple[str, int, int], source: do.SnapshotSource) -> bool:
        if key in node.disk and node.disk[key][0] == source.digest and node.disk[key][2] == 1:
            return True
        there = [self.nodes[holder.peer_id].disk.get(key) for holder in source.holders
                 if self.nodes[holder.peer_id].session]
        shards = {(entry[1] if entry[2] > 1 else -1) for entry in there
                  if entry is not None and entry[0] == source.digest}
        return -1 in shards or len(shards) >= source.data_shards > 1

    def serves(self, node: Node, lease: Held, index: int) -> bool:
        """Whether a neighbour's log has what this segment's next step needs."""
        member = lease.members.get(index)
        if member is None or not member.peer_id:
            return False
        other = self.nodes[member.peer_id].held.get(member.token)
        if other is None or other.phase not in ("running", "finished"):
            if member.token not in lease.missed:
                lease.missed.add(member.token)
                node.say(ev.NeighbourLost, *lease.at, neighbour=index, code="UNREACHABLE",
                         blamed_peer=member.peer_id, message="closed")
            return False
        assert other.log_from <= lease.steps or lease.job in self.spoiled, (
            f"I5: segment {index} has dropped what segment {lease.segment.index} needs")
        return other.steps >= lease.steps

    def step(self, node: Node, lease: Held) -> None:
        r, first = self.random, lease.steps
        has_loss = lease.segment.has_loss
        if has_loss and r.random() < 0.2:
            node.say(ev.EvaluationDone, *lease.at, step=first, loss=1.0)
        lease.steps += 1
        loss = nan if r.random() < 0.001 and not self.is_calm else 0.5
        node.say(ev.StepsDone, *lease.at, first_step=first, count=1,
                 losses=(loss,) if has_loss else ())
        if lease.interval and lease.steps % lease.interval == 0:
            own = do.Holder(peer_id=node.name, address="")
            lease.gifts = [(lease.steps, holder) for holder in (own, *lease.holders)]
        if r.random() < 0.2:
            node.say(ev.SegmentPace, *lease.at, microbatch_s=r.choice([0.1, 0.2, 30.0]),
                     microbatches=8)

    def give(self, node: Node, lease: Held, position: int, holder: do.Holder) -> None:
        to = self.nodes[holder.peer_id]
        is_own = to is node
        permitted = any((duty.job, duty.serial, duty.source) == (lease.job, lease.serial, node.name)
                        and duty.level for duty in to.duties.values())
        if not is_own and not (permitted and to.session):
            return
        text = f"{lease.job}/{lease.serial}/{position}"
        if self.random.random() < 0.02:
            text += node.name  # another machine, other bits
        digest = blake2b(text.encode(), digest_size=32).hexdigest()
        shard, shards = (0, 1) if is_own else (holder.shard, lease.data_shards)
        to.disk[lease.job, lease.serial, position] = (digest, shard, shards)
        node.say(ev.SnapshotStored, *lease.at, position=position, digest=digest, size_bytes=100,
                 holder=to.name, shard=shard, data_shards=shards, seconds=0.01)
