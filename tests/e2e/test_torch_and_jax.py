"""A job whose segments run in different frameworks, in real processes."""

import copy

import pytest
import torch

import homespun
from dag.job import OptimizerSpec, ScheduleSpec, TrainingSpec
from examples.native import train_native
from examples.transformer import language_loss

pytestmark = pytest.mark.e2e

STEPS = 10
LOSS_RTOL = 1e-4


@pytest.fixture(scope="module")
def mixed_network(start_network):
    """Two peers: torch and JAX. Without help from LLVM, XLA compiles in half the time."""
    return start_network(2, executors=("torch", "jax"), environment={
        "XLA_FLAGS": "--xla_backend_optimization_level=0"})


def test_torch_and_jax_train_one_model(mixed_network, lab, tmp_path):
    model = lab.transformer(dropout=0.0, layers=2)
    given = lab.arguments(
        model=copy.deepcopy(model), steps=STEPS, evaluate_every=STEPS,
        optimizer=homespun.AdamW(lr=1e-3, weight_decay=0.05))
    losses = train_native(model, language_loss, given["data"], TrainingSpec(
        steps=STEPS, batch_size=8, microbatches=4, seed=7, clip_norm=0.5,
        optimizer=OptimizerSpec(kind="adamw", learning_rate=1e-3, weight_decay=0.05),
        schedule=ScheduleSpec(kind="cosine", warmup_steps=5, final_ratio=0.1)))
    with mixed_network.client() as client:
        job = client.train(**given, peers=2)
        lab.finished(job)
        assert len(job.status().segments) == 2
        executors = [peer["hardware"]["executor"] for peer in mixed_network.peers()]
        assert sorted(executors) == ["jax", "torch"]
        measured = [loss for _, loss in lab.curves(job)[0]]
        trained = job.result(tmp_path).state_dict()
    difference = max(abs(a / b - 1) for a, b in zip(measured, losses, strict=True))
    print(f"largest relative difference of a loss to torch alone: {difference:.1e}")
    assert difference <= LOSS_RTOL
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value.detach(), rtol=1e-3, atol=1e-4)
