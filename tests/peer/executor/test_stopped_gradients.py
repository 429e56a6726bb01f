"""Models that stop a gradient train as torch trains them, on any cut."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from dag.job import OptimizerSpec
from homespun.errors import Code, HomespunError
from ir.frontends.torch_module import import_module

RATE = 0.5
COLUMNS = {"x": np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)}


class Quantised(nn.Module):
    """The nearest code, with the gradient of the input straight through (van den Oord 2017)."""

    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(6, 4), nn.Linear(4, 6)
        self.codes = nn.Parameter(torch.randn(5, 4))

    def forward(self, x):
        z = self.encode(x)
        code = self.codes[(z[:, None] - self.codes).square().sum(-1).argmin(1)]
        codebook = F.mse_loss(code, z.detach()) + 0.25 * F.mse_loss(z, code.detach())
        straight = z + (code - z).detach()
        return F.mse_loss(self.decode(straight), x) + codebook


class Guided(nn.Module):
    """A target computed without gradient from the same weights, which other terms train."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 6), nn.Linear(6, 6)
        self.only_there = nn.Linear(6, 6)

    def forward(self, x):
        hidden = torch.tanh(self.body(x))
        with torch.no_grad():
            target, same, width = self.only_there(torch.tanh(self.body(x + 1))), hidden, x.shape[1]
        weight = self.body.weight.detach().square().mean()
        return F.mse_loss(self.head(hidden), target) * weight + same.square().mean() / width


class Scaled(nn.Module):
    """A norm that is a constant for the gradient, in the middle of a chain."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
            x = x / x.detach().norm(dim=-1, keepdim=True) + x.detach()[:, :1]
        return x.square().mean()


class Gated(nn.Module):
    """SiLU and GELU whose gates are constants for the gradient: not what their kernels compute."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

    def forward(self, x):
        x = self.layers[0](x)
        x = self.layers[1](x * torch.sigmoid(x).detach())
        x = self.layers[2](0.5 * x * (1 + torch.erf(x / 2 ** 0.5).detach()))
        return x.square().mean()


def natively(model, pipeline):
    """Parameters after one step of gradient descent, and the loss."""
    total = 0.0
    for microbatch in range(2):
        data = {name: torch.from_numpy(rows) for name, rows in
                pipeline.data(0, microbatch).items()}
        loss = model(**data)
        (loss / 2).backward()
        total += loss.item() / 2
    return {name: (p - RATE * p.grad if p.grad is not None else p).detach().numpy()
            for name, p in model.named_parameters()}, total


@pytest.mark.parametrize("kind", [Quantised, Guided, Scaled, Gated])
def test_gradients_are_torch_s(lab, kind):
    torch.manual_seed(0)
    model = kind()
    job = lab.job_of(copy.deepcopy(model), lambda m, b: m(**b), COLUMNS, 2, clip_norm=0.0,
                     optimizer=OptimizerSpec(kind="sgd", learning_rate=RATE))
    assert job.graph.stopped
    trained = []
    for segments in (1, 3, 5):
        pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, segments))
        loss, _ = pipeline.step(0)
        trained.append(pipeline.parameters())
    expected, native_loss = natively(model, pipeline)
    assert loss == pytest.approx(native_loss, rel=1e-6)
    for name, value in trained[0].items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    moved = [name for name, value in expected.items()
             if np.abs(value - job.parameters[name]).max() > 1e-3]
    assert len(moved) >= 4
    assert lab.different(trained[0], trained[1]) == []
    assert lab.different(trained[0], trained[2]) == []


class Silu(nn.Module):
    """`y * sigmoid(y)`, as its definition says or with the gate detached."""

    def __init__(self, detached):
        super().__init__()
        self.enter, self.leave, self.detached = nn.Linear(6, 6), nn.Linear(6, 6), detached

    def forward(self, x):
        y = self.enter(x)
        gate = torch.sigmoid(y)
        return self.leave(y * (gate.detach() if self.detached else gate)).square().mean()


@pytest.mark.parametrize("segments", [1, 3])
def test_no_kernel_runs_over_a_stopped_value(lab, segments):
    """A graph may stop what `Sigmoid` itself gives; front ends put an `Identity` behind it."""
    torch.manual_seed(0)
    model = Silu(detached=False)
    job = lab.job_of(copy.deepcopy(model), lambda m, b: m(**b), COLUMNS, 2, clip_norm=0.0,
                     optimizer=OptimizerSpec(kind="sgd", learning_rate=RATE))
    (gate,) = (node.outputs[0] for node in job.graph.nodes if node.op_type == "Sigmoid")
    job.graph = replace(job.graph, stopped=frozenset({gate}))
    pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, segments))
    loss, _ = pipeline.step(0)
    model.detached = True
    expected, native_loss = natively(model, pipeline)
    assert loss == pytest.approx(native_loss, rel=1e-6)
    for name, value in pipeline.parameters().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def detached_in_place(x, w):
    return ((x * w).detach_() + w).mean()


def changed_after_detach(x, w):
    y = x * w
    y.detach()[0].zero_()
    return (y * w).mean()


def changed_without_gradient(x, w):
    y = x * w
    with torch.no_grad():
        y.mul_(2)
    return (y * w).mean()


@pytest.mark.parametrize(
    "function", [detached_in_place, changed_after_detach, changed_without_gradient])
def test_what_depends_on_memory_is_refused(function):
    model = nn.Module()
    model.w = nn.Parameter(torch.ones(6))
    sample = {"x": torch.from_numpy(COLUMNS["x"])}
    with pytest.raises(HomespunError, match="in place") as caught:
        import_module(model, lambda m, b: function(b["x"], m.w), sample)
    assert caught.value.code is Code.UNSUPPORTED_OP
