from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from dag.job import OptimizerSpec, ScheduleSpec
from homespun import SGD, Adam, AdamW, Constant, Cosine, Linear
from homespun.errors import Code, HomespunError


def test_specs_carry_every_number() -> None:
    assert AdamW(lr=3e-4, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1).to_spec() == OptimizerSpec(
        kind="adamw", learning_rate=3e-4, beta1=0.8, beta2=0.95, epsilon=1e-6, weight_decay=0.1)
    assert Adam(lr=1).to_spec() == OptimizerSpec(kind="adam", learning_rate=1.0)
    assert SGD(lr=0.1, momentum=0.9, nesterov=True).to_spec() == OptimizerSpec(
        kind="sgd", learning_rate=0.1, momentum=0.9, nesterov=True)


def test_defaults_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    weight = [torch.nn.Parameter(torch.zeros(1))]
    for ours, theirs in ((AdamW(), torch.optim.AdamW(weight)), (Adam(), torch.optim.Adam(weight))):
        spec, defaults = ours.to_spec(), theirs.defaults
        assert (spec.learning_rate, (spec.beta1, spec.beta2), spec.epsilon, spec.weight_decay) == (
            defaults["lr"], defaults["betas"], defaults["eps"], defaults["weight_decay"])
    defaults = torch.optim.SGD(weight).defaults
    spec = SGD().to_spec()
    assert (spec.learning_rate, spec.momentum, spec.weight_decay, spec.nesterov) == (
        defaults["lr"], defaults["momentum"], defaults["weight_decay"], defaults["nesterov"])


def test_schedules() -> None:
    assert Constant(warmup_steps=5).to_spec() == ScheduleSpec(kind="constant", warmup_steps=5)
    assert Linear(final_ratio=0.1).to_spec() == ScheduleSpec(kind="linear", final_ratio=0.1)
    assert Cosine(warmup_steps=10, total_steps=100).to_spec() == ScheduleSpec(
        kind="cosine", warmup_steps=10, total_steps=100)


@pytest.mark.parametrize(("make", "named"), [
    (lambda: AdamW(lr=-1e-3), "lr"), (lambda: AdamW(lr=math.nan), "lr"),
    (lambda: Adam(lr="fast"), "lr"), (lambda: Adam(betas=(0.9, 1.0)), "beta2"),
    (lambda: Adam(betas=0.9), "betas"), (lambda: AdamW(eps=-1), "eps"),
    (lambda: AdamW(weight_decay=math.inf), "weight_decay"), (lambda: SGD(momentum=1.5), "momentum"),
    (lambda: SGD(nesterov=True), "momentum"), (lambda: Linear(final_ratio=2), "final_ratio"),
    (lambda: Cosine(warmup_steps=-1), "warmup_steps"),
    (lambda: Constant(warmup_steps=1.5), "warmup_steps"),
    (lambda: SGD(lr=True), "lr"),
])
def test_numbers_out_of_range_are_refused_by_name(make: Callable[[], object], named: str) -> None:
    with pytest.raises(HomespunError) as caught:
        make()
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert named in caught.value.message
