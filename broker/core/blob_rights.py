"""Who may read and store which blob. The shell has verified the identity; nothing is changed."""

from __future__ import annotations

from broker.core import partial, views
from broker.core.events import PieceStored
from broker.core.machine import Broker
from broker.core.readiness import READY
from broker.core.state import HELD_PHASES, LeasePhase


def may_read_blob(broker: Broker, identity: str, digest: str) -> bool:
    """Tell whether somebody may read a blob.

    A peer: what the segments need that it holds or stands by for, and nothing else. A submitter:
    the parts of the results, partial ones too, of its own jobs. Cost: O(jobs) for a submitter.
    """
    record = broker.state.peers.get(identity)
    if record is not None:
        return any(
            lease.phase in HELD_PHASES and digest in lease.blobs
            for lease in record.leases.values()
        ) or any(
            standby.wanted in READY and digest in standby.blobs
            for standby in record.standbys.values()
        )
    return any(
        digest == part.digest
        for own in broker.state.jobs.values() if own.owner_id == identity
        for part in (
            *views.result(broker, own.job_id), *views.partial_result(broker, own.job_id))
    )


def may_write_blob(broker: Broker, identity: str, size_bytes: int = 0) -> bool:
    """Tell whether somebody may store a blob of `size_bytes`.

    A peer: only while it runs a segment, and only what fits that segment's result, or while it is
    asked for a piece of a partial result, and only what fits that. A submitter: always (its quota
    is the store's affair), but nobody who was not admitted.
    """
    record = broker.state.peers.get(identity)
    if record is not None:
        return any(
            lease.phase is LeasePhase.RUNNING and size_bytes <= lease.result_bytes_max
            for lease in record.leases.values()
        ) or partial.may_store(broker.state, identity, size_bytes)
    return views.role_of(broker, identity) == "submitter"


def may_store_piece(broker: Broker, said: PieceStored) -> bool:
    """Whether somebody was asked for the piece that it speaks of: else it is not journalled."""
    return partial.piece_of(broker.state, said) is not None
