"""What the random world is made of: jobs, peers, and what peers hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from broker.core import commands as do
from broker.core import events as ev
from dag.cluster import PeerRates
from dag.job import ColumnRef, JobSpec, OptimizerSpec, ParameterRef, TrainingSpec
from dag.placement import Placement, SegmentPlacement
from ir.graph import TensorType
from ir.segment import BoundaryKind, BoundaryTensor, Segment

PEERS = [f"peer_{letter}" for letter in "abcdefg"]
OWNERS = ["client_a", "client_b"]
RATES = PeerRates(matmul_flops_per_s=1e12, attention_flops_per_s=1e12, memory_bytes_per_s=1e11)
HARDWARE = ev.PeerHardware(device="cpu", device_name="CPU", memory_bytes=1 << 33, rates=RATES,
                           executor="null", platform="linux", threads=1)
F32 = TensorType("float32", (8, 2))
CAUSES = ["killed", "network", "software", "device_memory", "device_fault", "disk", "job", ""]
AVAILABILITIES = ["open", "finishing", "paused", "leaving"]


def make_spec(steps: int = 4, peers: int = 0, batch: int = 8, clip: float = 0.0) -> JobSpec:
    parameters = tuple(
        ParameterRef(name=f"w{i}", aliases=(), digest=f"{i:064x}", blob_bytes=100, type=F32,
                     trainable=True)
        for i in range(len(PEERS)))
    column = ColumnRef(name="x", split="train", digest="f" * 64, blob_bytes=100, type=F32)
    training = TrainingSpec(steps=steps, batch_size=batch, microbatches=4, seed=0, clip_norm=clip,
                            optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1))
    return JobSpec(name="j", graph_digest="e" * 64, graph_bytes=10, parameters=parameters,
                   columns=(column,), training=training, peers=peers)


def make_placement(peers: list[str]) -> Placement:
    """A chain: each segment gives its successor an activation; all parameters have a home."""
    last = len(peers) - 1
    homes = [tuple(f"w{k}" for k in range(len(PEERS)) if k * len(peers) // len(PEERS) == i)
             for i in range(len(peers))]
    edges = [BoundaryTensor(edge=i, value=f"v{i}", kind=BoundaryKind.ACTIVATION, source=i,
                            target=i + 1, type=F32, differentiable=True, consumers=(i + 1,))
             for i in range(last)]
    return Placement(algorithm="any", step_s=1.0, segments=tuple(
        SegmentPlacement(
            segment=Segment(index=i, nodes=(i,), parameters=homes[i], data_inputs=(),
                            incoming=tuple(edges[i - 1:i]) if i else (),
                            outgoing=tuple(edges[i:i + 1]), has_loss=i == last),
            peer_id=peer, in_flight=1, memory_bytes=1, forward_s=0.1, backward_s=0.1)
        for i, peer in enumerate(peers)))


@dataclass
class Held:
    """A segment on a peer."""

    job: str
    segment: Segment
    token: int
    total: int
    steps: int
    log_from: int
    sources: tuple[tuple[int, do.SnapshotSource], ...]
    """What it begins with, by serial number."""
    first_serial: int
    phase: str = "loading"
    interval: int = 0
    holders: tuple[do.Holder, ...] = ()
    data_shards: int = 1
    members: dict[int, do.Member] = field(default_factory=dict)
    gifts: list[tuple[int, do.Holder]] = field(default_factory=list)
    missed: set[int] = field(default_factory=set)

    @property
    def at(self) -> tuple[str, int, int]:
        return self.job, self.segment.index, self.token

    @property
    def serial(self) -> int:
        return self.first_serial + self.segment.index


@dataclass
class Duty:
    """A standby on a peer."""

    job: str
    segment: int
    serial: int
    token: int
    wanted: str
    source: str
    level: str = ""
    is_broken: bool = False
    """It has given up, until it is asked for something else."""


@dataclass
class Node:
    """A peer: its process, its stream, its disk."""

    name: str
    session: str = ""
    number: int = 0
    sent: int = 0
    availability: str = "open"
    outbox: list[Any] = field(default_factory=list)
    held: dict[int, Held] = field(default_factory=dict)
    duties: dict[int, Duty] = field(default_factory=dict)
    disk: dict[tuple[str, int, int], tuple[str, int, int]] = field(default_factory=dict)
    """(job, serial, position) -> (digest, shard, data shards)."""

    def say(self, kind: type, job: str, segment: int, token: int, **more: Any) -> None:
        self.number += 1
        self.outbox.append(kind(at_ns=0, peer_id=self.name, number=self.number, job_id=job,
                                segment=segment, token=token, **more))

    def die(self) -> None:
        self.session, self.availability = "", "open"
        self.outbox.clear()
        self.held.clear()
        self.duties.clear()


def near(segment: Segment) -> set[int]:
    return {t.source for t in segment.incoming} | {t.target for t in segment.outgoing}
