"""Jobs: the list, one of them, and its end by an operator."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from broker.console.axes import edges
from broker.console.chart import HEIGHT, loss_chart, speed_chart
from broker.console.lanes import lanes
from broker.console.page import ConsoleParts, Page, number, options_of, query_of, turned
from broker.core import operator_views, views
from broker.core.event_log import LineFilter
from broker.core.explanation import explain
from broker.core.state import JobState
from broker.core.views import JobView, Metric
from broker.operator_actions import Actor
from homespun.errors import Code, HomespunError
from homespun.timeline import RECOVERIES

JOBS_PER_PAGE = 200
JOBS_MAX = 100_000
JOBS_SEARCHED = 2_000
EVENTS_SHOWN = 200
SPEED_STEPS = 50
"""Steps that a job's speed is taken over."""


def job_list(request: Request, parts: ConsoleParts) -> Page:
    """Jobs, newest first, in pages; those that the address asks for, of the newest."""
    first = number(request.query_params, "from", JOBS_MAX)
    query = query_of(request, "text", "state")
    last = first + JOBS_PER_PAGE
    is_search = any(query.values())
    known = views.jobs(parts.core, limit=JOBS_SEARCHED if is_search else last + 1)
    found = [job for job in known if _is_wanted(job, query)]
    return Page(
        template="jobs.html", title="Jobs",
        command=f"broker jobs {options_of(query)}".strip(), values={
            "jobs": found[first:last], "query": query, "chosen": options_of(query),
            "states": [str(state) for state in JobState],
            "searched": len(known) if is_search and len(known) == JOBS_SEARCHED else 0,
            "older": turned(request, query, last) if len(found) > last else "",
            "newer": turned(request, query, max(0, first - JOBS_PER_PAGE)) if first else ""})


def _is_wanted(job: JobView, query: Mapping[str, str]) -> bool:
    text = query["text"].casefold()
    return query["state"] in ("", job.state) and any(
        text in each.casefold() for each in (job.job_id, job.name))


def job(request: Request, parts: ConsoleParts) -> Page:
    """One job: progress, losses with recoveries, where it runs and why, what happened to it."""
    job_id = request.path_params["job_id"]
    found = views.job(parts.core, job_id)
    if found is None:
        raise HomespunError(Code.NOT_FOUND, "There is no such job: the list has all.")
    losses = views.metrics(parts.core, job_id)
    events = operator_views.newest_events(parts.core, LineFilter(subject=job_id), EVENTS_SHOWN)
    names = {peer_id: peer.name for peer_id, peer in parts.core.state.peers.items()}
    recoveries = [line for line in events if line.kind in RECOVERIES]
    charts = (loss_chart(losses, views.evaluations(parts.core, job_id), recoveries),
              speed_chart(losses, recoveries,
                          1 / found.predicted_step_s if found.predicted_step_s else 0.0))
    return Page(
        template="job.html", title=f"Job {found.job_id}",
        command=f"broker job {found.job_id}", values={
            "job": found,
            "speed": _steps_per_s(losses),
            "charts": [chart for chart in charts if chart],
            "edges": edges(HEIGHT),
            "lanes": lanes(operator_views.timeline(parts.core, job_id), names, recoveries,
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
