"""The executor trains like the native module, whose code never saw the graph."""

import copy

import numpy as np
import pytest
import torch

from dag.job import OptimizerSpec
from examples.transformer import language_loss

OPTIMIZERS = {
    "adamw": (OptimizerSpec(kind="adamw", learning_rate=1e-3, weight_decay=0.05),
              lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.05)),
    "adam": (OptimizerSpec(kind="adam", learning_rate=1e-3, weight_decay=0.01, beta1=0.8),
             lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.01, betas=(0.8, 0.999))),
    "sgd": (OptimizerSpec(kind="sgd", learning_rate=1e-2, momentum=0.9, nesterov=True),
            lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True)),
}


def train_natively(lab, model, optimizer, pipeline, steps):
    microbatches = pipeline.job.training.microbatches
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        total = 0.0
        for microbatch in range(microbatches):
            data = {n: torch.from_numpy(v) for n, v in pipeline.data(step, microbatch).items()}
            loss = language_loss(model, data)
            (loss / microbatches).backward()
            total += loss.item() / microbatches
        optimizer.step()
        losses.append(total)
    return losses


def relative_difference(model, parameters):
    named = {n: p.detach().numpy() for n, p in model.named_parameters()}
    difference = sum(np.sum((named[n] - parameters[n]) ** 2, dtype=np.float64) for n in named)
    size = sum(np.sum(named[n] ** 2, dtype=np.float64) for n in named)
    return (difference / size) ** 0.5


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_twenty_steps(lab, kind):
    spec, make = OPTIMIZERS[kind]
    model = lab.transformer(dropout=0.0)
    job = lab.job_of(copy.deepcopy(model), language_loss, lab.token_columns(), 2,
                     optimizer=spec, clip_norm=0.0)
    pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, 3))
    measured = pipeline.run(20)
    expected = train_natively(lab, model, make(model.parameters()), pipeline, 20)
    np.testing.assert_allclose([loss for loss, _ in measured], expected, rtol=1e-5)
    assert relative_difference(model, pipeline.parameters()) <= 1e-5


def test_gradient_norm(lab):
    model = lab.transformer(dropout=0.0)
    job = lab.job_of(copy.deepcopy(model), language_loss, lab.token_columns(), 2)
    pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, 2))
    _, norm = pipeline.step(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    train_natively(lab, model, optimizer, pipeline, 1)
    gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert norm == pytest.approx(gradients.double().norm().item(), rel=1e-5)


def test_bfloat16_is_near_float32(lab, jobs):
    from dataclasses import replace

    job = jobs("transformer")
    parts = lab.contiguous_parts(job.graph, 1)
    exact = [loss for loss, _ in lab.Pipeline(job, parts).run(5)]
    short = replace(job, training=replace(job.training, precision="bfloat16"))
    rounded = [loss for loss, _ in lab.Pipeline(short, parts).run(5)]
    assert rounded != exact
    np.testing.assert_allclose(rounded, exact, rtol=1e-2)
