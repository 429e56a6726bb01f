"""Inference on any cut: every output once, with the bits of one segment, as the model gives it."""

import numpy as np
import pytest
import torch
from torch import nn

from dag.job import inference_spec
from ir.cut import cut
from ir.frontends.torch_module import import_inference
from ir.graph import INFER
from peer.executor.base import SegmentProgram, WorkKey
from peer.executor.registry import create
from tests.pipeline import infer


class Heads(nn.Module):
    """Outputs from the beginning, the middle and the end, one of them a scalar."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        mask = x > 0
        first = self.drop(torch.tanh(self.layers[0](x)))
        middle = self.layers[2](torch.relu(self.layers[1](first))) + first
        last = self.layers[3](torch.where(mask, middle, x))
        return {"last": last, "first": first, "mask": mask, "mean": middle.mean(),
                "label": last.argmax(1)}


@pytest.fixture(scope="module")
def exported():
    torch.manual_seed(0)
    model = Heads()
    data = {"x": np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)}
    return model, data, import_inference(model, data)


def test_every_cut_gives_the_same_bits_and_what_the_model_gives(lab, exported):
    model, data, imported = exported
    placed = lab.placed_nodes(imported.graph)
    whole = infer(imported, data, [placed], "torch")
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(data["x"]))
    for name, tensor in expected.items():
        np.testing.assert_allclose(whole[name], tensor.numpy(), atol=1e-6)
    for count in range(2, len(placed) + 1):
        pieces = infer(imported, data, lab.contiguous_parts(imported.graph, count), "torch")
        assert lab.different(whole, pieces) == []


def test_the_null_executor_gives_every_output_in_its_type(lab, exported):
    _, data, imported = exported
    results = infer(imported, data, lab.contiguous_parts(imported.graph, 3), "null")
    for name, array in results.items():
        wanted = imported.graph.types[name]
        assert (array.dtype.name, array.shape) == (wanted.dtype, wanted.shape)
        assert not array.any()


def test_a_segment_keeps_nothing_of_an_inference(lab, exported):
    _, data, imported = exported
    (segment,) = cut(imported.graph, [lab.placed_nodes(imported.graph)], frozenset(), INFER)
    program = SegmentProgram(
        graph=imported.graph, segment=segment, training=inference_spec(4, 4),
        trainable=frozenset(), kind=INFER)
    loaded = create("torch", "cpu", 1).load(
        program, {p.name: p.value for p in imported.parameters})
    first = loaded.forward(
        WorkKey(mode="infer", step=0, microbatch=0), data, {}).results
    again = loaded.forward(WorkKey(mode="infer", step=0, microbatch=9), data, {}).results
    assert lab.different(first, again) == []
    assert not loaded._kept
