"""One segment at work in the executor process: turns tasks and frames into executor calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dag.cost import graph_costs, work_seconds
from dag.job import PREDICT
from homespun.errors import Code, HomespunError
from homespun.sampling import batch_rows, evaluation_rows, inference_rows
from homespun.tensor_file import map_tensor, pack, unpack
from ir import serde
from ir.graph import INFER
from ir.segment import BoundaryKind, BoundaryTensor
from peer.core.events import Task, TaskKind
from peer.core.phases import Mode
from peer.executor.base import Array, Executor, SegmentProgram, WorkKey
from peer.executor.boundary_check import BoundaryCheck
from peer.executor.messages import Load
from peer.executor.result_file import ResultFile
from peer.executor.snapshot_file import join_snapshots, owner_of, read_snapshot
from peer.frames import Frame, Kind, array_of, tensor_frame

_SPLITS = {Mode.TRAIN: "train", Mode.EVALUATE: "validation", Mode.INFER: PREDICT}

_StepKey = tuple[Kind, Mode, int, int, int]
"""(kind, mode, step, microbatch, edge)"""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task gave: tensors for other segments, and numbers for the core."""

    frames: tuple[Frame, ...] = ()
    loss: float | None = None
    has_deferred: bool = False
    squared_norms: Mapping[str, float] = field(default_factory=dict)


class SegmentWork:
    """A loaded segment, the tensors that arrived for it, and its rows of the dataset.

    Attributes:
        owner: whose its snapshots are.
        predicted: what one microbatch should take, by kind of work.
        flops: of one microbatch's forward, and of its backward.
    """

    def __init__(self, request: Load, executor: Executor) -> None:
        self._segment = request.segment
        self._result_path = Path(request.result_path)
        self._training = request.training
        self._microbatch_size = request.training.batch_size // request.training.microbatches
        self._columns = {
            (column.split, column.name): map_tensor(Path(column.path), column.name)
            for column in request.columns
        }
        self._arrived: dict[_StepKey, Array] = {}
        graph_bytes = Path(request.graph_path).read_bytes()
        graph = serde.load(graph_bytes)
        self.owner = owner_of(request, graph_bytes)
        parameters = {
            file.name: unpack(Path(file.path).read_bytes(), file.name)[file.name]
            for file in request.parameters
        }
        program = SegmentProgram(
            graph=graph,
            segment=request.segment,
            training=request.training,
            trainable=frozenset(request.trainable),
            kind=request.kind,
        )
        self._check = BoundaryCheck(graph, program.trainable, request.segment.index)
        costs = graph_costs(graph, program.trainable, program.kind)
        self.predicted = work_seconds(costs, program.segment, request.rates, program.training)
        self.flops = (
            sum(costs.forward[node].flops for node in program.segment.nodes),
            sum(costs.backward[node].flops for node in program.segment.nodes))
        self._loaded = executor.load(program, parameters)
        self._position = 0
        self._results = ResultFile(
            self._result_path, request.segment.results, request.rows, self._microbatch_size
        ) if request.kind == INFER else None

    def receive(self, frame: Frame) -> None:
        """Keep a tensor until the task that needs it."""
        key = (frame.kind, frame.mode, frame.step, frame.microbatch, frame.edge)
        self._arrived[key] = array_of(frame)

    def run(self, task: Task) -> TaskResult:
        """Run one task.

        Raises:
            HomespunError: what the executor raised.
        """
        if task.kind is TaskKind.FORWARD:
            return self._forward(task)
        if task.kind is TaskKind.BACKWARD:
            return self._backward(task)
        if task.kind is TaskKind.ACCUMULATE:
            self._loaded.accumulate(_work_key(task))
            return TaskResult()
        if task.kind is TaskKind.COLLECT:
            gradients = self._loaded.shared_gradients()
            return TaskResult(self._frames(Kind.PARAMETER_GRADIENT, task, gradients))
        if task.kind is TaskKind.MEASURE:
            shared = self._take(
                self._edges(outgoing=True, kind=BoundaryKind.PARAMETER), Kind.PARAMETER_GRADIENT,
                Task(kind=task.kind, mode=Mode.TRAIN, step=task.step),
            )
            return TaskResult(squared_norms=self._loaded.squared_norms(shared))
        self._loaded.update(task.step, task.scale)
        self._position = task.step + 1
        return TaskResult(self._shared_values())

    def state(self, position: int) -> Mapping[str, Array]:
        """What a snapshot of a position has: a copy, or what will not change until it is written.

        Args:
            position: of training the steps done, exactly; of inference any number of microbatches
                that are predicted: what is predicted beyond it is not part of the snapshot.

        Raises:
            HomespunError: INTERNAL if the segment is not there; what the executor raised.
        """
        is_there = (position == self._position if self._results is None
                    else 0 <= position <= self._position)
        if not is_there:
            raise HomespunError(
                Code.INTERNAL,
                f"segment {self._segment.index} is at position {self._position}, not {position}")
        return self._loaded.state() if self._results is None else self._results.until(position)

    def restore(self, path: Path, position: int) -> tuple[Frame, ...]:
        """Go on from a snapshot instead of from the beginning.

        Returns:
            What the segment sends at the end of the step before `position`, and owes those who go
            on from there with it: parameters that they use.

        Raises:
            HomespunError: INVALID_ARGUMENT if the snapshot is another's, DIGEST_MISMATCH if it is
                unreadable; the segment is as it was.
        """
        return self._go_on(read_snapshot(path, self.owner, position), position)

    def restore_joined(self, paths: Sequence[Path], position: int) -> tuple[Frame, ...]:
        """The same, of training, from snapshots of other segments of which each has a part."""
        state = join_snapshots(paths, self._segment.parameters, position)
        return self._go_on(state, position)

    def _go_on(self, state: Mapping[str, Array], position: int) -> tuple[Frame, ...]:
        if self._results is None:
            self._loaded.restore(state)
        else:
            self._results.put_back(state, position)
        self._position = position
        self._arrived.clear()
        return self._shared_values() if self._results is None else ()

    def close(self) -> None:
        """Free the device's memory. No call may follow."""
        self._loaded.close()
        if self._results is not None:
            self._results.close()

    def export(self) -> None:
        """Finish the result file: what was predicted, or else the segment's parameters."""
        if self._results is not None:
            self._results.close()
        else:
            self._result_path.write_bytes(pack(self._loaded.parameters()))

    def _forward(self, task: Task) -> TaskResult:
        self._refresh_shared(task)
        incoming = self._take(
            self._edges(outgoing=False, kind=BoundaryKind.ACTIVATION), Kind.ACTIVATION, task
        )
        result = self._loaded.forward(_work_key(task), self._rows(task), incoming)
        if self._results is not None:
            self._results.put(task.microbatch, result.results)
            self._position = task.microbatch + 1
        return TaskResult(self._frames(Kind.ACTIVATION, task, result.outputs), result.loss)

    def _backward(self, task: Task) -> TaskResult:
        outgoing = [
            tensor
            for tensor in self._edges(outgoing=True, kind=BoundaryKind.ACTIVATION)
            if tensor.differentiable
        ]
        gradients = self._loaded.backward(
            _work_key(task), self._take(outgoing, Kind.GRADIENT, task)
        )
        return TaskResult(
            self._frames(Kind.GRADIENT, task, gradients),
            has_deferred=self._loaded.has_deferred(_work_key(task)),
        )

    def _refresh_shared(self, task: Task) -> None:
        """Foreign parameters of this step, once, with the first forward that uses them."""
        shared = self._edges(outgoing=False, kind=BoundaryKind.PARAMETER)
        first = next(iter(shared), None)
        if first is None or (
            Kind.PARAMETER, Mode.TRAIN, task.step, 0, first.edge
        ) not in self._arrived:
            return
        step = Task(kind=task.kind, mode=Mode.TRAIN, step=task.step)
        self._loaded.set_shared(self._take(shared, Kind.PARAMETER, step))

    def _shared_values(self) -> tuple[Frame, ...]:
        """Own parameters that other segments use, as they are at the position reached."""
        at = Task(kind=TaskKind.UPDATE, mode=Mode.TRAIN, step=self._position)
        return self._frames(Kind.PARAMETER, at, self._loaded.shared_values())

    def _edges(self, *, outgoing: bool, kind: BoundaryKind) -> list[BoundaryTensor]:
        tensors = self._segment.outgoing if outgoing else self._segment.incoming
        return [tensor for tensor in tensors if tensor.kind is kind]

    def _take(self, edges: list[BoundaryTensor], kind: Kind, task: Task) -> dict[int, Array]:
        """Take the tensors of some edges that arrived for a task, and check their types."""
        taken: dict[int, Array] = {}
        for tensor in edges:
            if kind is Kind.PARAMETER_GRADIENT and not tensor.differentiable:
                continue
            key = (kind, task.mode, task.step, task.microbatch, tensor.edge)
            array = self._arrived.pop(key)
            self._check.arriving(array, tensor, kind, task)
            taken[tensor.edge] = array
        return taken

    def _rows(self, task: Task) -> dict[str, Array]:
        """This microbatch's rows of each dataset column that the segment reads."""
        training, size = self._training, self._microbatch_size
        split = _SPLITS[task.mode]
        data: dict[str, Array] = {}
        for name in self._segment.data_inputs:
            column = self._columns[split, name]
            if task.mode is Mode.TRAIN:
                rows = batch_rows(training.seed, task.step, training.batch_size, len(column))
                rows = rows[task.microbatch * size : (task.microbatch + 1) * size]
            elif task.mode is Mode.INFER:
                rows = inference_rows(task.microbatch, size, len(column))
            else:
                rows = evaluation_rows(task.microbatch, size)
            data[name] = np.asarray(column[rows])
        return data

    def _frames(self, kind: Kind, task: Task, tensors: Mapping[int, Array]) -> tuple[Frame, ...]:
        forward = kind in (Kind.ACTIVATION, Kind.PARAMETER)
        edges = {
            tensor.edge: tensor
            for tensor in (self._segment.outgoing if forward else self._segment.incoming)
        }
        for edge, array in tensors.items():
            self._check.leaving(array, edges[edge], kind, task)
        return tuple(
            tensor_frame(
                kind,
                array,
                mode=task.mode,
                edge=edge,
                source=self._segment.index,
                target=edges[edge].target if forward else edges[edge].source,
                step=task.step,
                microbatch=task.microbatch,
            )
            for edge, array in tensors.items()
        )


def _work_key(task: Task) -> WorkKey:
    return WorkKey(mode=task.mode, step=task.step, microbatch=task.microbatch)

