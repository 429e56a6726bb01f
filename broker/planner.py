"""Answers the core's questions about plans, outside the core, from the job's checked graph."""

from __future__ import annotations

import traceback
from pathlib import Path

from broker.core import commands as do
from broker.core.events import BackupsRanked, JobReplanned, PlacementSolved, PlanningFailed
from dag.job import PREDICT, JobSpec
from dag.placement import Infeasible, PlacementProblem
from homespun.errors import Code, HomespunError
from ir.graph import Graph


def solve(command: do.SolvePlacement, graph_path: Path) -> PlacementSolved | PlanningFailed:
    """Plan a job whose graph lies in a file.

    Nothing here touches the core. Whatever is wrong with the submitter's graph becomes the job's
    failure, never the broker's.

    Raises:
        MemoryError: the graph is too large for this process.
    """
    from dag.planner import plan

    try:
        problem = _problem(command, graph_path)
        answer = plan(problem)
    except HomespunError as error:
        return PlanningFailed(
            at_ns=0, job_id=command.job_id, code=error.code, message=error.message
        )
    except MemoryError:
        raise
    except Exception as error:  # the edge of planning: whatever it is, the job is told
        traceback.print_exc()
        text = f"the planner failed: {type(error).__name__}: {error}"
        return PlanningFailed(at_ns=0, job_id=command.job_id, code=Code.INTERNAL, message=text)
    is_infeasible = isinstance(answer, Infeasible)
    return PlacementSolved(
        at_ns=0,
        job_id=command.job_id,
        cluster_version=command.cluster_version,
        answer=None if is_infeasible else answer,
        infeasible=answer if is_infeasible else None,
    )


def rank(command: do.RankBackups, graph_path: Path) -> BackupsRanked:
    """Say which peers could run which segment of a placed job whose graph lies in a file.

    A graph that was planned once is acceptable; whatever is wrong with it by now leaves everybody
    unranked, and the job goes on.

    Raises:
        MemoryError: the graph is too large for this process.
    """
    from dag.backups import rank_backups

    try:
        problem = _problem(command, graph_path)
        ranking = rank_backups(problem, command.segments)
    except MemoryError:
        raise
    except Exception:  # the edge of planning, as in `solve`
        traceback.print_exc()
        return nobody_ranked(command)
    return BackupsRanked(
        at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version, ranking=ranking)


def nobody_ranked(command: do.RankBackups) -> BackupsRanked:
    """The answer where there is none: of no segment is anything known."""
    return BackupsRanked(
        at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version, ranking=())


def replan(command: do.ReplanJob, graph_path: Path) -> JobReplanned:
    """Plan a running job anew, and predict its present plan by the same measures.

    Whatever is wrong, the job goes on as it is.

    Raises:
        MemoryError: the graph is too large for this process.
    """
    from dag.planner import plan
    from dag.predict import estimate, predict
    from dag.replanning.recut_moves import recut_seconds

    try:
        problem = _problem(command, graph_path)
        answer = plan(problem)
        if isinstance(answer, Infeasible):
            return not_replanned(command, "the planner found no plan on the peers that are there")
        known = estimate(problem)
        peers = {peer.peer_id: peer for peer in command.cluster.peers}
        stay = predict(known, [placed.segment for placed in command.segments],
                       [peers[placed.peer_id] for placed in command.segments])
        move_s = recut_seconds(known, command.segments, answer.segments)
    except MemoryError:
        raise
    except Exception as error:  # the edge of planning, as in `solve`
        traceback.print_exc()
        return not_replanned(command, f"the planner failed: {type(error).__name__}: {error}")
    return JobReplanned(
        at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version, answer=answer,
        stay_s=stay.step_s, move_s=move_s)


def not_replanned(command: do.ReplanJob, problem: str) -> JobReplanned:
    """The answer where there is none."""
    return JobReplanned(
        at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version, answer=None,
        stay_s=0.0, move_s=0.0, problem=problem)


def _problem(
    command: do.SolvePlacement | do.RankBackups | do.ReplanJob, graph_path: Path
) -> PlacementProblem:
    """The job's checked graph, and the peers that are asked about."""
    graph = _load(command.spec, graph_path)
    return PlacementProblem(graph=graph, job=command.spec, cluster=command.cluster)


def _load(spec: JobSpec, graph_path: Path) -> Graph:
    """The job's graph, checked against the closed operator list and against the job itself."""
    from ir.admission import admit

    with graph_path.open("rb") as file:
        graph = admit(file.read(spec.graph_bytes), spec.kind)
    _check_inputs(graph, spec)
    return graph


def _check_inputs(graph: Graph, spec: JobSpec) -> None:
    """Every graph input is one of the job's parameters or columns, with the type it says."""
    size = spec.training.batch_size // spec.training.microbatches
    parameters = {parameter.name: parameter.type for parameter in spec.parameters}
    for name in graph.parameters:
        if parameters.get(name) != graph.types[name]:
            raise HomespunError(
                Code.INVALID_JOB,
                f"parameter {name!r} is {graph.types[name]} in the graph and "
                f"{parameters.get(name)} in the job",
            )
    columns = {
        column.name: column.type for column in spec.columns if column.split in ("train", PREDICT)}
    for name in graph.inputs:
        wanted, column = graph.types[name], columns.get(name)
        if column is None or column.dtype != wanted.dtype or (
            (size, *column.shape[1:]) != wanted.shape
        ):
            raise HomespunError(
                Code.INVALID_JOB,
                f"the graph's input {name!r} takes {wanted} for a microbatch of {size}; the "
                f"job's column is {column}",
            )
