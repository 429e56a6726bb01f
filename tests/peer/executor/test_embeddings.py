"""Tables with a padding row train as torch trains them, on any cut."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from dag.job import OptimizerSpec

STEPS, PADDING, WIDTH = 3, 2, 6
DRAWS = np.random.default_rng(0)
COLUMNS = {"ids": DRAWS.integers(0, 7, (12, 5)), "y": DRAWS.integers(0, 7, (12, 5))}
OPTIMIZERS = {
    "sgd": (OptimizerSpec(kind="sgd", learning_rate=0.5),
            lambda p: torch.optim.SGD(p, lr=0.5)),
    "adamw": (OptimizerSpec(kind="adamw", learning_rate=1e-2),
              lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.0)),
    "adamw with decay": (OptimizerSpec(kind="adamw", learning_rate=1e-2, weight_decay=0.1),
                         lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1)),
}


class Tagger(nn.Module):
    """A class for each token; the padding row is not zero, so its gradient would not be either."""

    def __init__(self, tied=False):
        super().__init__()
        self.embed = nn.Embedding(7, WIDTH, padding_idx=PADDING)
        nn.init.normal_(self.embed.weight)
        self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 7, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids):
        rows = self.embed(ids)
        return self.head(torch.tanh(self.body(rows)) + self.embed(ids.flip(1)) * rows)


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch["ids"]).flatten(0, 1), batch["y"].flatten())


def natively(model, pipeline, optimizer):
    """Parameters after all steps, and each step's loss."""
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        total = 0.0
        for microbatch in range(2):
            data = {name: torch.from_numpy(rows)
                    for name, rows in pipeline.data(step, microbatch).items()}
            value = loss(model, data) / 2
            value.backward()
            total += value.item()
        optimizer.step()
        losses.append(total)
    return {name: value.detach().numpy() for name, value in model.named_parameters()}, losses


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_padding_row_trains_as_torch_trains_it(lab, name, tied):
    spec, native_optimizer = OPTIMIZERS[name]
    torch.manual_seed(0)
    model = Tagger(tied)
    job = lab.job_of(copy.deepcopy(model), loss, COLUMNS, 2, clip_norm=0.0, optimizer=spec)
    trained, losses = [], []
    for segments in (1, 3):
        pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, segments))
        losses.append([pipeline.step(step)[0] for step in range(STEPS)])
        trained.append(pipeline.parameters())
    seen = [pipeline.data(step, m)["ids"] for step in range(STEPS) for m in range(2)]
    assert any((ids == PADDING).any() for ids in seen)
    before = model.embed.weight.detach().numpy().copy()
    expected, native_losses = natively(model, pipeline, native_optimizer(model.parameters()))
    np.testing.assert_allclose(losses[0], native_losses, rtol=1e-5)
    for parameter, value in trained[0].items():
        np.testing.assert_allclose(
            value, expected[parameter], rtol=1e-4, atol=1e-5, err_msg=parameter)
    after = trained[0]["embed.weight"]
    moved = (after != before).any(1)
    # Only decay, or a tied head, moves the row: the lookup gives it exactly no gradient.
    assert moved[PADDING] == (tied or spec.weight_decay > 0)
    assert np.delete(moved, PADDING).all()
    assert losses[0] == losses[1]
    assert lab.different(trained[0], trained[1]) == []


def test_a_frozen_table_is_only_looked_up(lab):
    model = Tagger()
    model.embed.weight.requires_grad_(False)
    job = lab.job_of(model, loss, COLUMNS, 2)
    assert not job.graph.stopped
    assert "Where" not in {node.op_type for node in job.graph.nodes}
