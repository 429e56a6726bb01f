"""Running statistics: exactly those of torch, on any cut, updated once per microbatch."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from dag.job import OptimizerSpec
from dag.pipeline.blocks import cutting_places
from peer.executor.base import WorkKey
from tests.pipeline import Pipeline, different, job_of, placed_nodes

STEPS = 3


class Normalised(nn.Module):
    """Every kind of running statistics, and a hand-written average that later nodes read."""

    def __init__(self):
        super().__init__()
        self.enter, self.shared = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.again, self.leave = nn.Conv2d(4, 4, 1), nn.Linear(4, 5)
        self.plain = nn.BatchNorm2d(4, affine=False, momentum=0.3)
        self.cumulative, self.untracked = nn.BatchNorm3d(4, momentum=None), nn.BatchNorm2d(
            4, track_running_stats=False)
        self.instance = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        self.last = nn.BatchNorm1d(4)
        self.register_buffer("size", torch.zeros(()))

    def forward(self, x):
        with torch.no_grad():
            self.size.mul_(0.5).add_(x.abs().mean(), alpha=0.5)
        x = F.relu(self.shared(self.enter(x / (1.0 + self.size))))
        x = self.shared(self.again(x)) + x
        x = self.plain(x * 2.0) + self.untracked(x)
        x = self.cumulative(x.unsqueeze(2)).squeeze(2) + self.instance(x)
        return self.leave(self.last(x.mean((2, 3))))


def loss_of(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"])


@pytest.fixture(scope="module")
def normalised():
    """The module, and it as a job."""
    torch.manual_seed(0)
    draws = np.random.default_rng(0)
    columns = {"x": draws.standard_normal((16, 3, 8, 8)).astype(np.float32) * 2 + 1,
               "y": draws.integers(0, 5, 16)}
    model = Normalised()
    sgd = OptimizerSpec(kind="sgd", learning_rate=0.05, momentum=0.9)
    job = job_of(model, loss_of, columns, 4, microbatches=4, batch_size=16, optimizer=sgd,
                 clip_norm=0.0)
    return copy.deepcopy(model), job


def thirds(job):
    """Three parts whose bounds part no updated parameter."""
    placed = placed_nodes(job.graph)
    places = cutting_places(job.graph, placed)
    first, second = (min(places, key=lambda p, k=k: abs(p - k * len(placed) // 3)) for k in (1, 2))
    assert 0 < first < second < len(placed)
    return [placed[:first], placed[first:second], placed[second:]]


def evaluated(pipeline):
    key = WorkKey(mode="evaluate", step=STEPS, microbatch=0)
    return pipeline.forward(key, pipeline.data(STEPS, 0))


def trained(job, parts):
    pipeline = Pipeline(job, parts)
    return pipeline.run(STEPS), pipeline.parameters(), evaluated(pipeline)


@pytest.fixture(scope="module")
def whole(normalised):
    """Losses, state and evaluation of one segment."""
    _, job = normalised
    return trained(job, [placed_nodes(job.graph)])


def test_gradient_accumulation_in_torch_gives_the_same(normalised, whole):
    model, job = normalised
    model = copy.deepcopy(model).train()
    pipeline = Pipeline(job, [placed_nodes(job.graph)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        given = [pipeline.data(step, microbatch) for microbatch in range(4)]
        batches = [{name: torch.from_numpy(rows) for name, rows in data.items()} for data in given]
        found = [loss_of(model, batch) for batch in batches]
        (torch.stack(found).mean()).backward()
        optimizer.step()
        losses.append(torch.stack(found).mean().item())
    np.testing.assert_allclose([loss for loss, _ in whole[0]], losses, rtol=1e-5)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(
            whole[1].get(name, value), value, rtol=2e-5, atol=2e-6, err_msg=name)


def test_every_statistic_is_updated(normalised, whole):
    _, job = normalised
    assert len(job.graph.updates) == 3 + 3 + 3 + 2 + 3 + 1
    assert sorted(different(
        {name: whole[1][name] for name in job.graph.updates},
        {name: job.parameters[name] for name in job.graph.updates})) == sorted(job.graph.updates)
    # A shared module counts both of its calls.
    assert whole[1]["shared.num_batches_tracked"] == 2 * 4 * STEPS
    assert whole[1]["last.num_batches_tracked"] == 4 * STEPS


def test_three_segments_give_the_same_bits(normalised, whole):
    _, job = normalised
    losses, state, evaluation = trained(job, thirds(job))
    assert losses == whole[0]
    assert different(state, whole[1]) == []
    assert evaluation == whole[2]


def test_recomputing_updates_nothing_twice(normalised, whole):
    _, job = normalised
    again = replace(job, training=replace(job.training, recompute=True))
    losses, state, evaluation = trained(again, thirds(job))
    assert losses == whole[0]
    assert different(state, whole[1]) == []
    assert evaluation == whole[2]


def test_evaluation_uses_and_keeps_the_stored_statistics(normalised):
    model, job = normalised
    pipeline = Pipeline(job, [placed_nodes(job.graph)])
    pipeline.run(1)
    before = pipeline.parameters()
    model = copy.deepcopy(model)
    model.load_state_dict({**model.state_dict(),
                           **{n: torch.from_numpy(v) for n, v in before.items()}})
    found = evaluated(pipeline)
    assert different(pipeline.parameters(), before) == []
    data = {name: torch.from_numpy(rows) for name, rows in pipeline.data(STEPS, 0).items()}
    expected = loss_of(model.eval(), data).item()
    assert found == pytest.approx(expected, rel=1e-5)
