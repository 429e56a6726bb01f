"""One peer and three peers train the same weights, bit for bit; plain PyTorch trains nearly those.
"""

import copy

import pytest
import torch

import homespun
from dag.job import OptimizerSpec, ScheduleSpec, TrainingSpec
from examples.native import relative_difference, train_native
from examples.transformer import language_loss

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_three_peers_train_what_one_does(client, lab, tmp_path, dropout):
    given = lab.arguments(model=lab.transformer(dropout=dropout), steps=50)
    one, three = (client.train(**given, peers=peers) for peers in (1, 3))
    alone, together = lab.weights(one, tmp_path), lab.weights(three, tmp_path)
    assert [len(job.status().segments) for job in (one, three)] == [1, 3]
    assert lab.different(alone, together) == []
    assert lab.curves(one) == lab.curves(three)
    steps, evaluations = lab.curves(one)
    assert [step for step, _ in steps] == list(range(50))
    assert [step for step, _ in evaluations] == [0, 10, 20, 30, 40, 50]
    assert steps[-1][1] < steps[0][1]
    assert together["head.weight"] == together["embed.weight"]


def test_native_pytorch_trains_nearly_the_same(client, lab, tmp_path, record_property):
    model = lab.transformer()
    given = lab.arguments(
        model=copy.deepcopy(model), steps=20,
        optimizer=homespun.AdamW(lr=1e-3, weight_decay=0.05))
    job = client.train(**given, peers=3)
    losses = train_native(model, language_loss, given["data"], TrainingSpec(
        steps=20, batch_size=8, microbatches=4, seed=7, clip_norm=0.5,
        optimizer=OptimizerSpec(kind="adamw", learning_rate=1e-3, weight_decay=0.05),
        schedule=ScheduleSpec(kind="cosine", warmup_steps=5, final_ratio=0.1)))
    lab.finished(job)
    trained = job.result(tmp_path).state_dict()
    native = {name: value.detach() for name, value in model.state_dict().items()}
    difference = relative_difference({name: trained[name] for name in native}, native)
    record_property("relative_difference", difference)
    print(f"relative difference to native PyTorch: {difference:.2e}")
    assert difference <= 1e-5
    measured = [loss for _, loss in lab.curves(job)[0]]
    torch.testing.assert_close(torch.tensor(measured), torch.tensor(losses), rtol=1e-4, atol=0)
