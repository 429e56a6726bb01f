"""`JobService`: submitters see and steer their own jobs, operators all."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc

from broker.core import events as ev
from broker.core import views
from broker.core.commands import Reply
from broker.core.explanation import explain
from broker.core.limits import MAX_COLUMNS, MAX_PARAMETERS
from broker.core.state import JobState
from broker.driver import Driver
from broker.operator_actions import Actor, OperatorActions
from broker.rpc.fleet_codec import fleet_parts
from broker.rpc.job_codec import metrics_of, status_of
from broker.rpc.operator_codec import timeline_of
from broker.telemetry import Telemetry
from dag.job import JobSpec
from homespun.blobs.store import BlobStore
from homespun.errors import Code, HomespunError
from homespun.identity.caller import identify
from homespun.identity.names import Identity, Role
from homespun.v1 import job_pb2, jobs_pb2, jobs_pb2_grpc, operator_pb2
from homespun.version import check_version
from homespun.wire import from_message, to_message
from ir.graph import INFER

WATCH_INTERVAL_S = 0.2
"""Updates of one watcher come at most this often."""
WATCH_KEEPALIVE_S = 10.0
"""An update is sent at least this often, so that a watcher sees that the broker lives."""
UPDATE_STEPS_MAX = 50_000
"""Steps in one update: about a megabyte, far below the limit of a message."""
LIST_MAX = 1_000

Context = grpc.aio.ServicerContext[Any, Any]


class JobService(jobs_pb2_grpc.JobServiceServicer):
    """Serves submitters and operators."""

    def __init__(
        self, driver: Driver, blobs: BlobStore, telemetry: Telemetry, actions: OperatorActions
    ) -> None:
        """Serve with the broker's parts."""
        self._driver = driver
        self._actions = actions
        self._blobs = blobs
        self._telemetry = telemetry

    async def Submit(  # noqa: N802
        self, request: jobs_pb2.SubmitRequest, context: Context
    ) -> jobs_pb2.SubmitResponse:
        """Accept a job whose blobs are all stored."""
        caller = identify(context)
        check_version(request.protocol_version, f"client {caller.id}")
        _check_counts(request.spec)
        spec = from_message(request.spec, JobSpec)
        await asyncio.to_thread(self._check_blobs, spec)
        request_id = uuid.uuid4().hex
        event = ev.JobSubmitted(
            at_ns=0,
            request_id=request_id,
            owner_id=caller.id,
            submission_id=request.request_id,
            spec=spec,
        )
        answer = await self._driver.ask(event)
        assert isinstance(answer, Reply)
        return jobs_pb2.SubmitResponse(job_id=answer.value)

    async def GetJob(  # noqa: N802
        self, request: jobs_pb2.GetJobRequest, context: Context
    ) -> jobs_pb2.JobStatus:
        """One job."""
        return self._status(self._find(request.job_id, identify(context)))

    async def ListJobs(  # noqa: N802
        self, request: jobs_pb2.ListJobsRequest, context: Context
    ) -> jobs_pb2.ListJobsResponse:
        """The caller's jobs, newest first."""
        limit = min(request.limit or 100, LIST_MAX)
        jobs = views.jobs(self._driver.core, _owner_filter(identify(context)), limit)
        return jobs_pb2.ListJobsResponse(
            jobs=[status_of(job, self._telemetry) for job in jobs]
        )

    async def WatchJob(  # noqa: N802
        self, request: jobs_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.JobUpdate]:
        """A job's status and new metrics whenever something changes, until it has ended."""
        job_id = self._find(request.job_id, identify(context))
        next_step, next_evaluated = max(0, request.from_step), 0
        while True:
            seen = self._driver.changes
            metrics = metrics_of(
                self._driver.core, job_id, next_step, next_evaluated, UPDATE_STEPS_MAX)
            job = self._view(job_id)
            yield jobs_pb2.JobUpdate(
                status=status_of(job, self._telemetry),
                steps=metrics.steps,
                evaluations=metrics.evaluations,
            )
            next_step += len(metrics.steps)
            if metrics.evaluations:
                next_evaluated = metrics.evaluations[-1].step + 1
            if len(metrics.steps) == UPDATE_STEPS_MAX:
                continue  # there may be more, and it must not wait
            if job.has_ended:
                return
            await asyncio.sleep(WATCH_INTERVAL_S)  # the pace limit that the schema promises
            await self._driver.wait_change(seen, WATCH_KEEPALIVE_S)

    async def CancelJob(  # noqa: N802
        self, request: jobs_pb2.CancelJobRequest, context: Context
    ) -> jobs_pb2.JobStatus:
        """End a job."""
        caller = identify(context)
        job_id = await self._actions.cancel_job(
            Actor(by=caller.id, reason=request.reason), request.job_id, _owner_filter(caller))
        return self._status(job_id)

    async def GetResult(  # noqa: N802
        self, request: jobs_pb2.GetResultRequest, context: Context
    ) -> jobs_pb2.JobResult:
        """Where the trained parameters, or the predictions, are."""
        job = self._view(self._find(request.job_id, identify(context)))
        left = job.partial if request.partial else None
        if job.state != JobState.SUCCEEDED and left is None:
            raise HomespunError(
                Code.CONFLICT,
                f"{job.job_id} has no {'partial ' * request.partial}result: it is {job.state}. "
                f"{job.error_message or job.reason}".strip(),
            )
        found = views.result if left is None else views.partial_result
        parts = [
            jobs_pb2.ResultPart(
                segment=part.segment, digest=part.digest, blob_bytes=part.blob_bytes
            )
            for part in found(self._driver.core, job.job_id)
        ]
        if left is not None and len(parts) < left.pieces:
            raise _incomplete(job.job_id, left)
        spec = views.spec(self._driver.core, job.job_id)
        assert spec is not None
        position = job.steps_done if left is None else left.position
        result = jobs_pb2.JobResult(job_id=job.job_id, parts=parts, position=position)
        if spec.kind == INFER:
            outputs = views.outputs(self._driver.core, job.job_id)
            result.outputs.extend(to_message(output, job_pb2.ResultTensor) for output in outputs)
        else:
            result.parameters.extend(
                to_message(ref, job_pb2.ParameterRef) for ref in spec.parameters)
        return result

    async def GetMetrics(  # noqa: N802
        self, request: jobs_pb2.GetMetricsRequest, context: Context
    ) -> jobs_pb2.JobMetrics:
        """Every loss from a step on."""
        job_id = self._find(request.job_id, identify(context))
        return metrics_of(self._driver.core, job_id, max(0, request.from_step), 0)

    async def ExplainPlacement(  # noqa: N802
        self, request: jobs_pb2.ExplainPlacementRequest, context: Context
    ) -> jobs_pb2.Explanation:
        """Why the job's segments are where they are."""
        job_id = self._find(request.job_id, identify(context))
        segment = request.segment if request.HasField("segment") else None
        found = explain(self._driver.core, job_id, segment)
        if found is None:
            raise HomespunError(
                Code.NOT_FOUND,
                f"{job_id} has no segment {segment}; it has {len(self._view(job_id).segments)}, "
                "counted from 0.")
        return to_message(found, jobs_pb2.Explanation)

    async def GetTimeline(  # noqa: N802
        self, request: operator_pb2.GetTimelineRequest, context: Context
    ) -> operator_pb2.Timeline:
        """Who had which segment of a job, and when."""
        return timeline_of(self._driver.core, self._find(request.job, identify(context)))

    async def GetFleet(  # noqa: N802
        self, request: jobs_pb2.GetFleetRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.FleetPart]:
        """The live peers as the planner knows them, so that a submitter can plan at home."""
        for part in fleet_parts(views.peers(self._driver.core)):
            yield part

    def _status(self, job_id: str) -> jobs_pb2.JobStatus:
        return status_of(self._view(job_id), self._telemetry)

    def _view(self, job_id: str) -> views.JobView:
        view = views.job(self._driver.core, job_id)
        assert view is not None, "jobs are never forgotten"
        return view

    def _find(self, prefix: str, caller: Identity) -> str:
        """The one job whose id starts with `prefix` and that the caller may see."""
        return self._actions.find_job(prefix, _owner_filter(caller))

    def _check_blobs(self, spec: JobSpec) -> None:
        wanted = [("the graph", spec.graph_digest, spec.graph_bytes)]
        wanted += [(f"parameter {p.name!r}", p.digest, p.blob_bytes) for p in spec.parameters]
        wanted += [(f"column {c.name!r} of {c.split}", c.digest, c.blob_bytes)
                   for c in spec.columns]
        for what, digest, size_bytes in wanted:
            state = self._blobs.stat(digest)
            if not state.complete:
                raise HomespunError(
                    Code.INVALID_JOB, f"{what} is not stored: upload blob {digest} first"
                )
            if state.stored_bytes != size_bytes:
                raise HomespunError(
                    Code.INVALID_JOB,
                    f"{what} is said to have {size_bytes} bytes; blob {digest} has "
                    f"{state.stored_bytes}",
                )


def _check_counts(spec: job_pb2.JobSpec) -> None:
    """Before anything is made of it: eight megabytes can hold millions of empty entries."""
    for what, entries, limit in (
        ("parameters", spec.parameters, MAX_PARAMETERS), ("columns", spec.columns, MAX_COLUMNS),
    ):
        if len(entries) > limit:
            raise HomespunError(
                Code.LIMIT_EXCEEDED, f"the job has {len(entries)} {what}; at most {limit}"
            )


def _incomplete(job_id: str, left: views.PartialView) -> HomespunError:
    """Why a partial result cannot be had."""
    if left.until_ns:
        return HomespunError(
            Code.CONFLICT,
            f"{left.stored} of the {left.pieces} pieces of what {job_id} leaves are stored. The "
            "others are still on their way: ask again.", job=job_id)
    return HomespunError(
        Code.NOT_FOUND,
        f"{job_id} had parameters of step {left.position} on {left.pieces} peers, and some of them "
        f"could not be had: {'; '.join(left.missing)}.", job=job_id)


def _owner_filter(caller: Identity) -> str | None:
    """Whose jobs a caller may see: None for everybody's."""
    return None if caller.role is Role.OPERATOR else caller.id
