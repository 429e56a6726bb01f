"""What a well-behaved world would not do, or not now: the core must bear it."""

from __future__ import annotations

from math import inf, nan
from typing import Any

from broker.core import events as ev
from dag.cluster import Link
from tests.properties.broker_world.parts import OWNERS, PEERS, make_placement
from tests.properties.broker_world.world import MS, World


class Nonsense(World):
    """A world in which strangers send nonsense and peers lie."""

    def hostile(self) -> ev.AnyEvent:
        """Something that a well-behaved world would not do, or not now."""
        r = self.random
        number = r.choice([0, 1, 2, 3, r.randrange(60), 10**12, -1])
        some = r.choice([self.broker.state.jobs, self.broker.state.unfinished])
        job = r.choice([*some, "job_999999", ""])
        peer = r.choice([*PEERS, "peer_x", ""])
        return r.choice([*self.lies(number, job, peer), *self.nonsense(number, job, peer)])

    def lies(self, number: int, job: str, peer: str) -> list[ev.AnyEvent]:
        """Reports that are not true, from peers with nothing else to say."""
        r, node = self.random, self.nodes.get(peer)
        if node is not None and (node.outbox or r.random() < 0.5):
            return [self.heartbeats()]
        tokens = [] if node is None else [*node.held, *node.duties]
        token = r.choice([number, number, *tokens])
        if node is not None:
            node.number += 1
            if token in node.held:
                job = node.held[token].job
            self.spoiled.add(job)
        head: dict[str, Any] = {
            "at_ns": 0, "peer_id": peer, "number": node.number if node is not None else 1,
            "job_id": job, "segment": r.choice([0, 1, -1]), "token": token}
        stored = {"digest": r.choice(["a" * 64, "zz"]), "size_bytes": number, "seconds": 0.1,
                  "holder": r.choice([*PEERS, "peer_x"]), "shard": number, "data_shards": number}
        return [
            ev.SegmentReady(**head),
            ev.StepsDone(**head, first_step=number, count=number, losses=(inf,)),
            ev.EvaluationDone(**head, step=number, loss=nan),
            ev.SegmentFailed(**head, code="?", message="x" * 5000, blamed_peer=peer),
            ev.SegmentFinished(**head, result_digest="zz", result_bytes=number),
            ev.SegmentReleased(**head),
            ev.SnapshotStored(**head, position=number, **stored),
            ev.SnapshotStored(**head, position=number, **{**stored, "seconds": nan}),
            ev.NeighbourLost(**head, neighbour=number, blamed_peer=peer, code="CONFLICT",
                             message="m" * 5000),
            ev.StandbyReady(**head, level=r.choice(["hot", "boiling", ""])),
            ev.SegmentPace(**head, microbatch_s=r.choice([nan, -1.0, 1e9]), microbatches=number),
        ]

    def nonsense(self, number: int, job: str, peer: str) -> list[ev.AnyEvent]:
        r = self.random
        return [
            ev.CancelRequested(at_ns=0, request_id="r", job_id=job,
                               by=r.choice([*OWNERS, "operator_x", "peer_a", ""])),
            ev.PeerDisconnected(at_ns=0, peer_id=peer, session_id=r.choice(["", "s1"])),
            ev.HeartbeatsSeen(at_ns=0, peer_ids=(peer, "peer_x")),
            ev.LinkMeasured(at_ns=0, link=Link(
                source=peer, target=r.choice(PEERS), latency_s=r.choice([0.1, nan, -1.0]),
                bandwidth_bytes_per_s=r.choice([1e8, 0.0, inf]))),
            ev.TransfersMeasured(at_ns=0, source=peer, target=r.choice([*PEERS, "peer_x"]),
                                 bandwidth_bytes_per_s=r.choice([1e8, 1e9, nan, -1.0])),
            ev.PlacementSolved(at_ns=0, job_id=job, cluster_version=number, infeasible=None,
                               answer=r.choice([None, make_placement([peer, "peer_a"])])),
            ev.PlanningFailed(at_ns=0, job_id=r.choice(["job_999999", ""]), code="", message=""),
            ev.BackupsRanked(at_ns=0, job_id=job, cluster_version=number, ranking=()),
            ev.AvailabilityChanged(at_ns=0, peer_id="peer_x", availability="open", deadline_ms=0),
            ev.AvailabilityChanged(at_ns=0, peer_id=peer, availability="away", deadline_ms=number),
            ev.DrainRequested(at_ns=0, request_id="r", peer_id="peer_x", by="operator_x",
                              deadline_ms=number),
            ev.TimerFired(at_ns=0, silent_peers=r.choice([(), ("peer_x",), (peer,)])),
            ev.KeyCreated(at_ns=0, request_id="r", key_id=f"key_{number}", secret_hash="h" * 64,
                          role=r.choice(["peer", "submitter", "god"]), reusable=r.random() < 0.5,
                          expires_at_ns=self.now_ns + number * MS),
            ev.KeyRevoked(at_ns=0, request_id="r", key_id=f"key_{number}"),
            ev.PeerAdmitted(at_ns=0, request_id="r", peer_id=r.choice([peer, "peer_x"]), by=""),
            ev.MemberBanned(at_ns=0, request_id="r", member_id=r.choice(["peer_x", ""]), by=""),
            ev.PeerLabelled(at_ns=0, request_id="r", peer_id=peer, by="operator_x",
                            label=r.choice(["", "x", "x" * 1_000, "\x1b"])),
            ev.PieceStored(at_ns=0, peer_id=peer, job_id=job, serial=number, position=number,
                           digest=r.choice(["a" * 64, "zz"]), size_bytes=number,
                           problem=r.choice(["", "x" * 5_000])),
            ev.ConsoleAccessed(at_ns=0, by="operator_x", action="signed in", role="viewer"),
            ev.PeerForgotten(at_ns=0, request_id="r", peer_id="peer_x", by="operator_x"),
            ev.LateRenewalRequested(at_ns=0, request_id="r", identity=peer, expired_at_ns=0),
            ev.EnrolmentRequested(at_ns=0, request_id="r", key_id=f"key_{number}", name="n",
                                  secret_hash=r.choice(["h" * 64, ""]),
                                  new_id=f"n{r.random()}"[3:]),
        ]
