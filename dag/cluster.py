"""What the planner knows about the peers: measured rates, memory, links. Frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from dag.support import ExecutorSupport


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRates:
    """Measured speeds of one peer's device, all > 0.

    Attributes:
        matmul_flops_per_s: dense float32 matrix multiplication.
        attention_flops_per_s: fused attention.
        memory_bytes_per_s: element-wise work: bytes read plus bytes written.
    """

    matmul_flops_per_s: float
    attention_flops_per_s: float
    memory_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResources:
    """One peer as a place to run a segment.

    Attributes:
        peer_id: its id.
        memory_bytes: device memory that its owner offers, > 0.
        rates: measured speeds.
        executor: name of what computes there, for messages.
        support: what that can run; None sets no limit.
    """

    peer_id: str
    memory_bytes: int
    rates: PeerRates
    executor: str = ""
    support: ExecutorSupport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A measured ordered pair of peers: time of `n` bytes is `latency_s + n / bandwidth`."""

    source: str
    target: str
    latency_s: float
    bandwidth_bytes_per_s: float


DEFAULT_LATENCY_S = 0.001
DEFAULT_BANDWIDTH_BYTES_PER_S = 1.0e8
"""Assumed until a pair has been measured: a good home LAN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The peers that a job may use, in a fixed order, and the links between them."""

    peers: tuple[PeerResources, ...]
    links: tuple[Link, ...] = ()
