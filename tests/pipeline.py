"""Training in this process, on any cut, by calling the segments as a driver would."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from dag.job import OptimizerSpec, TrainingSpec, inference_spec
from ir.cut import cut, replicable
from ir.frontends.torch_module import import_module
from ir.graph import INFER, Graph, Node, TensorType
from ir.segment import BoundaryKind, Segment
from peer.executor.base import SegmentProgram, WorkKey
from peer.executor.registry import create


@dataclass
class Job:
    """A graph with its weights and data, ready to train."""

    graph: Graph
    parameters: dict
    columns: dict
    training: TrainingSpec
    trainable: frozenset


def training_spec(**changes):
    fields = {"steps": 20, "batch_size": 4, "microbatches": 2, "seed": 7, "clip_norm": 0.5,
              "optimizer": OptimizerSpec(kind="adamw", learning_rate=1e-2, weight_decay=0.05)}
    return TrainingSpec(**(fields | changes))


def job_of(model, loss, columns, microbatch_rows, **changes):
    """Export a module at microbatch size; its weights become the job's parameters."""
    sample = {name: torch.from_numpy(column[:microbatch_rows]) for name, column in columns.items()}
    imported = import_module(model, loss, sample)
    graph = imported.graph
    parameters = {p.name: p.value.copy() for p in imported.parameters if p.name in graph.parameters}
    trainable = frozenset(p.name for p in imported.parameters if p.trainable)
    return Job(graph, parameters, columns, training_spec(**changes), trainable)


def loss_and_gradients(imported, columns, executor="torch"):
    """Loss of one step over all rows, and each trainable parameter's gradient, over two segments.

    With SGD at rate 1, one step changes each parameter by its gradient.
    """
    graph = imported.graph
    rows = len(next(iter(columns.values())))
    parameters = {p.name: p.value.copy() for p in imported.parameters if p.name in graph.parameters}
    trainable = frozenset(p.name for p in imported.parameters if p.trainable)
    training = training_spec(
        batch_size=rows, microbatches=1, clip_norm=0.0,
        optimizer=OptimizerSpec(kind="sgd", learning_rate=1.0))
    job = Job(graph, parameters, columns, training, trainable)
    pipeline = Pipeline(job, contiguous_parts(graph, 2), executor)
    loss, _ = pipeline.step(0)
    after = pipeline.parameters()
    return loss, {name: parameters[name] - after[name] for name in trainable & after.keys()}


def placed_nodes(graph):
    """Nodes that a cut must place; the others are replicated."""
    free = replicable(graph)
    return [node.index for node in graph.nodes if node.index not in free]


def contiguous_parts(graph, count):
    """The nodes to place, in `count` ranges of about equal length."""
    placed = placed_nodes(graph)
    bounds = [round(len(placed) * part / count) for part in range(count + 1)]
    return [placed[a:b] for a, b in pairwise(bounds)]


class Pipeline:
    """The segments of a job, loaded, and the links between them.

    Args:
        job: what to train.
        parts: nodes of each segment.
        executor: name for all segments, or a list with one for each.
    """

    def __init__(self, job, parts, executor="torch"):
        self.job = job
        self.segments = cut(job.graph, parts, job.trainable)
        names = [executor] * len(parts) if isinstance(executor, str) else executor
        loaders = {name: create(name, "cpu", 1) for name in names}
        self.loaded = []
        for segment, name in zip(self.segments, names, strict=True):
            loader = loaders[name]
            program = SegmentProgram(graph=job.graph, segment=segment, training=job.training,
                                     trainable=job.trainable)
            foreign = [t.value for t in segment.incoming if t.kind == BoundaryKind.PARAMETER]
            names = [*segment.parameters, *foreign]
            self.loaded.append(loader.load(program, {n: job.parameters[n] for n in names}))

    def pairs(self):
        return list(zip(self.segments, self.loaded, strict=True))

    def forward(self, key, data):
        arrays, loss = {}, None
        for segment, loaded in self.pairs():
            columns = {name: data[name] for name in segment.data_inputs}
            arriving = picked(segment.incoming, BoundaryKind.ACTIVATION, arrays)
            result = loaded.forward(key, columns, arriving)
            arrays.update(result.outputs)
            loss = result.loss if segment.has_loss else loss
        return loss

    def backward(self, key):
        gradients = {}
        for segment, loaded in reversed(self.pairs()):
            given = picked(segment.outgoing, BoundaryKind.ACTIVATION, gradients)
            gradients.update(loaded.backward(key, given))

    def step(self, step):
        """One step with two microbatches in flight; gives (mean loss, gradient norm)."""
        training, losses = self.job.training, []
        keys = [WorkKey(mode="train", step=step, microbatch=m)
                for m in range(training.microbatches)]
        for first in range(0, len(keys), 2):
            flight = keys[first:first + 2]
            losses += [self.forward(key, self.data(step, key.microbatch)) for key in flight]
            for key in flight:
                self.backward(key)
        norm = self.measure()
        clip = training.clip_norm
        self.update(step, min(1.0, clip / norm) if clip and norm else 1.0)
        return sum(losses) / len(losses), norm

    def measure(self):
        shared, norms = {}, {}
        for loaded in self.loaded:
            shared.update(loaded.shared_gradients())
        for segment, loaded in self.pairs():
            norms.update(loaded.squared_norms(
                picked(segment.outgoing, BoundaryKind.PARAMETER, shared)))
        return math.sqrt(math.fsum(norms.values()))

    def update(self, step, scale):
        values = {}
        for loaded in self.loaded:
            loaded.update(step, scale)
            values.update(loaded.shared_values())
        for segment, loaded in self.pairs():
            loaded.set_shared(picked(segment.incoming, BoundaryKind.PARAMETER, values))

    def data(self, step, microbatch):
        """The rows of one microbatch, the same for every column."""
        result = {}
        for name, column in self.job.columns.items():
            rows = np.random.default_rng([step, microbatch]).permutation(len(column))
            result[name] = column[rows[:self.job.graph.types[name].shape[0]]]
        return result

    def run(self, steps):
        return [self.step(step) for step in range(steps)]

    def parameters(self):
        merged = {}
        for loaded in self.loaded:
            merged.update(loaded.parameters())
        return merged


def picked(tensors, kind, arrays):
    return {t.edge: arrays[t.edge] for t in tensors if t.kind == kind and t.edge in arrays}


def different(first, second):
    """Names of the arrays whose bytes differ."""
    assert first.keys() == second.keys()
    return [name for name in first if first[name].tobytes() != second[name].tobytes()]


def single(op_type, inputs, outputs, attributes=None, constants=None):
    """A graph of one node over data inputs, and the segment that runs it."""
    constants = constants or {}
    names = tuple(inputs)
    node = Node(0, f"the {op_type}", op_type, (*names, *constants), tuple(outputs),
                attributes or {})
    types = {**inputs, **outputs}
    types.update((n, TensorType(v.dtype.name, v.shape)) for n, v in constants.items())
    graph = Graph(23, (node,), names, (), tuple(outputs), constants, types)
    segment = Segment(index=0, nodes=(0,), parameters=(), data_inputs=names, incoming=(),
                      outgoing=(), has_loss=True)
    return SegmentProgram(graph=graph, segment=segment, training=training_spec(),
                          trainable=frozenset())


def infer(imported, data, parts, executor):
    """name -> value, and how many segments gave it."""
    graph, sent, results = imported.graph, {}, {}
    weights = {p.name: p.value for p in imported.parameters}
    for segment in cut(graph, parts, frozenset(), INFER):
        program = SegmentProgram(
            graph=graph, segment=segment, training=inference_spec(4, 4), trainable=frozenset(),
            kind=INFER)
        foreign = [t.value for t in segment.incoming if t.kind is BoundaryKind.PARAMETER]
        loaded = create(executor, "cpu", 1).load(
            program, {name: weights[name] for name in (*segment.parameters, *foreign)})
        given = loaded.forward(
            WorkKey(mode="infer", step=0, microbatch=0),
            {name: data[name] for name in segment.data_inputs},
            {t.edge: sent[t.edge] for t in segment.incoming
             if t.kind is BoundaryKind.ACTIVATION})
        assert given.loss is None
        assert list(given.results) == [result.name for result in segment.results]
        assert not results.keys() & given.results.keys()
        sent.update(given.outputs)
        results.update({name: np.array(array) for name, array in given.results.items()})
        loaded.close()
    assert results.keys() == set(graph.outputs)
    return results
