"""PyTorch modules with open axes: one trace, bound to several sizes, each as if traced at it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from homespun.errors import Code, HomespunError
from ir.check import check
from ir.frontends.torch_module import import_module, read_module
from tests.pipeline import loss_and_gradients

AXES = {"tokens": {0: "batch", 1: "sequence"}}


class Attentive(nn.Module):
    """Embedding, positions, causal attention, a head."""

    def __init__(self):
        super().__init__()
        self.embed, self.places = nn.Embedding(11, 8), nn.Embedding(32, 8)
        self.project, self.head = nn.Linear(8, 24), nn.Linear(8, 11)

    def forward(self, tokens):
        x = self.embed(tokens) + self.places(torch.arange(tokens.shape[1]))
        heads = [part.unflatten(-1, (2, 4)).transpose(1, 2)
                 for part in self.project(x).chunk(3, -1)]
        y = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        return self.head(y.transpose(1, 2).flatten(2))


def loss(model, batch):
    tokens = batch["tokens"]
    logits = model(tokens[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def tokens(batch, length):
    return {"tokens": np.random.default_rng(1).integers(0, 11, (batch, length))}


def value_of(imported, data):
    feeds = {p.name: p.value for p in imported.parameters} | data
    return float(ReferenceEvaluator(imported.graph_bytes).run(None, feeds)[0])


@pytest.fixture(scope="module")
def open_model():
    torch.manual_seed(0)
    model = Attentive()
    return model, read_module(model, loss, tokens(4, 7), AXES)


def test_axes_keep_their_names(open_model):
    assert open_model[1].inputs == {"tokens": ("batch", "sequence")}


@pytest.mark.parametrize(("batch", "length"), [(4, 7), (2, 9), (1, 5)])
def test_each_size_computes_what_the_module_does(open_model, batch, length):
    model, symbolic = open_model
    data = tokens(batch, length)
    imported = symbolic.bind({"batch": batch, "sequence": length})
    check(imported.graph)
    assert imported.graph.outputs == ("loss",)
    assert set(imported.graph.parameters) == set(model.state_dict())
    wanted = loss(model, {"tokens": torch.from_numpy(data["tokens"])}).item()
    assert value_of(imported, data) == pytest.approx(wanted, rel=1e-5)
    traced = import_module(model, loss, data)
    assert value_of(traced, data) == pytest.approx(wanted, rel=1e-5)


class Detached(nn.Module):
    """Stops gradients of tensors with open axes: detached, without gradient, of a padding row."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(11, 8, padding_idx=0), nn.Linear(8, 8)

    def forward(self, tokens):
        x = self.embed(tokens)
        with torch.no_grad():
            target = self.head(x)
        y = self.head(x / x.detach().norm(dim=-1, keepdim=True).clamp(min=1.0))
        return (y - target).square().mean() + (y.sum(1) * y.sum(1).detach()).mean()


@pytest.mark.parametrize(("batch", "length"), [(2, 9), (5, 3)])
def test_gradients_stop_at_each_size(batch, length):
    torch.manual_seed(0)
    model = Detached()
    symbolic = read_module(model, lambda m, b: m(**b), tokens(4, 7), AXES)
    assert symbolic.inputs == {"tokens": ("batch", "sequence")}
    imported = symbolic.bind({"batch": batch, "sequence": length})
    data = tokens(batch, length)
    assert (data["tokens"] == 0).any()
    assert {imported.graph.types[name].shape for name in imported.graph.stopped} == {
        (batch, length, 8), (batch, 8)}
    native = model(torch.from_numpy(data["tokens"]))
    native.backward()
    loss, gradients = loss_and_gradients(imported, data)
    assert loss == pytest.approx(native.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(
            gradients[name], parameter.grad.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)
    assert not gradients["embed.weight"][0].any()


def test_a_column_that_is_not_there_is_refused():
    with pytest.raises(HomespunError, match="'words'") as caught:
        read_module(Attentive(), loss, tokens(4, 7), {"words": {0: "batch"}})
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_an_axis_that_the_model_fixes_is_refused():
    def fixed(model, batch):
        return model(batch["tokens"].reshape(4, -1)).mean()

    with pytest.raises(HomespunError) as caught:
        read_module(Attentive(), fixed, tokens(4, 7), {"tokens": {0: "batch"}})
    assert caught.value.code == Code.EXPORT_FAILED
