"""`ir.frontends.torch_module`: names, ties, dropout, numbers, refusals."""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn import functional as F  # noqa: N812

from examples.transformer import Transformer, language_loss
from homespun.errors import Code, HomespunError
from ir.check import check
from ir.frontends.imported import Imported
from ir.frontends.torch_module import import_module
from ir.frontends.torch_step import compares_predictions
from ir.graph import Graph
from ir.serde import dump, load

Loss = nn.Module | Callable[..., torch.Tensor]
TOKENS = {"tokens": torch.arange(34).reshape(2, 17) * 7 % 64}
PAIRS = {"x": torch.linspace(-1, 1, 32).reshape(4, 8), "y": torch.linspace(0, 1, 4)}
IMAGES = {
    "image": torch.linspace(-2, 2, 4 * 3 * 14 * 14).sin().reshape(4, 3, 14, 14),
    "label": torch.tensor([1, 7, 3, 9]),
}


class GPTBlock(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.act, self.drop = nn.GELU(approximate="tanh"), nn.Dropout(dropout)

    def forward(self, x):
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, -1).transpose(1, 2)
            for part in self.attn(self.ln_1(x)).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.rate)
        x = x + self.drop(self.proj(y.transpose(1, 2).reshape(batch, time, width)))
        return x + self.drop(self.out(self.act(self.fc(self.ln_2(x)))))


class GPT(nn.Module):
    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(64, 32), nn.Embedding(16, 32)
        self.h = nn.ModuleList(GPTBlock(32, 4, dropout) for _ in range(2))
        self.ln_f, self.lm_head = nn.LayerNorm(32), nn.Linear(32, 64, bias=False)
        nn.init.normal_(self.wte.weight, std=0.02)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class CNN(nn.Module):
    def __init__(self, norm: nn.Module | None = None):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = norm or nn.Identity()
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2)
        self.head = nn.Linear(16 * 3 * 3, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv1(x))), 2)
        return self.head(F.relu(self.conv2(x)).flatten(1))


class SkipMLP(nn.Module):
    """With a buffer, a frozen layer, and a layer that forward does not use."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 1)
        self.unused = nn.Linear(2, 2)
        self.b.weight.requires_grad_(False)
        self.register_buffer("scale", torch.full((16,), 0.5))
        self.register_buffer("offset", torch.full((16,), 0.1), persistent=False)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        h = h + F.relu(self.b(h)) * self.scale + self.offset
        return self.c(h).squeeze(-1)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, left, right):
        return self.encoder(left), self.encoder(right)


def contrastive(model, batch):
    left, right = (F.normalize(z, dim=-1) for z in model(batch["left"], batch["right"]))
    logits = left @ right.T / 0.07
    return F.cross_entropy(logits, torch.arange(len(logits)))


def language_model(**options) -> Transformer:
    return Transformer(vocab=64, width=32, layers=2, heads=4, hidden=64, context=16, **options)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph.nodes)


def evaluate(imported: Imported, sample: Mapping[str, torch.Tensor]) -> float:
    """The loss as ONNX's own reference computes it."""
    feeds = {name: sample[name].numpy() for name in imported.graph.inputs}
    used = set(imported.graph.parameters)
    feeds |= {p.name: p.value for p in imported.parameters if p.name in used}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = ReferenceEvaluator(onnx.load_from_string(imported.graph_bytes))
        return float(session.run(None, feeds)[0])


def native(model: nn.Module, loss: Loss, sample: Mapping[str, torch.Tensor]) -> float:
    model.train()
    with torch.no_grad():
        if compares_predictions(loss):
            *inputs, target = sample.values()
            return float(loss(model(*inputs), target))
        return float(loss(model, dict(sample)))


SIDES = {"left": PAIRS["x"], "right": PAIRS["x"].flip(0)}
ZOO = {
    "transformer": (language_model, language_loss, TOKENS),
    "transformer, untied": (lambda: language_model(tied=False), language_loss, TOKENS),
    "gpt": (GPT, language_loss, TOKENS),
    "cnn": (CNN, nn.CrossEntropyLoss(), IMAGES),
    "cnn with group norm": (lambda: CNN(nn.GroupNorm(2, 8)), nn.CrossEntropyLoss(), IMAGES),
    "label smoothing": (CNN, nn.CrossEntropyLoss(label_smoothing=0.1), IMAGES),
    "weights, smoothing, ignored": (
        CNN, nn.CrossEntropyLoss(torch.linspace(0.5, 2, 10), ignore_index=7, label_smoothing=0.2),
        IMAGES),
    "probabilities": (
        CNN, nn.CrossEntropyLoss(),
        {"image": IMAGES["image"], "p": torch.linspace(-1, 1, 40).reshape(4, 10).softmax(-1)}),
    "mlp": (SkipMLP, nn.MSELoss(), PAIRS),
    "functional loss": (SkipMLP, F.smooth_l1_loss, PAIRS),
    "binary": (
        SkipMLP, nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0)), PAIRS),
    "binary, far out": (
        SkipMLP,
        lambda m, b: F.binary_cross_entropy_with_logits(m(b["x"]) * 1e4, b["y"]), PAIRS),
    "log of a sigmoid, far out": (
        SkipMLP, lambda m, b: -F.logsigmoid(m(b["x"]) * 1e4).mean(),
        {"x": PAIRS["x"]}),
    "siamese": (Siamese, contrastive, SIDES),
    "tiny epsilon": (
        SkipMLP, lambda m, b: (m(b["x"]) / ((b["y"] * 0).abs() + 1e-9)).mean() * 1e-9, PAIRS),
}


@functools.cache
def zoo(name: str) -> tuple[nn.Module, Loss, Mapping[str, torch.Tensor], Imported]:
    """A model of the zoo and its import; exporting is the slow part, so once each."""
    build, loss, sample = ZOO[name]
    torch.manual_seed(0)
    model = build()
    return model, loss, sample, import_module(model, loss, sample)


@pytest.mark.parametrize("name", ZOO)
def test_graph_computes_the_native_loss(name: str):
    model, loss, sample, imported = zoo(name)
    expected = native(model, loss, sample)
    assert evaluate(imported, sample) == pytest.approx(expected, rel=1e-6)
    check(imported.graph)


@pytest.mark.parametrize("name", ZOO)
def test_names_are_those_of_the_state_dict(name: str):
    model, _, _, imported = zoo(name)
    names = [n for p in imported.parameters for n in (p.name, *p.aliases)]
    assert sorted(names) == sorted(model.state_dict())
    first = [p.name for p in imported.parameters]
    assert first == [n for n in model.state_dict() if n in set(first)]
    assert imported.graph.parameters == tuple(n for n in first if n in imported.graph.parameters)
    state = model.state_dict()
    for parameter in imported.parameters:
        assert np.array_equal(parameter.value, state[parameter.name].numpy())
        assert parameter.value.flags.c_contiguous


@pytest.mark.parametrize("name", ["transformer", "cnn", "mlp", "siamese"])
def test_same_model_gives_same_bytes(name: str):
    model, loss, sample, imported = zoo(name)
    first = imported.graph_bytes
    assert import_module(model, loss, sample).graph_bytes == first
    assert dump(load(first)) == first


def test_bytes_do_not_depend_on_weights_and_hold_none():
    first = zoo("transformer")[-1].graph_bytes
    torch.manual_seed(1)
    other = language_model()
    assert import_module(other, language_loss, TOKENS).graph_bytes == first
    largest = max(array.nbytes for array in load(first).constants.values())
    assert largest <= other.cosine.numel() * 4


def test_bytes_name_no_file_of_the_submitter():
    data = zoo("transformer")[-1].graph_bytes
    assert b".py" not in data
    assert b"torch" not in data


def test_transformer_is_made_of_fused_nodes():
    graph = import_module(language_model(dropout=0.1), language_loss, TOKENS).graph
    count = operators(graph)
    assert count["Attention"] == 2
    assert count["RMSNormalization"] == 5
    assert count["SoftmaxCrossEntropyLoss"] == 1
    assert count["MatMul"] == 2 * 5 + 1
    assert not {"Sqrt", "Reciprocal", "ReduceMean", "Softmax", "Identity"} & set(count)
    attention = next(node for node in graph.nodes if node.op_type == "Attention")
    assert attention.attributes["is_causal"] == 1


def test_gpt_is_made_of_fused_nodes():
    count = operators(zoo("gpt")[-1].graph)
    assert count["Attention"] == 2
    assert count["LayerNormalization"] == 5
    assert count["Gelu"] == 2


def test_nodes_are_called_after_their_modules():
    graph = zoo("transformer")[-1].graph
    names = [node.name for node in graph.nodes if node.op_type == "MatMul"]
    assert [name.rpartition("/")[0] for name in names] == [
        f"blocks.{block}.{layer}" for block in (0, 1)
        for layer in ("qkv", "out", "gate", "up", "down")
    ] + ["head"]
    assert graph.outputs == ("loss",)
    assert graph.inputs == ("tokens",)


def test_parameters_of_equal_value_stay_separate():
    imported = zoo("transformer")[-1]
    ones = [p.name for p in imported.parameters if (p.value == 1).all()]
    assert len(ones) == 5
    assert set(ones) <= set(imported.graph.parameters)
    read = Counter(name for node in imported.graph.nodes for name in node.inputs)
    assert all(read[name] == 1 for name in ones)


def test_tied_weights_are_one_input():
    tied = zoo("transformer")[-1]
    embed = tied.parameters[0]
    assert (embed.name, embed.aliases) == ("embed.weight", ("head.weight",))
    assert "head.weight" not in tied.graph.parameters
    readers = [n.op_type for n in tied.graph.nodes if "embed.weight" in n.inputs]
    assert readers == ["Gather", "Transpose"]

    untied = zoo("transformer, untied")[-1]
    assert {"embed.weight", "head.weight"} <= set(untied.graph.parameters)
    assert all(not parameter.aliases for parameter in untied.parameters)


def test_dropout_stays_and_no_two_are_merged():
    def twice(model, batch):
        h = model.a(batch["x"])
        return (F.dropout(h, 0.5) * F.dropout(h, 0.5)).mean()

    graph = import_module(SkipMLP().eval(), twice, PAIRS).graph
    dropouts = [node for node in graph.nodes if node.op_type == "Dropout"]
    assert len(dropouts) == 2
    for node in dropouts:
        _, ratio, training_mode = node.inputs
        assert graph.constants[ratio] == np.float32(0.5)
        assert graph.constants[training_mode] == np.True_

    graph = import_module(GPT(dropout=0.1), language_loss, TOKENS).graph
    assert operators(graph)["Dropout"] == 2 * 3  # attention weights, and twice `drop`


def test_dropout_in_place_is_still_dropout():
    model = nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.5, inplace=True))
    imported = import_module(model, lambda m, b: m(b["x"]).mean(), {"x": PAIRS["x"]})
    assert operators(imported.graph)["Dropout"] == 1
    assert model[1].inplace


def test_unused_and_frozen_parameters_and_buffers_are_reported():
    imported = zoo("mlp")[-1]
    trainable = {p.name: p.trainable for p in imported.parameters}
    assert trainable["unused.weight"] is True
    assert "unused.weight" not in imported.graph.parameters
    assert trainable["b.weight"] is False
    assert trainable["scale"] is False
    assert {"b.weight", "scale"} <= set(imported.graph.parameters)
    assert "offset" not in trainable


def test_model_is_left_as_it_was():
    model = GPT(dropout=0.1)
    model.h[0].eval()
    model.wpe.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    grads = [p.requires_grad for p in model.parameters()]
    identities = [id(p) for p in model.parameters()]
    values = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()

    import_module(model, language_loss, TOKENS)

    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == grads
    assert [id(p) for p in model.parameters()] == identities
    assert all(torch.equal(values[n], v) for n, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_model_is_left_as_it_was_after_a_failure():
    model = SkipMLP().eval()
    with pytest.raises(HomespunError):
        import_module(model, lambda m, b: m(b["x"]).mean().item(), PAIRS)
    assert not any(module.training for module in model.modules())


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]):
    import_module(language_model(), language_loss, TOKENS)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_parameter_may_be_called_like_a_value_of_the_exporter():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Parameter(torch.ones(4, 8))
            self.add = nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return (F.linear(x, self.linear) + self.add).sum(-1)

    model = Odd()
    imported = import_module(model, nn.MSELoss(), PAIRS)
    assert imported.graph.parameters == ("linear", "add")
    assert evaluate(imported, PAIRS) == pytest.approx(native(model, nn.MSELoss(), PAIRS), rel=1e-6)


def test_bfloat16_parameters():
    model = SkipMLP().bfloat16()
    sample = {name: column.bfloat16() for name, column in PAIRS.items()}
    imported = import_module(model, nn.MSELoss(), sample)
    value = {parameter.name: parameter.value for parameter in imported.parameters}["a.weight"]
    assert value.dtype.name == "bfloat16"
    assert np.array_equal(value.astype(np.float32), model.a.weight.detach().float().numpy())
    assert imported.graph.types["a.weight"].dtype == "bfloat16"


def test_half_precision_norm_with_float32_inside_is_fused():
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(0.5, 1.5, 8))

        def forward(self, x):
            wide = x.float()
            unit = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
            return self.weight * unit.to(x.dtype)

    model, sample = Norm().half(), {"x": PAIRS["x"].half()}

    def loss(model, batch):
        return model(batch["x"]).float().square().mean()

    imported = import_module(model, loss, sample)
    assert operators(imported.graph)["RMSNormalization"] == 1
    assert operators(imported.graph)["Sqrt"] == 0
    assert evaluate(imported, sample) == pytest.approx(native(model, loss, sample), rel=1e-3)


def test_numpy_columns_are_accepted():
    imported = import_module(
        language_model(), language_loss, {"tokens": TOKENS["tokens"].numpy()})
    assert imported.graph.types["tokens"].shape == (2, 17)


OUTSIDE = nn.Linear(8, 8)


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class WeightedLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, predicted, target):
        return (predicted - target).square().mean() * self.weight


def shared_memory() -> nn.Module:
    model = SkipMLP()
    model.twin = nn.Linear(8, 16)
    model.twin.weight = nn.Parameter(model.a.weight.data)
    return model


TAGS = {"ids": torch.tensor([1, 2, 1]), "y": torch.tensor([0, 1, 2])}


def tagger(frozen: bool = False, **options: object) -> nn.Module:
    model = nn.Sequential(nn.Embedding(5, 4, **options), nn.Linear(4, 3))
    model[0].weight.requires_grad_(not frozen)
    return model


REFUSED = {
    "bounded table": (
        lambda: tagger(max_norm=1.0), nn.CrossEntropyLoss(), TAGS, Code.UNSUPPORTED_OP,
        "max_norm"),
    "frozen bounded table": (
        lambda: tagger(frozen=True, max_norm=1.0), nn.CrossEntropyLoss(), TAGS,
        Code.UNSUPPORTED_OP, "max_norm"),
    "gradient by frequency": (
        lambda: tagger(scale_grad_by_freq=True), nn.CrossEntropyLoss(), TAGS,
        Code.UNSUPPORTED_OP, "scale_grad_by_freq"),
    "sparse gradient": (
        lambda: tagger(sparse=True), nn.CrossEntropyLoss(), TAGS, Code.UNSUPPORTED_OP, "sparse"),
    "own backward": (SkipMLP, lambda m, b: Rounded.apply(m(b["x"])).mean(), PAIRS,
                     Code.UNSUPPORTED_OP, "Rounded"),
    "weight outside": (SkipMLP, lambda m, b: m(OUTSIDE(b["x"])).mean(), PAIRS,
                       Code.INVALID_ARGUMENT, "defined outside"),
    "loss with weights": (SkipMLP, WeightedLoss(), PAIRS,
                          Code.INVALID_ARGUMENT, "weight of the loss"),
    "shared memory": (shared_memory, nn.MSELoss(), PAIRS, Code.INVALID_ARGUMENT, "'twin.weight'"),
    "vector loss": (SkipMLP, lambda m, b: m(b["x"]), PAIRS, Code.INVALID_ARGUMENT, "(4,)"),
    "no tensor": (SkipMLP, lambda m, b: {"loss": m(b["x"])}, PAIRS, Code.INVALID_ARGUMENT, "dict"),
    "branch on data": (
        SkipMLP, lambda m, b: m(b["x"]).mean() if b["y"].sum() > 0 else m(b["x"]).sum(), PAIRS,
        Code.EXPORT_FAILED, "data-dependent"),
    "error in the model": (SkipMLP, lambda m, b: m(b["z"]).mean(), PAIRS,
                           Code.EXPORT_FAILED, "KeyError: 'z'"),
    "no columns": (SkipMLP, nn.MSELoss(), {}, Code.INVALID_ARGUMENT, "no columns"),
    "unequal rows": (SkipMLP, nn.MSELoss(), {"x": PAIRS["x"], "y": torch.zeros(3)},
                     Code.INVALID_ARGUMENT, "'y': 3"),
    "column called like a parameter": (
        SkipMLP, nn.MSELoss(), {"scale": PAIRS["x"], "y": PAIRS["y"]},
        Code.INVALID_ARGUMENT, "'scale'"),
    "complex column": (SkipMLP, nn.MSELoss(), {"x": PAIRS["x"] * 1j, "y": PAIRS["y"]},
                       Code.INVALID_ARGUMENT, "complex64"),
    "meta device": (lambda: SkipMLP().to("meta"), nn.MSELoss(), PAIRS,
                    Code.INVALID_ARGUMENT, "meta"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str):
    build, loss, sample, code, words = REFUSED[name]
    with pytest.raises(HomespunError) as caught:
        import_module(build(), loss, sample)
    assert caught.value.code == code
    assert words in caught.value.message


def test_gradient_stopped_before_frozen_parameters_is_fine():
    teacher = SkipMLP()

    def distil(model, batch):
        with torch.no_grad():
            target = teacher(batch["x"])
        return F.mse_loss(model(batch["x"]), target) + F.mse_loss(model.c.bias, target[:1].detach())

    model = SkipMLP()
    imported = import_module(model, distil, {"x": PAIRS["x"]})
    assert evaluate(imported, PAIRS) == pytest.approx(native(model, distil, PAIRS), rel=1e-6)
