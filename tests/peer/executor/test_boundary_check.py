"""What is not finite is found before it is used or sent, and the right segment is named."""

import math

import numpy as np
import pytest

from homespun.errors import Code, HomespunError
from peer.core.events import Task, TaskKind
from peer.core.phases import Mode
from peer.executor.boundary_check import blamed_segment
from peer.executor.registry import create
from peer.executor.snapshot_file import write_snapshot
from peer.executor.work import SegmentWork
from peer.frames import Kind, tensor_frame


@pytest.fixture
def works(load):
    """Both segments of the tiny job."""
    runtime = create("torch", "cpu", 1)
    return [SegmentWork(load(index), runtime) for index in range(2)]


def task(kind, **fields):
    return Task(kind=kind, mode=Mode.TRAIN, step=0, **fields)


def give(work, kind, source, value, dtype=np.float32, shape=(2, 4)):
    array = np.zeros(shape, dtype)
    array[-1, -1] = value
    work.receive(tensor_frame(kind, array, edge=0, source=source))


def refused(work, task):
    with pytest.raises(HomespunError) as caught:
        work.run(task)
    return caught.value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_arrives_is_refused_and_its_sender_named(works, value):
    first, second = works
    give(second, Kind.ACTIVATION, 0, value)
    error = refused(second, task(TaskKind.FORWARD))
    assert (error.code, blamed_segment(error)) == (Code.NOT_FINITE, 0)
    assert "(edge 0, train step 0, microbatch 0) came from segment 0" in error.message
    assert f"{value} at [1, 3]" in error.message
    before = first.state(0)
    first.run(task(TaskKind.FORWARD))
    give(first, Kind.GRADIENT, 1, value)
    error = refused(first, task(TaskKind.BACKWARD))
    assert (error.code, blamed_segment(error)) == (Code.NOT_FINITE, 1)
    first.export()
    assert before["parameter/w0"].tobytes() == first._loaded.parameters()["w0"].tobytes()


def test_another_type_than_planned_names_its_sender(works):
    _, second = works
    give(second, Kind.ACTIVATION, 0, 1.0, np.float64)
    error = refused(second, task(TaskKind.FORWARD))
    assert (error.code, blamed_segment(error)) == (Code.INVALID_ARGUMENT, 0)


def test_what_a_segment_makes_itself_blames_nobody(works, tmp_path):
    first, _ = works
    state = {"parameter/w0": np.full((4, 4), math.inf, np.float32)}
    write_snapshot(tmp_path / "snapshot", first.owner, 1, state)
    first.restore(tmp_path / "snapshot", 1)
    error = refused(first, Task(kind=TaskKind.FORWARD, mode=Mode.TRAIN, step=1))
    assert (error.code, blamed_segment(error)) == (Code.LOSS_NOT_FINITE, -1)
    assert "came out of segment 0" in error.message


def test_other_errors_blame_nobody():
    assert blamed_segment(ValueError()) == -1
    assert blamed_segment(HomespunError(Code.INTERNAL, "")) == -1
