"""Operations, parameters and bytes of published transformers: by hand, and against `ir.cost`."""

from __future__ import annotations

import pytest
import torch

from benchmarks.rtx3080_vs_h100 import Fleet, h100, home, planned
from benchmarks.transformer_shapes import SHAPES, Shape, break_even_bytes_per_s, chain
from dag.mapping.build import DeviceCosts, LinkCosts
from dag.placement import Refusal
from dag.replicas.replicate import Replicated
from examples.transformer import Transformer, language_loss
from ir.cost import node_cost, parameter_bytes
from ir.frontends.torch_module import import_module
from ir.operators import OpClass

GPT2, LLAMA_7B, LLAMA_65B, GPT3 = SHAPES
BERT_LARGE = Shape(
    name="BERT-Large", width=1024, layers=24, sequence=512, vocabulary=30522, inner=4096,
    is_gated=False, positions=512, batch=256)
ON = [DeviceCosts(id="gpu", memory_bytes=1e15)]


@pytest.mark.parametrize(("shape", "billions"), [
    (GPT2, 1.557), (LLAMA_7B, 6.738), (LLAMA_65B, 65.28), (GPT3, 174.6)])
def test_parameters_are_the_published_ones(shape, billions):
    is_tied = shape.positions > 0  # the GPTs use the embedding as head
    counted = shape.parameters - is_tied * shape.vocabulary * shape.width
    assert counted / 1e9 == pytest.approx(billions, rel=1e-3)


def test_a_layer_of_gpt_by_hand():
    h, s = 12288, 2048
    assert GPT3.layer_flops == 24 * h * h * s + 4 * s * s * h
    assert GPT3.layer_parameters == 12 * h * h
    assert GPT3.hop_bytes == 50_331_648


def test_a_gated_layer_of_eight_thirds_costs_the_same():
    llama = Shape(name="l", width=768, layers=1, sequence=64, vocabulary=10, inner=2048,
                  is_gated=True, positions=0, batch=1)
    assert llama.layer_flops == 24 * 768 * 768 * 64 + 4 * 64 * 64 * 768


@pytest.mark.parametrize(("shape", "megabytes", "stage_tflop", "low", "high"), [
    (GPT3, 50.3, 14.65, 0.49, 0.82), (LLAMA_7B, 16.8, 0.572, 4.2, 7.0),
    (GPT2, 3.28, 0.0668, 7.0, 11.7), (BERT_LARGE, 1.05, 0.0067, 22, 37)])
def test_break_even_bandwidth_over_fifty_stages(shape, megabytes, stage_tflop, low, high):
    assert shape.hop_bytes / 1e6 == pytest.approx(megabytes, rel=0.005)
    stage_flops = shape.layers * shape.layer_flops / 50
    assert stage_flops / 1e12 == pytest.approx(stage_tflop, rel=0.01)
    for share, gbits in ((0.3, low), (0.5, high)):
        found = break_even_bytes_per_s(shape, 50, share * 59.5e12) * 8 / 1e9
        assert found == pytest.approx(gbits, rel=0.02)


def test_operations_and_parameters_are_those_of_the_exported_model():
    torch.manual_seed(0)
    shape = Shape(name="small", width=64, layers=2, sequence=32, vocabulary=256, inner=128,
                  is_gated=True, positions=0, batch=1)
    model = Transformer(vocab=256, width=64, layers=2, heads=4, hidden=128, context=32, tied=False)
    imported = import_module(
        model, language_loss, {"tokens": torch.zeros(1, 33, dtype=torch.int64)})
    costs = [node_cost(imported.graph, node) for node in imported.graph.nodes]
    heavy = sum(
        cost.flops for cost in costs if cost.op_class in (OpClass.MATMUL, OpClass.ATTENTION))
    assert heavy == shape.flops
    norms = 5 * 64
    counted = parameter_bytes(imported.graph, imported.graph.parameters) // 4
    assert counted == shape.parameters + norms


def test_the_chain_adds_up():
    graph, gradients = chain(LLAMA_7B, ON, is_training=True, compression=4)
    assert graph.nodes == 4 * 32 + 2
    assert graph.compute_s.sum() == pytest.approx(LLAMA_7B.flops / 1e12)
    assert graph.backward_s.sum() == pytest.approx(2 * LLAMA_7B.flops / 1e12)
    assert graph.persistent_bytes.sum() == 16 * LLAMA_7B.parameters
    assert gradients.sum() == pytest.approx(2 * LLAMA_7B.parameters / 4)
    assert graph.tensor_bytes[2] == LLAMA_7B.hop_bytes / 4
    # Korthikanti et al.: 34 bytes per token and unit of width, where the MLP is 4 h wide.
    graph, _ = chain(GPT2, ON, is_training=True)
    assert graph.output_bytes.sum() == 48 * 34 * 1024 * 1600
    graph, _ = chain(GPT2, ON, is_training=True, recompute=True)
    assert graph.output_bytes.sum() == 48 * 2 * 2 * 1024 * 1600
    assert graph.backward_s.sum() == pytest.approx(3 * GPT2.flops / 1e12)
    graph, _ = chain(GPT3, ON, is_training=False)
    assert graph.persistent_bytes.sum() == 2 * GPT3.parameters
    assert graph.backward_s.sum() == 0.0


def test_replicas_on_one_machine_run_at_the_speed_of_their_operations():
    plan, _ = planned(GPT2, "inference", h100("SXM"))
    assert isinstance(plan, Replicated)
    assert plan.microbatches_per_s == pytest.approx(4 * 0.4 * 989e12 / GPT2.flops, rel=1e-6)


def test_what_does_not_fit_is_refused_with_bytes():
    for fleet in (h100("SXM"), home(10, 1, 0.5)):
        plan, _ = planned(GPT3, "training", fleet)
        assert isinstance(plan, Refusal)
        assert plan.rule == "memory"
        assert plan.wanted >= 16 * GPT3.parameters > plan.had


def test_a_better_link_is_never_worse():
    small = [
        planned(GPT2, "training", Fleet(
            name="few", count=6, peak_tflops=59.5, utilisation=0.5, memory_bytes=9.5e9,
            link=LinkCosts(latency_s=0.01, bandwidth_bytes_per_s=bandwidth)))[0]
        for bandwidth in (1e7, 1e8, 1e9)]
    assert all(isinstance(one, Replicated) for one in small)
    rates = [one.microbatches_per_s for one in small]
    assert rates == sorted(rates)
