"""Training in this process, on any cut, by calling the segments as a driver would."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from dag.job import OptimizerSpec, TrainingSpec
from ir.cut import cut, replicable
from ir.segment import BoundaryKind
from peer.executor.base import SegmentProgram, WorkKey
from peer.executor.registry import create


@dataclass
class Job:
    """A graph with its weights and data, ready to train."""

    graph: object
    parameters: dict
    columns: dict
    training: TrainingSpec
    trainable: frozenset = field(default_factory=frozenset)


def contiguous_parts(graph, count):
    """Nodes that must be placed, in `count` ranges of about equal length."""
    free = replicable(graph)
    placed = [node.index for node in graph.nodes if node.index not in free]
    bounds = [round(len(placed) * part / count) for part in range(count + 1)]
    return [placed[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]


class Pipeline:
    """The segments of a job, loaded, and the links between them."""

    def __init__(self, job, parts, executor="torch"):
        self.job, self.edges = job, {}
        self.segments = cut(job.graph, parts, job.trainable)
        loader = create(executor, "cpu", 1)
        self.loaded = []
        for segment in self.segments:
            program = SegmentProgram(graph=job.graph, segment=segment, training=job.training,
                                     trainable=job.trainable)
            foreign = [t.value for t in segment.incoming if t.kind == BoundaryKind.PARAMETER]
            names = [*segment.parameters, *foreign]
            self.loaded.append(loader.load(program, {n: job.parameters[n] for n in names}))

    def _pairs(self):
        return list(zip(self.segments, self.loaded, strict=True))

    def _picked(self, tensors, kind, arrays):
        return {t.edge: arrays[t.edge] for t in tensors if t.kind == kind and t.edge in arrays}

    def forward(self, key, data):
        arrays, loss = {}, None
        for segment, loaded in self._pairs():
            columns = {name: data[name] for name in segment.data_inputs}
            arriving = self._picked(segment.incoming, BoundaryKind.ACTIVATION, arrays)
            result = loaded.forward(key, columns, arriving)
            arrays.update(result.outputs)
            loss = result.loss if segment.has_loss else loss
        return loss

    def backward(self, key):
        gradients = {}
        for segment, loaded in reversed(self._pairs()):
            given = self._picked(segment.outgoing, BoundaryKind.ACTIVATION, gradients)
            gradients.update(loaded.backward(key, given))

    def step(self, step):
        training, losses = self.job.training, []
        keys = [WorkKey(mode="train", step=step, microbatch=m)
                for m in range(training.microbatches)]
        for first in range(0, len(keys), 2):
            for key in keys[first:first + 2]:
                losses.append(self.forward(key, self.data(step, key.microbatch)))
            for key in keys[first:first + 2]:
                self.backward(key)
        shared = {}
        for loaded in self.loaded:
            shared.update(loaded.shared_gradients())
        norms = {}
        for segment, loaded in self._pairs():
            norms.update(loaded.squared_norms(
                self._picked(segment.outgoing, BoundaryKind.PARAMETER, shared)))
        norm = math.sqrt(math.fsum(norms.values()))
        scale = min(1.0, training.clip_norm / norm) if training.clip_norm and norm else 1.0
        values = {}
        for loaded in self.loaded:
            loaded.update(step, scale)
            values.update(loaded.shared_values())
        for segment, loaded in self._pairs():
            loaded.set_shared(self._picked(segment.incoming, BoundaryKind.PARAMETER, values))
        return sum(losses) / len(losses), norm

    def data(self, step, microbatch):
        """A microbatch of rows drawn for (step, microbatch)."""
        rows = np.random.default_rng([step, microbatch])
        result = {}
        for name, column in self.job.columns.items():
            count = self.job.graph.types[name].shape[0]
            picked = rows.permutation(len(column))[:count]
            result[name] = column[picked]
            rows = np.random.default_rng([step, microbatch])
        return result

    def run(self, steps):
        return [self.step(step) for step in range(steps)]

    def parameters(self):
        merged = {}
        for loaded in self.loaded:
            merged.update(loaded.parameters())
        return merged


def training_spec(**changes):
    fields = {"steps": 20, "batch_size": 4, "microbatches": 2, "seed": 7,
              "optimizer": OptimizerSpec(kind="adamw", learning_rate=1e-2, weight_decay=0.05)}
    return TrainingSpec(**(fields | changes))


def job_of(model, loss, columns, microbatch_rows, **changes):
    """Export a module at microbatch size; its weights become the job's parameters."""
    from ir.frontends.torch_module import import_module

    sample = {name: torch.from_numpy(column[:microbatch_rows]) for name, column in columns.items()}
    imported = import_module(model, loss, sample)
    state = model.state_dict(keep_vars=True) | dict(model.named_buffers())
    graph = imported.graph
    parameters = {name: state[name].detach().numpy().copy() for name in graph.parameters}
    trainable = frozenset(n for n in graph.parameters if state[n].requires_grad)
    return Job(graph, parameters, columns, training_spec(**changes), trainable)


@pytest.fixture(scope="session")
def executor_tools():
    """Functions and classes of this file, for the test modules beside it."""
    from types import SimpleNamespace

    return SimpleNamespace(
        job_of=job_of, Pipeline=Pipeline, contiguous_parts=contiguous_parts,
        training_spec=training_spec)
