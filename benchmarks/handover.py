"""What a task costs beside computing: its way into the executor process and back.

    python benchmarks/handover.py [--json] [--runs 200]

A daemon hands each task to its executor process over a pipe, and takes the tensors and the answer
from another one. Here a real executor process with the null executor runs forwards of a segment
that takes one tensor and gives one, of several sizes, and the time from handing over to the answer
is taken, less the executor's own. Lines through the quickest tenth of the runs give the constants
that the planner counts with (`dag.cost`): other work on the machine only ever adds to a run. The
daemon hashes what it sends, so that is in, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a file: our packages are found from the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dag.job import inference_spec
from ir import serde
from ir.graph import INFER, Graph, Node, TensorType
from ir.segment import BoundaryKind, BoundaryTensor, Segment
from peer.core.events import Task, TaskKind
from peer.core.phases import Mode
from peer.executor.messages import Done, Load, Loaded, Run
from peer.executor_process import ExecutorProcess, Listener
from peer.frames import Kind, tensor_frame, with_digest
from peer.links.allocator import keep_freed_memory

SMALL, LARGE = 1 << 8, 1 << 20
"""Elements of float32: 1 KiB and 4 MiB."""
QUICKEST = 0.1
TASK_S = 0.01
"""Between two tasks, so that each finds the processes as a schedule with time to compute does."""


def _type(size: int) -> TensorType:
    return TensorType("float32", (size,))


def _load(folder: Path, arriving: int, leaving: int) -> Load:
    """A segment that takes an edge of one size and gives one of another."""
    graph = Graph(
        opset=23, nodes=(Node(0, "relu", "Relu", ("x",), ("y",)),), inputs=("x",), parameters=(),
        outputs=("y",), constants={}, types={"x": _type(1), "y": _type(1)})
    (folder / "graph").write_bytes(serde.dump(graph))
    edges = [
        BoundaryTensor(
            edge=number, value=f"v{number}", kind=BoundaryKind.ACTIVATION, source=number,
            target=number + 1, type=_type(size), differentiable=False, consumers=(0,))
        for number, size in enumerate((arriving, leaving))]
    segment = Segment(
        index=1, nodes=(0,), parameters=(), data_inputs=(), incoming=(edges[0],),
        outgoing=(edges[1],), has_loss=False, results=())
    return Load(
        graph_path=str(folder / "graph"), segment=segment, training=inference_spec(1 << 20, 1),
        trainable=(), parameters=(), columns=(), kind=INFER, rows=1 << 20,
        result_path=str(folder / "result"))


async def _handovers(folder: Path, arriving: int, leaving: int, runs: int) -> list[float]:
    """Seconds of each of so many tasks, beside computing."""
    said: asyncio.Queue[Any] = asyncio.Queue()

    async def take(item: Any) -> None:
        said.put_nowait(with_digest(item) if hasattr(item, "payload") else item)

    process = await ExecutorProcess.start("null", "cpu", 1, Listener(
        on_frame=take, on_message=take, on_exit=take))
    array, found = np.ones(arriving, np.float32), []
    try:
        await process.send_message(_load(folder, arriving, leaving))
        assert isinstance(await said.get(), Loaded)
        for microbatch in range(runs):
            await asyncio.sleep(TASK_S)
            frame = tensor_frame(
                Kind.ACTIVATION, array, mode=Mode.INFER, microbatch=microbatch, edge=0)
            began_s = time.perf_counter()
            await process.send_frame(frame)
            await process.send_message(Run(task=Task(
                kind=TaskKind.FORWARD, mode=Mode.INFER, step=0, microbatch=microbatch)))
            while not isinstance(done := await said.get(), Done):
                pass
            found.append(time.perf_counter() - began_s - done.compute_s)
    finally:
        await process.close()
    return found


def measure(runs: int) -> dict[str, float]:
    """The three constants, in seconds and bytes per second."""
    keep_freed_memory()  # as a daemon does
    quick: dict[tuple[int, int], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for sizes in ((SMALL, SMALL), (LARGE, SMALL), (SMALL, LARGE)):
            times = sorted(asyncio.run(_handovers(Path(folder), *sizes, runs)))
            quick[sizes] = times[int(QUICKEST * runs)]
            print(f"{4 * sizes[0]:>9} bytes in, {4 * sizes[1]:>9} out: quickest tenth "
                  f"{1e3 * quick[sizes]:.3f} ms, median {1e3 * times[runs // 2]:.3f} ms")
    base = quick[SMALL, SMALL]
    return {
        "task_overhead_s": base,
        "bytes_in_per_s": 4 * LARGE / (quick[LARGE, SMALL] - base),
        "bytes_out_per_s": 4 * LARGE / (quick[SMALL, LARGE] - base)}


def show(result: Mapping[str, float]) -> None:
    """Print the constants."""
    print(f"a task {1e3 * result['task_overhead_s']:.2f} ms, tensors in "
          f"{result['bytes_in_per_s'] / 1e6:.0f} MB/s, out "
          f"{result['bytes_out_per_s'] / 1e6:.0f} MB/s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object on a line")
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    result = measure(options.runs)
    show(result)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
