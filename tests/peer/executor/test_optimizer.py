"""The update rule: torch's numbers, and no influence of one tensor on another."""

import pytest
import torch

from dag.job import OptimizerSpec
from homespun.errors import Code, HomespunError
from peer.executor.torch_executor.optimizer import apply_gradients, make_optimizer
from peer.executor.torch_executor.parameters import squared_norm

SPECS = [
    OptimizerSpec(kind="sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    OptimizerSpec(kind="adam", learning_rate=0.1, weight_decay=0.1),
    OptimizerSpec(kind="adamw", learning_rate=0.1, weight_decay=0.1),
]


def tensors(seed, count=5):
    generator = torch.Generator().manual_seed(seed)
    return {str(i): torch.randn(3 + 7 * i, 5, generator=generator) for i in range(count)}


def updated(spec, names, steps=3):
    values = {name: tensors(0)[name] for name in names}
    optimizer = make_optimizer(spec, list(values.values()))
    for step in range(steps):
        gradients = {name: tensors(1 + step)[name] for name in names}
        apply_gradients(optimizer, values, gradients, 0.05, 0.5)
    return values


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_grouping_changes_no_bit(spec):
    together = updated(spec, ["0", "1", "2", "3", "4"])
    for names in (["3"], ["4", "1"], ["0", "2", "3"]):
        apart = updated(spec, names)
        assert all(torch.equal(apart[name], together[name]) for name in names)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_without_gradient_nothing_moves(spec):
    values = tensors(0)
    optimizer = make_optimizer(spec, list(values.values()))
    apply_gradients(optimizer, values, {"2": torch.ones_like(values["2"])}, 0.05, 1.0)
    moved = [name for name, value in values.items() if not torch.equal(value, tensors(0)[name])]
    assert moved == ["2"]


def test_no_parameters_no_optimizer():
    assert make_optimizer(SPECS[0], []) is None
    apply_gradients(None, {}, {}, 0.1, 1.0)


@pytest.mark.parametrize("spec", [
    OptimizerSpec(kind="lion", learning_rate=0.1), OptimizerSpec(kind="sgd", learning_rate=-1.0)])
def test_bad_spec(spec):
    with pytest.raises(HomespunError) as caught:
        make_optimizer(spec, [torch.zeros(1)])
    assert caught.value.code == Code.INVALID_JOB


@pytest.mark.parametrize("shape", [(), (0,), (7, 9), (300, 700)])
def test_squared_norm(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = values.double().square().sum().item()
    assert squared_norm(values).item() == pytest.approx(expected, rel=1e-13)
