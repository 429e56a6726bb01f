"""`import_inference`: what a model returns becomes named outputs, in evaluation mode."""

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from homespun.errors import Code, HomespunError
from ir.check import check
from ir.frontends.torch_module import import_inference
from ir.graph import INFER
from ir.serde import dump

SAMPLE = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)}


class Returns(nn.Module):
    """A layer with dropout whose result is put into a form."""

    def __init__(self, form):
        super().__init__()
        self.layer, self.dropout, self.form = nn.Linear(3, 2), nn.Dropout(0.5), form

    def forward(self, x):
        return self.form(x, self.dropout(self.layer(x)))


def run(imported, model):
    """Outputs of the graph in ONNX's own interpreter, and of the model in evaluation mode."""
    feed = {p.name: p.value for p in imported.parameters} | SAMPLE
    found = ReferenceEvaluator(dump(imported.graph)).run(None, feed)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(SAMPLE["x"]))
    return found, expected


@pytest.mark.parametrize(("form", "names"), [
    (lambda x, y: y, ["output_0"]),
    (lambda x, y: (y, None, y.mean()), ["output_0", "output_2"]),
    (lambda x, y: [y.argmax(1)], ["output_0"]),
    (lambda x, y: {"y": y, "hidden": None, "same": y, "given": x}, ["y", "same", "given"]),
])
def test_outputs_are_named_and_right(form, names):
    model = Returns(form)
    imported = import_inference(model, SAMPLE)
    assert model.training
    assert list(imported.graph.outputs) == names
    assert all(node.op_type != "Dropout" for node in imported.graph.nodes)
    check(imported.graph, INFER)
    found, expected = run(imported, model)
    if isinstance(expected, torch.Tensor):
        expected = [expected]
    values = expected.values() if isinstance(expected, dict) else expected
    for array, tensor in zip(found, [v for v in values if v is not None], strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), atol=1e-6)


class TwoColumns(nn.Module):
    def forward(self, x, y):
        return {"deep": (x - y, {"er": x + y}), "top": x * 1}


def test_nested_outputs_and_columns_by_name():
    imported = import_inference(TwoColumns(), {"y": SAMPLE["x"] * 2, "x": SAMPLE["x"]})
    assert imported.graph.outputs == ("deep.0", "deep.1.er", "top")
    feed = {"y": SAMPLE["x"] * 2, "x": SAMPLE["x"]}
    found = ReferenceEvaluator(dump(imported.graph)).run(None, feed)
    np.testing.assert_array_equal(found[0], -SAMPLE["x"])
    np.testing.assert_array_equal(found[1], 3 * SAMPLE["x"])


def test_an_attention_module_takes_no_fused_kernel():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.TransformerEncoderLayer(3, 1, 8, batch_first=True))
    imported = import_inference(model, SAMPLE)
    check(imported.graph, INFER)
    (found,), expected = run(imported, model)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(("form", "words"), [
    (lambda x, y: "text", "'output_0': 'str'"),
    (lambda x, y: (y, {"deep": "text"}), "'output_1.deep': 'str'"),
    (lambda x, y: (None,), "returned tuple"),
    (lambda x, y: {"x": y}, "'x' has the name of a column"),
])
def test_other_results_are_refused(form, words):
    with pytest.raises(HomespunError, match=words) as caught:
        import_inference(Returns(form), SAMPLE)
    assert caught.value.code is Code.INVALID_ARGUMENT
