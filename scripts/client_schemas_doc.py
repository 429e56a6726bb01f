"""Write docs/schemas/*.json: JSON Schemas of what the `homespun` command alone prints.

What it prints as `broker` does (a job, jobs, an explanation, a timeline) is in `schemas_doc.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas_doc import (
    BOOLEAN,
    DIALECT,
    INTEGER,
    NUMBER,
    STRING,
    Schema,
    array,
    document,
    files,
    nullable,
    of_type,
    record,
    write,
)

COST_GRAPH_PLAN = "homespun.plan/1"
ALONE = nullable(record({
    "peer_id": STRING, "name": STRING, "step_s": NUMBER, "steps_per_s": NUMBER,
    "reason": nullable(STRING)}))
"""The whole job on one peer; null where there is none."""
REFUSALS = array(record({
    "subject": STRING, "name": STRING, "rule": STRING, "wanted": NUMBER, "had": NUMBER,
    "text": STRING, "node": STRING}))
PLACED = {
    "segment": INTEGER, "peer_id": STRING, "name": STRING, "executor": STRING, "nodes": INTEGER,
    "parameters": INTEGER, "memory_bytes": INTEGER, "of_bytes": INTEGER, "forward_s": NUMBER,
    "backward_s": NUMBER, "in_flight": INTEGER, "busy": NUMBER}
TRAFFIC = {
    "source": STRING, "target": STRING, "bytes_per_step": INTEGER, "seconds_per_step": NUMBER,
    "measured": BOOLEAN}
PLAN = {
    "kind": STRING, "algorithm": STRING, "seconds_to_plan": NUMBER, "batch_size": INTEGER,
    "microbatches": INTEGER, "step_s": NUMBER, "steps_per_s": NUMBER,
    "steps_per_s_range": array(NUMBER), "samples_per_s": NUMBER, "bubble": NUMBER,
    "limited_by": STRING, "peers": array(record(PLACED)), "links": array(record(TRAFFIC)),
    "idle": REFUSALS, "best_single_peer": ALONE, "own_machine": ALONE,
    "candidates": array(record({
        "algorithm": STRING, "step_s": NUMBER, "reason": nullable(STRING)}))}
NO_PLAN = {
    "peers": {"type": "null"}, "missing_bytes": INTEGER, "refusals": REFUSALS,
    "best_single_peer": ALONE, "own_machine": ALONE}


def client_schemas() -> dict[str, Schema]:
    """Name of a document -> its schema."""
    from homespun.status import JobUpdate

    fields: dict[str, Mapping[str, Schema]] = {
        "fleet_saved": {"path": STRING, "peers": INTEGER, "links": INTEGER},
        "identity": {"id": STRING, "role": STRING, "network_id": STRING, "directory": STRING,
                     "expires_at": {"type": "string", "format": "date-time"}},
        "job_update": of_type(JobUpdate)["properties"],
        "result": {"job_id": STRING, "path": STRING, "step": nullable(INTEGER),
                   "aliases": {"type": "object", "additionalProperties": STRING}},
        "submitted": {"job_id": STRING},
        "errors": {"errors": array(record({
            "code": STRING, "meaning": STRING, "remedy": STRING, "exit_code": INTEGER,
            "grpc_status": STRING, "exception": STRING}))},
    }
    whole = {name: document(name, some) for name, some in fields.items()}
    return {**whole, "job_plan": _job_plan(), COST_GRAPH_PLAN: _cost_graph_plan()}


def _job_plan() -> Schema:
    """A plan, or why there is none."""
    planned, infeasible = document("job_plan", PLAN), document("job_plan", NO_PLAN)
    for each in (planned, infeasible):
        del each["$schema"]
    return {"$schema": DIALECT, "title": "job_plan", "oneOf": [planned, infeasible]}


def _cost_graph_plan() -> Schema:
    """See docs/cost-graph.md; what is null without a plan may be null."""
    by_node = {"type": "object", "additionalProperties": NUMBER}
    times = {"makespan_s": NUMBER, "bottleneck_s": NUMBER}
    fields = {
        "schema": {"const": COST_GRAPH_PLAN},
        "objective": {"enum": ["latency", "throughput"]},
        "algorithm": nullable(STRING), "seconds_to_plan": NUMBER,
        "predicted": nullable(record({**times, "peak_bytes": by_node})),
        "best_single_device": nullable(record({"device": STRING, **times})),
        "placement": nullable({"type": "object", "additionalProperties": STRING}),
        "start_s": nullable(by_node),
        "candidates": array(record({
            "algorithm": STRING, "value_s": NUMBER, "feasible": BOOLEAN,
            "reason": nullable(STRING)})),
        "explanation": array(STRING)}
    return {"$schema": DIALECT, "title": COST_GRAPH_PLAN, **record(fields)}


if __name__ == "__main__":
    write(files(client_schemas()))
