"""Jobs: the list, one of them, and its end by an operator."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from broker.console.chart import curve
from broker.console.lanes import lanes
from broker.console.page import ConsoleParts, Page, number
from broker.core import operator_views, views
from broker.core.event_log import LineFilter
from broker.core.explanation import explain
from broker.core.views import Metric
from broker.operator_actions import Actor
from homespun.errors import Code, HomespunError
from homespun.timeline import RECOVERIES

JOBS_PER_PAGE = 200
JOBS_MAX = 100_000
EVENTS_SHOWN = 200
SPEED_STEPS = 50
"""Steps that a job's speed is taken over."""


def job_list(request: Request, parts: ConsoleParts) -> Page:
    """Jobs, newest first, in pages."""
    first = number(request.query_params, "from", JOBS_MAX)
    found = views.jobs(parts.core, limit=first + JOBS_PER_PAGE + 1)[first:]
    return Page(
        template="jobs.html", title="Jobs", command="broker jobs", values={
            "jobs": found[:JOBS_PER_PAGE],
            "older": first + JOBS_PER_PAGE if len(found) > JOBS_PER_PAGE else 0,
            "newer": max(0, first - JOBS_PER_PAGE) if first else None})


def job(request: Request, parts: ConsoleParts) -> Page:
    """One job: progress, losses with recoveries, where it runs and why, what happened to it."""
    job_id = request.path_params["job_id"]
    found = views.job(parts.core, job_id)
    if found is None:
        raise HomespunError(Code.NOT_FOUND, "There is no such job: the list has all.")
    losses = views.metrics(parts.core, job_id)
    events = operator_views.newest_events(parts.core, LineFilter(subject=job_id), EVENTS_SHOWN)
    names = {peer_id: peer.name for peer_id, peer in parts.core.state.peers.items()}
    recoveries = [line.at_ns for line in events if line.kind in RECOVERIES]
    return Page(
        template="job.html", title=f"Job {found.job_id}",
        command=f"broker job {found.job_id}", values={
            "job": found,
            "speed": _steps_per_s(losses),
            "chart": curve(losses, views.evaluations(parts.core, job_id), recoveries),
            "lanes": lanes(operator_views.timeline(parts.core, job_id), names,
                           found.submitted_at_ns, found.finished_at_ns or parts.driver.now_ns()),
            "explained": explain(parts.core, job_id),
            "results": views.result(parts.core, job_id),
            "events": events})


async def cancel(
    request: Request, parts: ConsoleParts, actor: Actor, form: Mapping[str, str]
) -> str:
    """End somebody's job."""
    job_id = request.path_params["job_id"]
    if views.job(parts.core, job_id) is None:
        raise HomespunError(Code.NOT_FOUND, "There is no such job: the list has all.")
    return f"/jobs/{await parts.actions.cancel_job(actor, job_id)}"


def _steps_per_s(losses: tuple[Metric, ...]) -> float:
    """Speed over the last steps; 0 where it is unknown."""
    recent = losses[-SPEED_STEPS:]
    passed_s = (recent[-1].at_ns - recent[0].at_ns) / 1e9 if len(recent) > 1 else 0.0
    return (len(recent) - 1) / passed_s if passed_s > 0 else 0.0
