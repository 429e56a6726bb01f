"""Real child processes with the null executor."""

import asyncio
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import psutil
import pytest

from dag.cluster import PeerRates
from homespun.blobs.store import BlobStore
from homespun.errors import HomespunError
from homespun.tensor_file import map_tensor
from ir.segment import ResultTensor
from peer.blob_cache import BlobCache
from peer.core.events import Task, TaskKind
from peer.core.phases import Mode
from peer.executor.messages import Done, Export, Exported, Failed, Loaded, Run
from peer.executor_process import ExecutorProcess, Listener
from peer.frames import Kind, opaque_frame
from peer.lease_fetch import load_request

DEADLINE_S = 120

RATES = PeerRates(matmul_flops_per_s=1e12, attention_flops_per_s=1e12, memory_bytes_per_s=1e11)


class Owner:
    """What a lease does with its executor, reduced to a queue."""

    def __init__(self):
        self.said = asyncio.Queue()

    async def take(self, item):
        self.said.put_nowait(item)

    async def next(self):
        return await self.said.get()


def with_process(scenario):
    async def main():
        async with asyncio.timeout(DEADLINE_S):
            owner = Owner()
            process = await ExecutorProcess.start(
                "null", "cpu", 1,
                Listener(on_frame=owner.take, on_message=owner.take, on_exit=owner.take))
            try:
                await scenario(process, owner)
            finally:
                await process.close()
            assert not psutil.pid_exists(process.pid)

    asyncio.run(main())


@pytest.fixture
def request_for(tiny, tmp_path):
    """A `Load` of the first segment."""
    store = BlobStore(tmp_path / "blobs")
    for data in tiny.blobs.values():
        store.put(data)
    return load_request(tiny.spec, tiny.segments[0], BlobCache(store, 0), tmp_path / "out", RATES)


def forward(microbatch=0):
    return Run(task=Task(
        kind=TaskKind.FORWARD, mode=Mode.TRAIN, step=0, microbatch=microbatch))


def test_a_start_that_is_over_before_it_began_is_no_endless_wait():
    async def scenario(process, owner):
        await process.started()
        await process.started()  # it stays so
        psutil.Process(process.pid).suspend()
        other = await ExecutorProcess.start("null", "cpu", 1, Listener(
            on_frame=owner.take, on_message=owner.take, on_exit=owner.take))
        waiting = asyncio.create_task(other.started())
        psutil.Process(other.pid).kill()
        with pytest.raises(HomespunError, match="ended with status"):
            await waiting
        await other.close()

    with_process(scenario)


def test_closing_ends_the_wait_for_a_start():
    async def scenario(process, owner):
        psutil.Process(process.pid).suspend()
        waiting = asyncio.create_task(process.started())
        await asyncio.sleep(0)
        await process.close()
        with pytest.raises(HomespunError, match="was ended"):
            await waiting

    with_process(scenario)


def test_a_segment_is_loaded_run_and_written(request_for, tmp_path):
    async def scenario(process, owner):
        await process.send_message(request_for)
        assert isinstance(await owner.next(), Loaded)
        await process.send_message(forward())
        frame = await owner.next()
        assert (frame.kind, frame.target, frame.shape) == (Kind.ACTIVATION, 1, (2, 4))
        assert isinstance(await owner.next(), Done)
        await process.send_message(Export())
        assert await owner.next() == Exported()
        assert (tmp_path / "out").stat().st_size > 0

    with_process(scenario)


def test_predictions_are_written_while_they_are_made(request_for, tmp_path):
    (leaving,) = request_for.segment.outgoing
    segment = replace(request_for.segment, outgoing=(), results=(
        ResultTensor(name=leaving.value, type=leaving.type),))
    column = replace(request_for.columns[0], split="predict")
    request = replace(
        request_for, kind="infer", rows=7, segment=segment, columns=(column,), trainable=())

    async def scenario(process, owner):
        await process.send_message(request)
        assert isinstance(await owner.next(), Loaded)
        for microbatch in range(4):  # of two rows
            await process.send_message(Run(task=Task(
                kind=TaskKind.FORWARD, mode=Mode.INFER, step=0, microbatch=microbatch)))
            assert isinstance(await owner.next(), Done)
        await process.send_message(Export())
        assert await owner.next() == Exported()
        assert map_tensor(tmp_path / "out", leaving.value).shape == (7, 4)

    with_process(scenario)


def test_what_fails_is_said_and_the_process_lives_on(request_for, tmp_path):
    async def scenario(process, owner):
        await process.send_message(forward())
        assert isinstance(await owner.next(), Failed)
        nowhere = replace(request_for, result_path=str(tmp_path / "no" / "such" / "folder"))
        await process.send_message(nowhere)
        assert isinstance(await owner.next(), Loaded)
        await process.send_message(Export())
        failed = await owner.next()
        assert failed.code == "EXECUTOR_FAILED"
        assert "folder" in failed.message

    with_process(scenario)


def test_a_killed_child_is_noticed():
    async def scenario(process, owner):
        psutil.Process(process.pid).kill()
        assert "status -9" in await owner.next()
        assert process.exit_status == -9

    if sys.platform != "win32":
        with_process(scenario)


def test_nonsense_on_the_pipe_ends_the_child_and_is_noticed():
    async def scenario(process, owner):
        process._process.stdin.write(b"x" * 5_000)
        await process._process.stdin.drain()
        assert "status 1" in await owner.next()

    with_process(scenario)


def test_a_frame_that_cannot_be_written_is_no_silent_stall():
    async def scenario(process, owner):
        await process.send_frame(opaque_frame(Kind.NORMS, step=-1))
        assert "writing to the executor failed" in await owner.next()
        assert process.exit_status is None, "it did not end by itself"

    with_process(scenario)


def test_a_defect_of_the_owner_is_no_silent_stall(request_for):
    async def main():
        async with asyncio.timeout(DEADLINE_S):
            owner = Owner()

            async def fail(item):
                raise RuntimeError("a defect")

            process = await ExecutorProcess.start("null", "cpu", 1, Listener(
        on_frame=fail, on_message=fail, on_exit=owner.take))
            await process.send_message(request_for)
            assert "a defect" in await owner.next()
            await process.close()

    asyncio.run(main())


def test_close_is_quick_however_much_waits():
    async def scenario(process, owner):
        psutil.Process(process.pid).suspend()
        big = opaque_frame(Kind.NORMS, bytes(1 << 20))
        sender = asyncio.create_task(fill(process, big))
        await asyncio.sleep(0.2)
        assert not sender.done()
        sender.cancel()

    async def fill(process, frame):
        for _ in range(1_000):
            await process.send_frame(frame)

    with_process(scenario)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal")
def test_an_interrupt_of_the_terminal_leaves_the_end_to_the_daemon(request_for):
    async def scenario(process, owner):
        await process.send_message(request_for)
        assert isinstance(await owner.next(), Loaded)
        psutil.Process(process.pid).send_signal(signal.SIGINT)
        psutil.Process(process.pid).send_signal(signal.SIGTERM)
        await process.send_message(forward())
        assert (await owner.next()).kind is Kind.ACTIVATION

    with_process(scenario)


DAEMON = """
import asyncio

from peer.executor_process import ExecutorProcess, Listener

async def ignore(item):
    pass

async def main():
    process = await ExecutorProcess.start("null", "cpu", 1, Listener(
        on_frame=ignore, on_message=ignore, on_exit=ignore))
    print(process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_no_child_outlives_a_daemon_that_was_killed():
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DAEMON)], stdout=subprocess.PIPE
    ) as daemon:
        child = psutil.Process(int(daemon.stdout.readline()))
        daemon.kill()
        child.wait(DEADLINE_S)
    assert not child.is_running()
