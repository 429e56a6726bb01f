"""A real executor process: snapshots beside tasks, and another segment after the first one."""

import subprocess
import sys

import pytest

from dag.cluster import PeerRates
from homespun.blobs.store import BlobStore
from homespun.errors import Code
from peer.blob_cache import BlobCache
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
    TakeSnapshot,
    decode,
)
from peer.executor.pipe import control_frame, read_frame, write_frame
from peer.frames import Kind
from peer.lease_fetch import load_request

RATES = PeerRates(matmul_flops_per_s=1e12, attention_flops_per_s=1e12, memory_bytes_per_s=1e11)


class Child:
    """An executor process, asked and read without a daemon."""

    def __init__(self):
        command = [sys.executable, "-P", "-m", "peer.executor.child", "--executor", "null",
                   "--device", "cpu", "--threads", "1"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

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


@pytest.fixture
def load(tiny, tmp_path):
    store = BlobStore(tmp_path / "blobs")
    for data in tiny.blobs.values():
        store.put(data)
    return lambda index: load_request(
        tiny.spec, tiny.segments[index], BlobCache(store, 0), tmp_path / f"out {index}", RATES)


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
