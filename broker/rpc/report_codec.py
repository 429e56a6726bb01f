"""Reports of peers as broker-core events, with the bounds that strangers must keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.core import events as ev
from broker.core.limits import (
    MAX_BLOB_BYTES,
    MAX_COPY_S,
    MAX_GIVING_S,
    MAX_MESSAGE,
    MAX_MICROBATCH_S,
    MAX_MICROBATCHES_PER_REPORT,
    MAX_SEGMENTS,
    MAX_SHARDS,
    MAX_STEPS,
)
from broker.core.readiness import LEVELS
from broker.rpc.bounds import (
    check_count,
    check_digest,
    check_member,
    check_number,
    check_texts,
    check_whole,
    shown,
)
from dag.cluster import CORRECTIONS_MAX, Correction
from homespun.errors import Code, HomespunError
from homespun.v1 import session_pb2
from homespun.wire import from_message

REACHED = frozenset(LEVELS) - {""}
"""What a standby reports: it is somewhere by then."""


def report_event(peer_id: str, report: session_pb2.Report) -> ev.AnyEvent:
    """A report as an event.

    Raises:
        HomespunError: INVALID_ARGUMENT or LIMIT_EXCEEDED for what no honest peer reports, or a
            report without a body.
    """
    check_texts(job_id=report.job_id)
    base: dict[str, Any] = {
        "at_ns": 0,
        "peer_id": peer_id,
        "number": report.number,
        "job_id": report.job_id,
        "segment": report.segment,
        "token": report.token,
    }
    match report.WhichOneof("body"):
        case "ready":
            return ev.SegmentReady(**base)
        case "steps":
            steps = report.steps
            return ev.StepsDone(
                **base, first_step=steps.first_step, count=steps.count, losses=tuple(steps.losses)
            )
        case "evaluation":
            return ev.EvaluationDone(
                **base, step=report.evaluation.step, loss=report.evaluation.loss
            )
        case "failed":
            return _failed(base, report.failed)
        case "finished":
            finished = report.finished
            return ev.SegmentFinished(
                **base,
                result_digest=shown(finished.result_digest),
                result_bytes=finished.result_bytes,
                corrections=_corrections(finished.corrections),
            )
        case "released":
            return ev.SegmentReleased(**base)
        case "snapshot":
            return _snapshot(base, report.snapshot)
        case "neighbour_lost":
            return _neighbour_lost(base, report.neighbour_lost)
        case "standby":
            check_member("level", report.standby.level, REACHED)
            return ev.StandbyReady(
                **base, level=report.standby.level,
                problem=shown(report.standby.problem, MAX_MESSAGE))
        case "pace":
            return _pace(base, report.pace)
    raise HomespunError(Code.INVALID_ARGUMENT, "a report without a body")


def _failed(base: dict[str, Any], failed: session_pb2.SegmentFailed) -> ev.SegmentFailed:
    """Texts are cut to what may be kept: that a segment has failed must arrive."""
    return ev.SegmentFailed(
        **base,
        code=shown(failed.code),
        message=shown(failed.message, MAX_MESSAGE),
        blamed_peer=shown(failed.blamed_peer),
        cause=shown(failed.cause),
        evidence=shown(failed.evidence, MAX_MESSAGE),
        remedy=shown(failed.remedy, MAX_MESSAGE),
    )


def _snapshot(base: dict[str, Any], taken: session_pb2.SnapshotStored) -> ev.SnapshotStored:
    check_texts(holder=taken.holder)
    check_snapshot(taken)
    check_number("seconds", taken.seconds, MAX_COPY_S)
    check_number("giving_s", taken.giving_s, MAX_GIVING_S)
    return ev.SnapshotStored(
        **base,
        position=taken.position,
        digest=taken.digest,
        size_bytes=taken.size_bytes,
        holder=taken.holder,
        shard=taken.shard,
        data_shards=taken.data_shards,
        seconds=taken.seconds,
        giving_s=taken.giving_s,
    )


def check_snapshot(said: session_pb2.SnapshotStored | session_pb2.HeldSnapshot) -> None:
    """Refuse what no snapshot, or shard of one, can be like.

    Raises:
        HomespunError: INVALID_ARGUMENT names the field.
    """
    check_whole("position", said.position, 1, MAX_STEPS)
    check_digest("digest", said.digest)
    check_whole("size_bytes", said.size_bytes, 0, MAX_BLOB_BYTES)
    check_whole("data_shards", said.data_shards, 1, MAX_SHARDS)
    check_whole("shard", said.shard, 0, MAX_SHARDS - 1)


def _neighbour_lost(
    base: dict[str, Any], lost: session_pb2.NeighbourLost
) -> ev.NeighbourLost:
    check_whole("neighbour", lost.neighbour, 0, MAX_SEGMENTS - 1)
    return ev.NeighbourLost(
        **base,
        neighbour=lost.neighbour,
        blamed_peer=shown(lost.peer_id),
        code=shown(lost.code),
        message=shown(lost.message, MAX_MESSAGE),
    )


def _pace(base: dict[str, Any], pace: session_pb2.SegmentPace) -> ev.SegmentPace:
    check_number("microbatch_s", pace.microbatch_s, MAX_MICROBATCH_S)
    check_whole("microbatches", pace.microbatches, 0, MAX_MICROBATCHES_PER_REPORT)
    return ev.SegmentPace(
        **base, microbatch_s=pace.microbatch_s, microbatches=pace.microbatches)


def _corrections(said: Sequence[session_pb2.Correction]) -> tuple[Correction, ...]:
    """Bounded before they are read: whether they make sense is for the core to say."""
    check_count("corrections", len(said), CORRECTIONS_MAX)
    return tuple(from_message(found, Correction) for found in said)
