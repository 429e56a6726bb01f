"""Numbers that the operator may set; they reach the core in `BrokerStarted`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How patient the broker is.

    Attributes:
        heartbeat_interval_ms: how often a peer shows life.
        lease_ttl_ms: silence after which a connected peer is lost; several heartbeats long.
        reconnect_grace_ms: time a peer whose stream closed has to come back before it is lost: a
            killed process closes its stream at once, a router's hiccup needs a few seconds.
        restart_grace_ms: the same after a start of the broker itself, when everybody must come
            back and the silence is the broker's own doing.
        prepare_timeout_ms: time a job's segments have to become ready.
        stall_timeout_ms: longest a segment may wait for one tensor; longer if steps take minutes.
    """

    heartbeat_interval_ms: int = 1_000
    lease_ttl_ms: int = 15_000
    reconnect_grace_ms: int = 5_000
    restart_grace_ms: int = 60_000
    prepare_timeout_ms: int = 600_000
    stall_timeout_ms: int = 120_000
