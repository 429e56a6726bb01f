"""A real executor process: snapshots beside tasks, and another segment after the first one."""

import subprocess
import sys

import numpy as np
import pytest

from homespun.errors import Code
from peer.core.events import Task, TaskKind
from peer.core.phases import Mode
from peer.executor.messages import (
    Done,
    Failed,
    Loaded,
    Restore,
    Restored,
    Run,
    SnapshotNotWritten,
    SnapshotWritten,
    Started,
    TakeSnapshot,
    decode,
)
from peer.executor.pipe import control_frame, read_frame, write_frame
from peer.frames import Kind, tensor_frame


class Child:
    """An executor process, asked and read without a daemon."""

    def __init__(self):
        command = [sys.executable, "-P", "-m", "peer.executor.child", "--executor", "null",
                   "--device", "cpu", "--threads", "1"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.messages(1) == [Started()], "before anybody asks for anything"

    def ask(self, message):
        write_frame(self.process.stdin, control_frame(message))

    def messages(self, count):
        """The next messages, without the tensors between them."""
        found = []
        while len(found) < count:
            frame, payload = read_frame(self.process.stdout)
            if frame.kind is Kind.CONTROL:
                found.append(decode(payload))
        return found

    def answer(self, message):
        self.ask(message)
        return self.messages(1)[0]


@pytest.fixture
def child():
    child = Child()
    yield child
    child.process.stdin.close()
    child.process.wait()
    child.process.stdout.close()


def forward(microbatch):
    return Run(task=Task(
        kind=TaskKind.FORWARD, mode=Mode.TRAIN, step=0, microbatch=microbatch))


def test_a_snapshot_is_written_beside_tasks_and_restored_in_another_process(child, load, tmp_path):
    path = str(tmp_path / "snapshots" / "0")
    assert isinstance(child.answer(load(0)), Loaded)
    child.ask(TakeSnapshot(path=path, position=0))
    child.ask(forward(0))
    found = {type(message): message for message in child.messages(2)}
    assert found.keys() == {SnapshotWritten, Done}
    assert found[SnapshotWritten].path == path
    # Inside a step there is none to take, and the segment goes on.
    refused = child.answer(TakeSnapshot(path=path, position=0))
    assert isinstance(refused, SnapshotNotWritten)
    assert isinstance(child.answer(forward(1)), Done)
    # Another segment in the same process, and the first one again.
    assert isinstance(child.answer(load(1)), Loaded)
    failed = child.answer(Restore(path=path, position=0))
    assert isinstance(failed, Failed)
    assert failed.code == Code.INVALID_ARGUMENT
    assert isinstance(child.answer(load(0)), Loaded)
    assert child.answer(Restore(path=path, position=0)) == Restored(position=0)
    assert isinstance(child.answer(forward(0)), Done)


def test_a_segment_that_cannot_be_loaded_leaves_none(child, load):
    assert isinstance(child.answer(load(0)), Loaded)
    broken = load(1)
    object.__setattr__(broken, "graph_path", broken.graph_path + " is gone")
    assert isinstance(child.answer(broken), Failed)
    assert isinstance(child.answer(forward(0)), Failed)
    assert isinstance(child.answer(load(0)), Loaded)


def test_who_sent_a_nan_is_named(child, load):
    assert isinstance(child.answer(load(1)), Loaded)
    nan = np.full((2, 4), np.nan, np.float32)
    write_frame(child.process.stdin, tensor_frame(Kind.ACTIVATION, nan, edge=0, source=0))
    failed = child.answer(forward(0))
    assert (failed.code, failed.blamed_segment) == (Code.NOT_FINITE, 0)
