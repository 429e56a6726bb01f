"""Numbers that the operator may set; they reach the core in `BrokerStarted`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How patient the broker is.

    Attributes:
        heartbeat_interval_ms: how often a peer shows life.
        lease_ttl_ms: silence after which a connected peer is lost; several heartbeats long.
        takeover_grace_ms: the same as `reconnect_grace_ms`, where a backup is ready: moving costs
            little then, and waiting costs everybody.
        mass_loss_grace_ms: the same while most peers are silent at once: then it is more likely
            that the broker's own line is gone than that they all are.
        replay_budget_ms: longest that a takeover should take to replay; the snapshots' interval
            follows from it.
        snapshot_overhead: largest share of the time that segments may stand still for copying their
            state; writing it beside their tasks costs about three times as much again.
        snapshot_line_share: largest share of the time that snapshots may occupy a peer's line.
        snapshot_holders: copies of a snapshot that are kept off the segment's own peer.
        shard_bytes: snapshots larger than this are kept in Reed-Solomon shards; 0: never.
        reconnect_grace_ms: time a peer whose stream closed has to come back before it is lost: a
            killed process closes its stream at once, a router's hiccup needs a few seconds.
        restart_grace_ms: the same after a start of the broker itself, when everybody must come
            back and the silence is the broker's own doing.
        prepare_timeout_ms: time a job's segments have to become ready, besides what fetching takes
            at 0.1 Mbit/s.
        stall_timeout_ms: longest a segment may wait for one tensor; longer if steps take minutes.
        growth_settle_ms: time without further newcomers after which a job's plan is looked at again
            for their sake: they come in groups, and their links are measured first.
        growth_pause_ms: least time between two such looks at one job.
        growth_saved_min_ms: least time that a job must end earlier by for its sake, as predictions
            may be wrong.
    """

    heartbeat_interval_ms: int = 1_000
    lease_ttl_ms: int = 8_000
    takeover_grace_ms: int = 1_000
    reconnect_grace_ms: int = 5_000
    mass_loss_grace_ms: int = 20_000
    replay_budget_ms: int = 5_000
    snapshot_overhead: float = 0.01
    snapshot_line_share: float = 0.2
    snapshot_holders: int = 2
    shard_bytes: int = 0
    restart_grace_ms: int = 60_000
    prepare_timeout_ms: int = 600_000
    stall_timeout_ms: int = 120_000
    growth_settle_ms: int = 10_000
    growth_pause_ms: int = 300_000
    growth_saved_min_ms: int = 30_000
