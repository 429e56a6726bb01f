"""Buffers that a training forward replaces, in JAX: as in torch, once per microbatch."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from dag.job import OptimizerSpec
from peer.executor.base import WorkKey

STEPS = 3


class Averaging(nn.Module):
    """Batch normalisation, and a buffer whose new value the same forward reads."""

    def __init__(self):
        super().__init__()
        self.enter, self.norm, self.leave = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)
        self.register_buffer("size", torch.ones(()))

    def forward(self, x):
        with torch.no_grad():
            self.size.mul_(0.5).add_(x.abs().mean(), alpha=0.5)
        return self.leave(torch.tanh(self.norm(self.enter(x / self.size))))


def test_follows_torch_and_recomputing_updates_nothing_twice(lab):
    torch.manual_seed(0)
    draws = np.random.default_rng(0)
    columns = {"x": draws.standard_normal((16, 6)).astype(np.float32) * 3 + 1,
               "y": draws.integers(0, 3, 16)}
    job = lab.job_of(Averaging(), nn.CrossEntropyLoss(), columns, 4, microbatches=4,
                     batch_size=16,
                     optimizer=OptimizerSpec(kind="sgd", learning_rate=0.05, momentum=0.9))
    assert len(job.graph.updates) == 4
    parts = [lab.placed_nodes(job.graph)]
    again = replace(job, training=replace(job.training, recompute=True))
    runs = [lab.Pipeline(job, parts), lab.Pipeline(job, parts, "jax"),
            lab.Pipeline(again, parts, "jax")]
    losses = [[loss for loss, _ in pipeline.run(STEPS)] for pipeline in runs]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert losses[2] == losses[1]
    expected, found, recomputed = (pipeline.parameters() for pipeline in runs)
    assert lab.different(found, recomputed) == []
    assert found["norm.num_batches_tracked"] == 4 * STEPS
    for name in job.graph.updates:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)
    key = WorkKey(mode="evaluate", step=STEPS, microbatch=0)
    evaluations = [pipeline.forward(key, pipeline.data(STEPS, 0)) for pipeline in runs]
    np.testing.assert_allclose(evaluations, evaluations[:1] * 3, rtol=1e-5)
    assert lab.different(runs[1].parameters(), found) == []
