"""What must be finite at a boundary: never what a model that trains well makes infinite itself."""

import math

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from ir.gradient import differentiable_values
from ir.segment import BoundaryKind
from peer.core.events import Task, TaskKind
from peer.core.phases import Mode
from peer.executor.boundary_check import BoundaryCheck, is_finite
from peer.executor.finiteness import must_be_finite
from peer.frames import Kind
from tests.pipeline import Pipeline, job_of, placed_nodes

ROWS, LENGTH, WIDTH = 2, 4, 8


class Masked(nn.Module):
    """Attention, masked in three ways, between plain layers."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.enter, self.key, self.leave = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        mask = torch.triu(torch.full((LENGTH, LENGTH), -math.inf), 1)
        self.register_buffer("mask", mask)

    def forward(self, x):
        x = torch.tanh(self.enter(x))
        scores = x @ self.key(x).transpose(1, 2) / math.sqrt(WIDTH)
        if self.how == "where":
            scores = scores.masked_fill(torch.isinf(self.mask), -math.inf) * 2.0
        elif self.how == "buffer":
            scores = scores + self.mask
        else:
            least = torch.finfo(torch.float32).min
            scores = (scores - 1e35) + torch.where(torch.isinf(self.mask), least, 0.0)
        return self.leave(torch.softmax(scores, -1) @ x)


class Steep(nn.Module):
    """The slope of `sqrt` is infinite at the zeros that `relu` makes, which takes it back."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return self.leave(torch.sqrt(torch.relu(self.enter(x)) * 2.0))


class Normed(nn.Module):
    """A root mean square, written out, behind `relu`: nothing is ever infinite here."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = torch.relu(self.enter(x))
        x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)
        return self.leave(torch.relu(x))


MODELS = {"where": lambda: Masked("where"), "buffer": lambda: Masked("buffer"),
          "least": lambda: Masked("least"), "steep": Steep, "normed": Normed}


def job(name):
    torch.manual_seed(0)
    draws = np.random.default_rng(0)
    columns = {column: draws.standard_normal((8, LENGTH, WIDTH)).astype(np.float32)
               for column in "xy"}
    return job_of(MODELS[name](), nn.MSELoss(), columns, ROWS)


class Checked:
    """A loaded segment whose results are checked as they are before they are sent."""

    def __init__(self, loaded, segment, check, seen):
        self._loaded, self._check, self._seen = loaded, check, seen
        self._leaving = {t.edge: t for t in segment.outgoing}
        self._arriving = {t.edge: t for t in segment.incoming}

    def __getattr__(self, name):
        return getattr(self._loaded, name)

    def forward(self, key, data, incoming):
        result = self._loaded.forward(key, data, incoming)
        self._look(key, result.outputs, self._leaving, Kind.ACTIVATION)
        return result

    def backward(self, key, gradients):
        result = self._loaded.backward(key, gradients)
        self._look(key, result, self._arriving, Kind.GRADIENT)
        return result

    def _look(self, key, arrays, tensors, kind):
        task = Task(kind=TaskKind.FORWARD, mode=Mode.TRAIN, step=key.step,
                    microbatch=key.microbatch)
        for edge, array in arrays.items():
            self._check.leaving(array, tensors[edge], kind, task)
            self._seen[kind] += not is_finite(array)


@pytest.mark.parametrize("name", MODELS)
def test_no_cut_of_a_model_that_trains_well_is_blamed(name):
    example = job(name)
    placed, seen = placed_nodes(example.graph), dict.fromkeys((Kind.ACTIVATION, Kind.GRADIENT), 0)
    for place in range(1, len(placed)):
        pipeline = Pipeline(example, [placed[:place], placed[place:]])
        check = BoundaryCheck(example.graph, example.trainable, 0)
        pipeline.loaded = [Checked(loaded, segment, check, seen)
                           for segment, loaded in pipeline.pairs()]
        assert all(math.isfinite(loss) for loss, _ in pipeline.run(2))
    # Each of the models has what it is here for.
    assert (seen[Kind.ACTIVATION] > 0) == (name in ("where", "buffer", "least"))
    assert (seen[Kind.GRADIENT] > 0) == (name == "steep")


@pytest.mark.parametrize("name", MODELS)
def test_what_is_left_unchecked_is_little(name):
    example = job(name)
    graph = example.graph
    differentiable = differentiable_values(graph, example.trainable)
    found = must_be_finite(graph, example.trainable, differentiable)
    made = {name: node.op_type for node in graph.nodes for name in node.outputs}
    unchecked = {made[value] for value in differentiable - found.values if value in made}
    assert not unchecked & {"Softmax", "Gemm", "Tanh", "Relu", "Sqrt"}
    assert (differentiable == found.gradients) == (name != "steep")
    assert (differentiable == found.values) == (name in ("steep", "normed"))
    assert found.values >= example.trainable & differentiable


def test_nothing_is_asked_of_inference():
    graph = job("where").graph
    found = must_be_finite(graph, frozenset(), differentiable_values(graph, frozenset()))
    assert not found.values
    assert not found.gradients


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (70_000,), (1 << 17,)])
def test_every_bad_number_is_found(dtype, shape):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    limits = ml_dtypes.finfo(kind)
    for value in (0.0, -1.5, limits.max, limits.min, limits.smallest_subnormal):
        assert is_finite(np.full(shape, value, kind))
    for value in (math.inf, -math.inf, math.nan, -math.nan):
        array = np.full(shape, limits.max, kind)
        if array.size:
            for place in (0, array.size // 2, array.size - 1):
                spoilt = array.copy()
                spoilt.reshape(-1)[place] = value
                assert not is_finite(spoilt)
                assert not is_finite(np.stack([array, spoilt], -1)[..., 1])


def test_parameters_that_others_use_are_checked(jobs):
    example = jobs("encoder-decoder")
    placed = placed_nodes(example.graph)
    segments = Pipeline(example, [placed[:9], placed[9:]], "null").segments
    shared = [t for s in segments for t in s.outgoing
              if t.kind is BoundaryKind.PARAMETER and t.differentiable]
    found = must_be_finite(example.graph, example.trainable, differentiable_values(
        example.graph, example.trainable))
    assert shared
    assert all(t.value in found.values and t.value in found.gradients for t in shared)
