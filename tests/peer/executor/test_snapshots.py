"""Snapshots of a segment at work: the file, whose it is, and going on from it."""

import errno
import queue
import threading
from dataclasses import replace

import numpy as np
import pytest

from homespun.errors import Code, HomespunError
from homespun.tensor_file import map_tensors, metadata_in, pack, unpack
from ir.segment import ResultTensor
from peer.core.events import Task, TaskKind
from peer.core.phases import Mode
from peer.executor import snapshot_writer
from peer.executor.messages import SnapshotNotWritten, SnapshotWritten, TakeSnapshot
from peer.executor.registry import create
from peer.executor.snapshot_file import (
    Owner,
    join_snapshots,
    read_snapshot,
    write_parameters,
    write_snapshot,
)
from peer.executor.snapshot_writer import SnapshotWriter
from peer.executor.work import SegmentWork
from peer.frames import Kind, tensor_frame

OWNER = Owner(segment=3, program="ab")
STATE = {"parameter/w": np.arange(6, dtype=np.float32).reshape(2, 3),
         "optimizer/w/step": np.float32(7).reshape(()), "parameter/empty": np.zeros((0, 2), bool)}


def task(kind, step, microbatch=0, mode=Mode.TRAIN, scale=1.0):
    return Task(kind=kind, mode=mode, step=step, microbatch=microbatch, scale=scale)


def gradient(step, microbatch):
    draws = np.random.default_rng([step, microbatch])
    array = draws.standard_normal((2, 4)).astype(np.float32)
    return tensor_frame(Kind.GRADIENT, array, edge=0, source=1, step=step, microbatch=microbatch)


def train(work, step):
    """One step of the first segment; what it sent."""
    sent = []
    for microbatch in range(2):
        sent += work.run(task(TaskKind.FORWARD, step, microbatch)).frames
        work.receive(gradient(step, microbatch))
        work.run(task(TaskKind.BACKWARD, step, microbatch))
    work.run(task(TaskKind.MEASURE, step))
    work.run(task(TaskKind.UPDATE, step))
    return [bytes(frame.payload) for frame in sent]


def test_a_file_says_whose_it_is(tmp_path):
    path = tmp_path / "folder" / "snapshot"
    size = write_snapshot(path, OWNER, 5, STATE)
    assert size == path.stat().st_size
    assert metadata_in(path) == {"segment": "3", "program": "ab", "position": "5"}
    found = read_snapshot(path, OWNER, 5)
    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in found.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in STATE.items()}
    assert [file.name for file in path.parent.iterdir()] == ["snapshot"]


@pytest.mark.parametrize(("owner", "position", "field"), [
    (OWNER, 6, "position"), (replace(OWNER, segment=2), 5, "segment"),
    (replace(OWNER, program="cd"), 5, "program")])
def test_a_wrong_file_is_refused(tmp_path, owner, position, field):
    write_snapshot(tmp_path / "snapshot", OWNER, 5, STATE)
    with pytest.raises(HomespunError) as caught:
        read_snapshot(tmp_path / "snapshot", owner, position)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.details["field"] == field


@pytest.mark.parametrize("data", [pack(STATE), b"", b"\xff" * 50])
def test_no_snapshot_is_refused(tmp_path, data):
    (tmp_path / "snapshot").write_bytes(data)
    with pytest.raises(HomespunError):
        read_snapshot(tmp_path / "snapshot", OWNER, 5)


def test_a_full_disk_leaves_the_older_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "snapshot"
    write_snapshot(path, OWNER, 5, STATE)
    before = path.read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    answers = queue.Queue()
    writer = SnapshotWriter(answers.put)
    writer.take(TakeSnapshot(path=str(path), position=6), OWNER, lambda position: STATE)
    answer = answers.get()
    assert isinstance(answer, SnapshotNotWritten)
    assert (answer.position, answer.code) == (6, Code.DISK_FULL)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def test_a_state_that_cannot_be_copied_is_said(tmp_path):
    answers = queue.Queue()

    def copy(position):
        raise MemoryError

    SnapshotWriter(answers.put).take(
        TakeSnapshot(path=str(tmp_path / "snapshot"), position=6), OWNER, copy)
    assert answers.get().code == Code.OUT_OF_MEMORY


def test_one_is_written_at_a_time(tmp_path, monkeypatch):
    """The second one is not even copied before the first one is on the disk."""
    may_write, events = threading.Event(), []

    def write(path, owner, position, tensors):
        may_write.wait()
        events.append(f"wrote {position}")
        return 0

    def copy(position):
        events.append(f"copied {position}")
        return STATE

    monkeypatch.setattr(snapshot_writer, "write_snapshot", write)
    writer = SnapshotWriter(lambda answer: None)
    writer.take(TakeSnapshot(path="a", position=1), OWNER, copy)
    second = threading.Thread(
        target=writer.take, args=(TakeSnapshot(path="b", position=2), OWNER, copy))
    second.start()
    assert events == ["copied 1"]
    may_write.set()
    second.join()
    writer.wait()
    assert events == ["copied 1", "wrote 1", "copied 2", "wrote 2"]


def test_a_state_is_joined_by_the_names_of_parameters(tmp_path):
    other = {"parameter/v": np.ones(2, np.float32), "optimizer/v/step": np.float32(3).reshape(()),
             "parameter/a/b": np.zeros(1, np.float32),
             "optimizer/a/b/step": np.float32(4).reshape(())}
    write_snapshot(tmp_path / "one", OWNER, 5, STATE)
    write_snapshot(tmp_path / "other", replace(OWNER, segment=4), 5, other)
    paths = [tmp_path / "one", tmp_path / "other"]
    found = join_snapshots(paths, ["w", "a/b"], 5)
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in (STATE | other).items()
        if name.split("/", 1)[1].startswith(("w", "a/b"))}
    assert join_snapshots(paths, [], 5) == {}
    with pytest.raises(HomespunError) as caught:
        join_snapshots(paths, ["w"], 6)
    assert caught.value.details["field"] == "position"
    with pytest.raises(HomespunError) as caught:
        join_snapshots([*paths, tmp_path / "one"], ["v", "w"], 5)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_segment_goes_on_from_what_others_had(load, tmp_path):
    """A whole state, of which another file has the rest; what lacks something is refused."""
    runtime = create("torch", "cpu", 1)
    first, second = SegmentWork(load(0), runtime), SegmentWork(load(1), runtime)
    for step in range(2):
        train(first, step)
    write_snapshot(tmp_path / "first", first.owner, 2, first.state(2))
    write_snapshot(tmp_path / "second", second.owner, 2, second.state(0))
    then = train(first, 2)
    again = SegmentWork(load(0), runtime)
    with pytest.raises(HomespunError) as caught:
        again.restore_joined([tmp_path / "second"], 2)
    assert caught.value.code is Code.INVALID_ARGUMENT
    again.restore_joined([tmp_path / "second", tmp_path / "first"], 2)
    assert train(again, 2) == then


@pytest.mark.parametrize("executor", ["torch", "jax"])
def test_training_goes_on_from_a_file(load, tmp_path, executor):
    runtime, answers = create(executor, "cpu", 1), queue.Queue()
    work = SegmentWork(load(0), runtime)
    for step in range(2):
        train(work, step)
    writer = SnapshotWriter(answers.put)
    writer.take(TakeSnapshot(path=str(tmp_path / "2"), position=2), work.owner, work.state)
    then = train(work, 2)
    written = answers.get()
    assert isinstance(written, SnapshotWritten)
    assert written.size_bytes == (tmp_path / "2").stat().st_size
    again = SegmentWork(load(0), runtime)
    assert again.owner == work.owner
    assert again.restore(tmp_path / "2", 2) == ()
    assert train(again, 2) == then
    work.export()
    again.export()
    assert map_tensors(tmp_path / "out 0").keys() == {"w0"}


def test_a_snapshot_of_another_segment_or_position_changes_nothing(load, tmp_path):
    runtime = create("null", "cpu", 1)
    work, other = SegmentWork(load(0), runtime), SegmentWork(load(1), runtime)
    write_snapshot(tmp_path / "snapshot", other.owner, 1, other.state(0))
    with pytest.raises(HomespunError):
        work.restore(tmp_path / "snapshot", 1)
    with pytest.raises(HomespunError) as caught:
        work.state(1)
    assert caught.value.code is Code.INTERNAL
    assert work.state(0).keys() == {"parameter/w0"}


def infer(load, results=True):
    request = load(0)
    (leaving,) = request.segment.outgoing
    given = (ResultTensor(name=leaving.value, type=leaving.type),) if results else ()
    segment = replace(request.segment, outgoing=(), results=given)
    column = replace(request.columns[0], split="predict")
    return replace(request, kind="infer", rows=7, segment=segment, columns=(column,), trainable=())


def predict(work, microbatches):
    for microbatch in microbatches:
        work.run(task(TaskKind.FORWARD, 0, microbatch, Mode.INFER))


@pytest.mark.parametrize("position", [0, 1, 3, 4])
def test_predicting_goes_on_from_a_file(load, tmp_path, position):
    request, runtime = infer(load), create("torch", "cpu", 1)
    name = request.segment.results[0].name
    work = SegmentWork(request, runtime)
    predict(work, range(4))
    write_snapshot(tmp_path / "snapshot", work.owner, position, work.state(position))
    assert len(map_tensors(tmp_path / "snapshot")[name]) == min(2 * position, 7)
    work.export()
    whole = (tmp_path / "out 0").read_bytes()
    again = SegmentWork(request, runtime)
    assert again.restore(tmp_path / "snapshot", position) == ()
    predict(again, range(position, 4))
    again.export()
    assert (tmp_path / "out 0").read_bytes() == whole
    with pytest.raises(HomespunError):
        again.state(5)
    for used in (work, again):
        used.close()


def test_predicting_without_results_has_no_state(load, tmp_path):
    work = SegmentWork(infer(load, results=False), create("null", "cpu", 1))
    predict(work, range(2))
    assert work.state(2) == {}
    write_snapshot(tmp_path / "snapshot", work.owner, 2, {})
    work.restore(tmp_path / "snapshot", 2)
    work.close()


def test_the_home_of_a_tied_parameter_sends_it_again(tmp_path, load):
    """Who starts again with it from the same position has nobody else to get it from."""
    request = load(0)
    (leaving,) = request.segment.outgoing
    shared = replace(
        leaving, edge=9, value="w0", kind="parameter", type=replace(leaving.type, shape=(4, 4)))
    request = replace(
        request, segment=replace(request.segment, outgoing=(leaving, shared)))
    work = SegmentWork(request, create("null", "cpu", 1))
    write_snapshot(tmp_path / "snapshot", work.owner, 2, work.state(0))
    (frame,) = work.restore(tmp_path / "snapshot", 2)
    assert (frame.kind, frame.edge, frame.step, frame.mode) == (Kind.PARAMETER, 9, 2, Mode.TRAIN)
    assert (frame.target, frame.microbatch) == (1, 0)


def test_the_parameters_of_a_snapshot_are_written_as_a_result_has_them(tmp_path):
    state = {
        "parameter/block.0/weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "parameter/scale": np.array(2.5, dtype=np.float32),
        "optimizer/block.0/weight/exp_avg": np.zeros((2, 3), dtype=np.float32)}
    write_snapshot(tmp_path / "snapshot", OWNER, 5, state)
    write_parameters(tmp_path / "piece", tmp_path / "snapshot", 5)
    found = unpack((tmp_path / "piece").read_bytes(), "piece")
    assert found.keys() == {"block.0/weight", "scale"}
    assert all(np.array_equal(found[name], state[f"parameter/{name}"]) for name in found)
    with pytest.raises(HomespunError, match="position 5"):
        write_parameters(tmp_path / "piece", tmp_path / "snapshot", 4)
