"""Which frames a neighbour may send: decided from the header alone."""

import dataclasses

import numpy as np
import pytest

from homespun.errors import Code, HomespunError
from ir.graph import TensorType
from ir.segment import BoundaryKind, BoundaryTensor, Segment
from peer.core.events import Member
from peer.frames import Kind, opaque_frame, tensor_frame
from peer.routes import NUMBERS_BYTES_MAX, Routes

MEMBERS = tuple(
    Member(segment=n, peer_id=f"peer_{n}", token=n, tensor_address="h:1") for n in range(3))


def boundary(edge, source, target, kind=BoundaryKind.ACTIVATION, contributions=1):
    return BoundaryTensor(
        edge=edge, value=f"v{edge}", kind=kind, source=source, target=target,
        type=TensorType("float32", (2, 3)), differentiable=True, consumers=(1,),
        contributions=contributions)


MIDDLE = Segment(
    index=1, nodes=(1,), parameters=(), data_inputs=(), has_loss=False,
    incoming=(boundary(0, 0, 1), boundary(2, 0, 1, BoundaryKind.PARAMETER)),
    outgoing=(boundary(1, 1, 2, contributions=2),))
ROUTES = Routes(MIDDLE, MEMBERS)
LEAD = Routes(dataclasses.replace(MIDDLE, index=0, incoming=(), outgoing=()), MEMBERS)


def tensor(kind, edge, source, shape=(2, 3), dtype="float32", target=1):
    return tensor_frame(kind, np.zeros(shape, dtype), edge=edge, source=source, target=target)


def refusal(sender, frame, routes=ROUTES):
    with pytest.raises(HomespunError) as caught:
        routes.payload_limit(sender, frame)
    assert sender in caught.value.message
    return caught.value.code


@pytest.mark.parametrize(("sender", "frame", "limit"), [
    ("peer_0", tensor(Kind.ACTIVATION, 0, 0), 24),
    ("peer_0", tensor(Kind.PARAMETER, 2, 0), 24),
    ("peer_2", tensor(Kind.GRADIENT, 1, 2, (2, 2, 3)), 48),
    ("peer_2", opaque_frame(Kind.ACKNOWLEDGE, edge=1, source=2, target=1), 0),
    ("peer_0", opaque_frame(Kind.SCALE, b"x", source=0, target=1), NUMBERS_BYTES_MAX),
])
def test_what_the_plan_says_is_accepted(sender, frame, limit):
    assert ROUTES.payload_limit(sender, frame) == limit


@pytest.mark.parametrize(("sender", "frame"), [
    ("peer_2", tensor(Kind.ACTIVATION, 0, 0)),
    ("peer_0", tensor(Kind.ACTIVATION, 0, 2)),
    ("peer_0", tensor(Kind.ACTIVATION, 1, 0)),
    ("peer_0", tensor(Kind.ACTIVATION, 0, 0, target=0)),
    ("peer_0", tensor(Kind.GRADIENT, 0, 0)),
    ("peer_0", tensor(Kind.PARAMETER, 0, 0)),
    ("peer_9", tensor(Kind.ACTIVATION, 0, 0)),
    ("peer_2", opaque_frame(Kind.SCALE, b"x", source=2, target=1)),
    ("peer_2", opaque_frame(Kind.SCALE, b"x", source=0, target=1)),
    ("peer_0", opaque_frame(Kind.NORMS, b"x", source=0, target=1)),
    ("peer_0", opaque_frame(Kind.CONTROL, b"x", source=0, target=1)),
])
def test_what_the_plan_does_not_say_is_refused(sender, frame):
    assert refusal(sender, frame) is Code.NOT_ALLOWED


@pytest.mark.parametrize("frame", [
    tensor(Kind.ACTIVATION, 0, 0, (3, 2)),
    tensor(Kind.ACTIVATION, 0, 0, (2, 2)),
    tensor(Kind.ACTIVATION, 0, 0, (2, 3), "int32"),
    tensor(Kind.ACTIVATION, 0, 0, (1_000, 1_000)),
    opaque_frame(Kind.ACTIVATION, bytes(24), edge=0, source=0, target=1),
], ids=lambda frame: f"{frame.dtype or 'opaque'} {frame.shape}")
def test_a_tensor_of_another_type_is_refused_before_its_payload_is_read(frame):
    header = dataclasses.replace(frame, payload=b"")
    assert refusal("peer_0", header) is Code.INVALID_ARGUMENT


def test_unsummed_gradients_have_a_slice_per_consumer():
    assert refusal("peer_2", tensor(Kind.GRADIENT, 1, 2)) is Code.INVALID_ARGUMENT


def test_norms_are_for_the_lead_alone():
    norms = opaque_frame(Kind.NORMS, b"x", source=2, target=0)
    assert LEAD.payload_limit("peer_2", norms) == NUMBERS_BYTES_MAX
    assert refusal("peer_1", norms, LEAD) is Code.NOT_ALLOWED


def test_neighbours_are_those_of_the_plan_and_the_lead_when_norms_are_summed():
    last = Routes(dataclasses.replace(
        MIDDLE, index=2, incoming=(boundary(1, 1, 2),), outgoing=()), MEMBERS)
    assert [m.segment for m in last.neighbours(with_lead=False)] == [1]
    assert [m.segment for m in last.neighbours(with_lead=True)] == [0, 1]
    assert [m.segment for m in LEAD.neighbours(with_lead=True)] == [1, 2]
    assert LEAD.neighbours(with_lead=False) == ()
