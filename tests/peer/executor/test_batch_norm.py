"""BatchNormalization: torch's kernel, the shared semantics, and torch's own module agree."""

import pytest
import torch

from ir.graph import Node, TensorType
from ir.semantics.families import TABLE
from peer.executor.torch_executor.backend import TorchBackend
from peer.executor.torch_executor.implementations import IMPLEMENTATIONS
from peer.executor.torch_executor.run_state import RunState
from peer.executor.torch_executor.table import Call

CPU = torch.device("cpu")
SHAPES = [(4, 3), (4, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 2)]


def call_of(shape, training, momentum=0.0, dtype="float64"):
    attributes = {"epsilon": 1e-5, "momentum": momentum, "training_mode": 1}
    node = Node(0, "norm", "BatchNormalization", ("x", "s", "b", "m", "v"), ("y", "rm", "rv"),
                attributes)
    kind, statistics = TensorType(dtype, shape), TensorType(dtype, shape[1:2])
    return Call(node=node, inputs=(kind, *[statistics] * 4), outputs=(kind, statistics, statistics),
                constants=(None,) * 5, training=training, transposed=(False,) * 5,
                precision="float32", device=CPU, state=RunState(1, training=training))


def inputs_of(shape, dtype=torch.float64):
    torch.manual_seed(0)
    x, scale, bias, mean = (torch.randn(s, dtype=dtype) for s in (shape, *[shape[1]] * 3))
    return [x, scale, bias, mean, torch.rand(shape[1], dtype=dtype) + 0.5]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_kernel_equals_shared_semantics(shape, training, momentum):
    call, inputs = call_of(shape, training, momentum), inputs_of(shape)
    fast = IMPLEMENTATIONS["BatchNormalization"].build(call)(*inputs)
    plain = TABLE["BatchNormalization"].build(call, TorchBackend(CPU))(*inputs)
    for found, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_gradient(training):
    x, scale, bias, mean, variance = inputs_of((3, 2, 4))
    run = IMPLEMENTATIONS["BatchNormalization"].build(call_of((3, 2, 4), training))
    leaves = [value.requires_grad_() for value in (x, scale, bias)]
    assert torch.autograd.gradcheck(lambda *given: run(*given, mean, variance)[0], leaves)


@pytest.mark.parametrize("training", [True, False])
def test_equals_torch(training):
    x, scale, bias, mean, variance = inputs_of((4, 3, 5, 5), torch.float32)
    module = torch.nn.BatchNorm2d(3)
    module.load_state_dict({"weight": scale, "bias": bias, "running_mean": mean,
                            "running_var": variance, "num_batches_tracked": torch.tensor(0)})
    expected = module.train(training)(x)
    call = call_of((4, 3, 5, 5), training, dtype="float32")
    y, found_mean, found_variance = IMPLEMENTATIONS["BatchNormalization"].build(call)(
        x, scale, bias, mean, variance)
    torch.testing.assert_close(y, expected)
    if training:
        samples = 100
        mean = 0.9 * mean + 0.1 * found_mean
        variance = 0.9 * variance + 0.1 * found_variance * samples / (samples - 1)
    else:
        assert found_mean is mean
        assert found_variance is variance
    torch.testing.assert_close(mean, module.running_mean)
    torch.testing.assert_close(variance, module.running_var)


def test_one_sample_per_channel_has_no_variance():
    run = IMPLEMENTATIONS["BatchNormalization"].build(call_of((1, 3), True))
    _, mean, variance = run(*inputs_of((1, 3)))
    assert mean.isfinite().all()
    assert not variance.any()
