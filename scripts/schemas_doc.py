"""Write docs/schemas/*.json: what each `--json` of the `broker` command prints, as JSON Schema.

`client_schemas_doc.py` does it for `homespun`, `peer_schemas_doc.py` for `peer`. The shapes come
from what is printed: protobuf descriptors, `JobStatus`, and tables below for what a command puts
together itself. Within one `schema_version` fields are only added, so a schema names
all that there are and forbids no others.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

SCHEMAS = ROOT / "docs" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": ["number", "null"]}
"""Null stands for a number that is not finite."""
LONG: Schema = {"type": "string", "pattern": "^-?[0-9]+$"}
"""A 64-bit integer of protobuf's JSON, which puts them into strings."""

EVENT = {"number": INTEGER, "unix_ms": INTEGER, "subject": STRING, "kind": STRING, "text": STRING}
ACTION = {
    "number": INTEGER, "unix_ms": INTEGER, "by": STRING, "action": STRING, "subject": STRING,
    "details": STRING, "reason": STRING, "refusal": STRING}
SPAN = {
    "segment": INTEGER, "peer_id": STRING, "peer_name": STRING, "token": INTEGER,
    "position": INTEGER, "assigned_unix_ms": INTEGER, "running_unix_ms": INTEGER,
    "ended_unix_ms": INTEGER, "end": STRING, "reason": STRING}
COPY = {
    "file": STRING, "size_bytes": INTEGER, "network_id": STRING, "copied_unix_ms": INTEGER,
    "events": INTEGER, "digest": STRING}
COUNTS: Schema = {"type": "object", "additionalProperties": INTEGER}
"""Name -> how many."""
KEY = {
    "key_id": STRING, "role": STRING, "reusable": BOOLEAN, "needs_admission": BOOLEAN,
    "expires_unix_ms": INTEGER}

MEMBER = {
    "member_id": STRING, "name": STRING, "label": STRING, "role": STRING, "state": STRING,
    "standing": STRING, "ban_reason": STRING, "joined_unix_ms": INTEGER,
    "last_seen_unix_ms": INTEGER, "certificate_expires_unix_ms": INTEGER,
    "unfinished_jobs": INTEGER, "key_id": STRING}


def schemas() -> dict[str, Schema]:
    """Name of a document -> its schema."""
    from broker.settings import BrokerSettings
    from homespun.explanation import Explanation
    from homespun.status import JobMetrics, JobStatus
    from homespun.v1 import operator_pb2

    peer = of_message(operator_pb2.PeerStatus.DESCRIPTOR)
    backup = of_message(operator_pb2.BackupPeer.DESCRIPTOR)
    segment = {
        "job_id": STRING, "segment": INTEGER, "peer": backup, "position": INTEGER,
        "position_unix_ms": INTEGER, "latest_position": INTEGER, "holders": array(backup),
        "standbys": array(backup), "gap": STRING}
    job = of_type(JobStatus)
    fields: dict[str, Mapping[str, Schema]] = {
        "audit": {"entries": array(record(ACTION))},
        "backups": {"segments": array(record(segment))},
        "console_link": {"url": STRING, "role": STRING, "expires_unix_ms": INTEGER},
        "done": {"action": STRING, "subject": STRING},
        "event": EVENT,
        "explanation": {"explanation": of_type(Explanation)},
        "job": {"job": job, "metrics": of_type(JobMetrics)},
        "jobs": {"jobs": array(job)},
        "journal_copy": COPY,
        "journal_restored": {**COPY, "is_replaced": BOOLEAN, "unfinished_jobs": array(STRING),
                             "kept": STRING},
        "key": {"key": STRING, **KEY},
        "keys": {"keys": array(record({**KEY, "uses": INTEGER, "revoked": BOOLEAN}))},
        "members": {"members": array(record(MEMBER))},
        "network": {"network_id": STRING, "directory": STRING, "address": STRING,
                    "enrolment_port": INTEGER},
        "peer": {"peer": peer},
        "peer_details": {
            "peer": peer, "idle": array(STRING), "linked": array(backup),
            "events": array(record(EVENT))},
        "placement": {
            "jobs": array(of_message(operator_pb2.PlacedJob.DESCRIPTOR)), "free": array(backup)},
        "settings": {"settings": of_type(BrokerSettings), "protocol_version": INTEGER},
        "peers": {"peers": array(peer),
                  "newcomers": array(of_message(operator_pb2.Newcomer.DESCRIPTOR))},
        "top": {
            "unix_ms": INTEGER, "peers": COUNTS, "waiting_to_be_admitted": INTEGER,
            "free": INTEGER, "memory_bytes": INTEGER, "matmul_flops_per_s": NUMBER,
            "jobs": COUNTS, "unfinished": array(record({
                "job_id": STRING, "name": STRING, "state": STRING, "kind": STRING,
                "steps_done": INTEGER, "steps_total": INTEGER, "last_loss": NUMBER,
                "segments": INTEGER, "reason": STRING})),
            "gaps": array(record({"job_id": STRING, "segment": INTEGER, "gap": STRING})),
            "events": array(record(EVENT))},
        "timeline": {
            "job_id": STRING, "state": STRING, "submitted_unix_ms": INTEGER,
            "finished_unix_ms": INTEGER, "spans": array(record(SPAN)),
            "events": array(record(EVENT))},
    }
    # Metrics are there when they are asked for: `homespun job --metrics`.
    return {name: document(name, some, frozenset({"metrics"})) for name, some in fields.items()}


def document(
    name: str, fields: Mapping[str, Schema], optional: frozenset[str] = frozenset()
) -> Schema:
    """The schema of a whole document, which names itself."""
    head: dict[str, Schema] = {"schema": {"const": name}, "schema_version": {"const": 1}}
    return {"$schema": DIALECT, "title": name, **record({**head, **fields}, optional)}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    return {"anyOf": [{"type": "null"}, schema]}


def record(fields: Mapping[str, Schema], optional: frozenset[str] = frozenset()) -> Schema:
    """An object with these fields; all are there but for the optional ones."""
    return {"type": "object", "properties": dict(fields),
            "required": [name for name in fields if name not in optional]}


def array(items: Schema) -> Schema:
    """A list of such things."""
    return {"type": "array", "items": items}


def of_message(descriptor: Any) -> Schema:
    """What protobuf's JSON of a message looks like, with every field that has no presence."""
    fields = {field.name: _of_field(field) for field in descriptor.fields}
    optional = frozenset(field.name for field in descriptor.fields if field.has_presence)
    return record(fields, optional)


def _of_field(field: Any) -> Schema:
    kinds = {
        field.TYPE_INT64: LONG, field.TYPE_UINT64: LONG, field.TYPE_BOOL: BOOLEAN,
        field.TYPE_STRING: STRING, field.TYPE_BYTES: STRING, field.TYPE_DOUBLE: NUMBER,
        field.TYPE_FLOAT: NUMBER, field.TYPE_INT32: INTEGER, field.TYPE_UINT32: INTEGER}
    one = of_message(field.message_type) if field.message_type else kinds[field.type]
    return array(one) if field.is_repeated else one


def of_type(kind: Any) -> Schema:
    """What `dataclasses.asdict` of a type gives, as JSON."""
    plain = {str: STRING, int: INTEGER, float: NUMBER, bool: BOOLEAN}
    if kind in plain:
        return plain[kind]
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return record({field.name: of_type(hints[field.name])
                       for field in dataclasses.fields(kind)})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and arguments[1:] == (...,):
        return array(of_type(arguments[0]))
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [{"type": "null"} if one is type(None) else of_type(one)
                          for one in arguments]}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": of_type(arguments[1])}
    raise TypeError(f"no schema for {kind}")


def files(documents: Mapping[str, Schema]) -> dict[str, str]:
    """File name -> text of each document; in its name `/` becomes `.`, as in `homespun.plan.1`."""
    return {f"{name.replace('/', '.')}.json": json.dumps(schema, indent=2) + "\n"
            for name, schema in documents.items()}


def write(texts: Mapping[str, str]) -> None:
    """Write files into docs/schemas."""
    SCHEMAS.mkdir(exist_ok=True)
    for name, text in texts.items():
        (SCHEMAS / name).write_text(text, encoding="utf-8")
        print(SCHEMAS / name)


if __name__ == "__main__":
    write(files(schemas()))
