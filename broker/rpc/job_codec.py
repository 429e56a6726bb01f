"""The core's views of jobs as the messages that clients see."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from broker.clock import unix_ms
from broker.core import views
from broker.core.growth_record import Recut
from broker.core.machine import Broker
from broker.core.views import JobView, Metric, PartialView, SegmentView
from broker.telemetry import Telemetry
from homespun.v1 import job_pb2, jobs_pb2
from homespun.wire import to_message

_Message = TypeVar("_Message", jobs_pb2.StepMetric, jobs_pb2.EvaluationMetric)


def status_of(job: JobView, telemetry: Telemetry) -> jobs_pb2.JobStatus:
    """Everything about a job but its full metrics."""
    return jobs_pb2.JobStatus(
        job_id=job.job_id,
        name=job.name,
        owner_id=job.owner_id,
        owner_name=job.owner_name,
        state=job.state,
        steps_done=job.steps_done,
        steps_total=job.steps_total,
        batch_size=job.batch_size,
        samples_done=job.samples_done,
        samples_total=job.samples_total,
        kind=job.kind,
        has_loss=job.last_loss is not None,
        first_loss=job.first_loss or 0.0,
        last_loss=job.last_loss or 0.0,
        last_loss_step=job.last_loss_step,
        has_validation_loss=job.last_validation_loss is not None,
        last_validation_loss=job.last_validation_loss or 0.0,
        error_code=job.error_code,
        error_message=job.error_message or job.reason,
        submitted_unix_ms=unix_ms(job.submitted_at_ns),
        finished_unix_ms=unix_ms(job.finished_at_ns),
        segments=[_segment(segment, job.job_id, telemetry) for segment in job.segments],
        idle=[to_message(refusal, job_pb2.Refusal) for refusal in job.idle],
        algorithm=job.algorithm,
        predicted_step_s=job.predicted_step_s,
        growth=job.growth,
        recuts=[_recut(recut) for recut in job.recuts],
        partial=None if job.partial is None else _partial(job.partial),
    )


def _partial(partial: PartialView) -> jobs_pb2.PartialResult:
    return jobs_pb2.PartialResult(
        position=partial.position,
        pieces=partial.pieces,
        stored=partial.stored,
        until_unix_ms=unix_ms(partial.until_ns),
        missing=partial.missing,
    )


def _recut(recut: Recut) -> jobs_pb2.Recut:
    worth = recut.worth
    return jobs_pb2.Recut(
        position=recut.position,
        segments_before=recut.segments_before,
        segments_after=recut.segments_after,
        before_s=worth.before_s,
        after_s=worth.after_s,
        stop_s=worth.stop_s,
        saved_s=worth.saved_s,
        payback_s=worth.payback_s,
        unix_ms=unix_ms(recut.at_ns),
    )


def metrics_of(
    core: Broker, job_id: str, from_step: int, from_evaluated_step: int,
    steps_max: int | None = None,
) -> jobs_pb2.JobMetrics:
    """Losses of steps, and of evaluations, from a step on; of `steps_max` steps at most."""
    return jobs_pb2.JobMetrics(
        steps=list(_metrics(
            islice(views.metrics(core, job_id, from_step), steps_max), jobs_pb2.StepMetric)),
        evaluations=list(
            _metrics(
                views.evaluations(core, job_id, from_evaluated_step), jobs_pb2.EvaluationMetric
            )
        ),
    )


def _metrics(metrics: Iterable[Metric], kind: type[_Message]) -> Iterable[_Message]:
    return (kind(step=m.step, loss=m.loss, unix_ms=unix_ms(m.at_ns)) for m in metrics)


def _segment(
    segment: SegmentView, job_id: str, telemetry: Telemetry
) -> jobs_pb2.SegmentStatus:
    status = jobs_pb2.SegmentStatus(
        segment=segment.segment,
        peer_id=segment.peer_id,
        peer_name=segment.peer_name,
        token=segment.token,
        phase=segment.phase,
        step=segment.steps_done,
        nodes=segment.nodes,
        parameter_bytes=segment.parameter_bytes,
        memory_bytes=segment.memory_bytes,
        links=[
            jobs_pb2.LinkStatus(to_peer=traffic.to_peer, sent_bytes=traffic.sent_bytes)
            for traffic in telemetry.traffic(job_id, segment.peer_id)
        ],
    )
    progress = telemetry.progress(job_id, segment.segment)
    if progress is not None:
        status.waiting_for = progress.waiting_for
        status.waiting_ms = progress.waiting_ms
    return status
