"""Schedules: pure numbers."""

import pytest
import torch

from dag.job import OptimizerSpec, ScheduleSpec, TrainingSpec
from homespun.errors import Code, HomespunError
from peer.executor.learning_rate import learning_rate


def rates(kind, steps=10, count=None, **fields):
    training = TrainingSpec(
        steps=steps, batch_size=1, microbatches=1, seed=0,
        optimizer=OptimizerSpec(kind="sgd", learning_rate=2.0),
        schedule=ScheduleSpec(kind=kind, **fields))
    return [learning_rate(training, step) for step in range(count or steps)]


def test_constant_with_warmup():
    assert rates("constant", warmup_steps=4) == [0.5, 1.0, 1.5, 2.0] + [2.0] * 6


def test_linear_reaches_final_ratio_and_stays():
    measured = rates("linear", steps=10, count=14, warmup_steps=2, final_ratio=0.1)
    assert measured[:3] == [1.0, 2.0, 2.0]
    assert measured[6] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert measured[10:] == pytest.approx([0.2] * 4)


def test_cosine_is_torch_cosine():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.2)
    expected = []
    for _ in range(10):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates("cosine", final_ratio=0.1) == pytest.approx(expected)


def test_total_steps_shorter_than_job():
    measured = rates("linear", steps=10, total_steps=5)
    assert measured[5:] == [0.0] * 5


def test_warmup_as_long_as_the_job():
    assert rates("cosine", steps=4, warmup_steps=4) == [0.5, 1.0, 1.5, 2.0]


def test_unknown_kind():
    with pytest.raises(HomespunError) as caught:
        rates("sawtooth")
    assert caught.value.code == Code.INVALID_JOB
