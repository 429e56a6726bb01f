"""Dataclass to message and back, for every pair that crosses the wire as a whole."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from broker.core.commands import Member
from broker.core.events import HeldLease
from dag.job import JobSpec, OptimizerSpec, ParameterRef, TrainingSpec
from dag.placement import Refusal
from homespun.errors import Code, HomespunError
from homespun.status import JobMetrics, JobStatus, JobUpdate
from homespun.v1 import job_pb2, jobs_pb2, session_pb2
from homespun.wire import check_pair, from_message, to_message
from ir.graph import TensorType
from ir.segment import BoundaryKind, BoundaryTensor, Segment
from peer.core.events import SnapshotPart, SnapshotSource

PAIRS = [
    (JobSpec, job_pb2.JobSpec), (Segment, job_pb2.Segment), (Refusal, job_pb2.Refusal),
    (HeldLease, session_pb2.HeldLease), (Member, session_pb2.Neighbour),
    (ParameterRef, job_pb2.ParameterRef), (JobStatus, jobs_pb2.JobStatus),
    (JobMetrics, jobs_pb2.JobMetrics), (JobUpdate, jobs_pb2.JobUpdate),
]
_SCALARS = {
    int: st.integers(0, 2**63 - 1), bool: st.booleans(), float: st.floats(allow_nan=False),
    str: st.text(st.characters(codec="utf-8"), max_size=8), bytes: st.binary(max_size=8),
}


def values(hint):
    """Any value of a type that may travel."""
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0]), max_size=3).map(tuple)
    if get_origin(hint) is UnionType:
        return st.one_of(*(values(each) for each in get_args(hint)))
    if hint is NoneType:
        return st.none()
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(hint, **{f.name: values(hints[f.name]) for f in fields(hint)})
    return st.sampled_from(hint) if issubclass(hint, StrEnum) else _SCALARS[hint]


@pytest.mark.parametrize(("data", "message"), PAIRS, ids=lambda c: c.__name__)
def test_both_sides_have_the_same_fields(data, message):
    check_pair(data, message)


@given(st.sampled_from(PAIRS).flatmap(lambda pair: st.tuples(values(pair[0]), st.just(pair[1]))))
def test_a_value_survives_the_wire(pair):
    value, message_class = pair
    raw = to_message(value, message_class).SerializeToString()
    assert from_message(message_class.FromString(raw), type(value)) == value


@given(st.sampled_from(PAIRS), st.binary(max_size=200))
def test_random_bytes_give_a_value_or_an_error(pair, raw):
    data, message_class = pair
    try:
        message = message_class.FromString(raw)
    except DecodeError:
        return
    problem = None
    try:
        assert isinstance(from_message(message, data), data)
    except HomespunError as error:
        problem = error.code
    assert problem in (None, Code.INVALID_ARGUMENT)


def spec():
    return JobSpec(
        name="j", graph_digest="", graph_bytes=1, columns=(), parameters=(ParameterRef(
            name="w", aliases=(), digest="", blob_bytes=1, type=TensorType("float32", (2, 3)),
            trainable=True),),
        training=TrainingSpec(
            steps=1, batch_size=1, microbatches=1, seed=2**64 - 1,
            optimizer=OptimizerSpec(kind="sgd", learning_rate=1)))


def segment():
    return Segment(
        index=0, nodes=(1,), parameters=(), data_inputs=(), outgoing=(), has_loss=False,
        incoming=(BoundaryTensor(
            edge=0, value="v", kind=BoundaryKind.PARAMETER, source=0, target=1,
            type=TensorType("float32", ()), differentiable=True, consumers=(1,)),))


def refused(function, *arguments):
    with pytest.raises(HomespunError) as caught:
        function(*arguments)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.details["field"]


def test_unknown_enumeration_text_names_the_field():
    message = to_message(segment(), job_pb2.Segment)
    message.incoming[0].kind = "teleport"
    assert refused(from_message, message, Segment) == "Segment.incoming[0].kind"


def test_a_missing_message_names_the_field():
    message = to_message(spec(), job_pb2.JobSpec)
    message.training.ClearField("optimizer")
    assert refused(from_message, message, JobSpec) == "JobSpec.training.optimizer"
    message.ClearField("training")
    assert refused(from_message, message, JobSpec) == "JobSpec.training"


@pytest.mark.parametrize(("changes", "path"), [
    ({"graph_bytes": 2**63}, "JobSpec.graph_bytes"),
    ({"graph_bytes": "1"}, "JobSpec.graph_bytes"),
    ({"graph_bytes": True}, "JobSpec.graph_bytes"),
    ({"graph_bytes": 1.5}, "JobSpec.graph_bytes"),
    ({"name": 3}, "JobSpec.name"),
    ({"name": "\ud800"}, "JobSpec.name"),
    ({"columns": []}, "JobSpec.columns"),
    ({"columns": (1,)}, "JobSpec.columns[0]"),
    ({"training": None}, "JobSpec.training"),
])
def test_a_value_of_the_wrong_type_names_the_field(changes, path):
    assert refused(to_message, replace(spec(), **changes), job_pb2.JobSpec) == path


def test_a_wrong_value_deep_inside_names_the_whole_path():
    wrong = replace(spec(), parameters=(
        replace(spec().parameters[0], type=TensorType("float32", (1, "x"))),))
    assert refused(to_message, wrong, job_pb2.JobSpec) == "JobSpec.parameters[0].type.shape"


def test_a_whole_number_serves_as_a_float():
    assert to_message(spec(), job_pb2.JobSpec).training.optimizer.learning_rate == 1.0


@dataclass(frozen=True)
class Fewer:
    subject: str


@dataclass(frozen=True)
class OtherType:
    subject: str
    rule: int
    wanted: float
    had: float
    text: str


@dataclass(frozen=True)
class NotRepeated:
    dtype: str
    shape: int


@dataclass(frozen=True)
class Unsupported:
    dtype: str
    shape: list[int]


@pytest.mark.parametrize(("data", "message"), [
    (Fewer, job_pb2.Refusal), (OtherType, job_pb2.Refusal), (NotRepeated, job_pb2.TensorType),
    (Unsupported, job_pb2.TensorType), (int, job_pb2.TensorType)])
def test_classes_that_differ_are_a_defect(data, message):
    with pytest.raises(TypeError):
        check_pair(data, message)
    with pytest.raises(TypeError):
        from_message(message(), data)


@dataclass(frozen=True)
class Assignment:
    """A shape with a message that may be absent."""

    job_id: str
    token: int
    spec: JobSpec | None
    segment: Segment | None
    in_flight: int
    segments: int
    stall_timeout_ms: int
    position: int
    snapshot: SnapshotSource | None
    parts: tuple[SnapshotPart, ...]
    first_serial: int


def test_an_absent_message_is_none():
    value = Assignment("job_1", 1, None, segment(), 1, 1, 1, 0, None, (), 0)
    message = to_message(value, session_pb2.AssignSegment)
    assert not message.HasField("spec")
    assert not message.HasField("snapshot")
    assert from_message(message, Assignment) == value


def test_what_a_message_of_before_lacks_takes_its_default():
    message = to_message(replace(spec(), kind="infer"), job_pb2.JobSpec)
    assert from_message(message, JobSpec).kind == "infer"
    message.ClearField("kind")
    assert from_message(message, JobSpec) == spec()
    assert spec().kind == "train"
