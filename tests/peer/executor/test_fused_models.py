"""Small models of `transformers`: what is fused, native loss and gradients, the same bits cut."""

import copy

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F  # noqa: N812

from dag.job import OptimizerSpec
from peer.executor.base import WorkKey

VOCABULARY, LENGTH = 61, 12
TRAIN = WorkKey(mode="train", step=0, microbatch=0)


def next_token_loss(model, batch):
    tokens = batch["tokens"]
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def masked_token_loss(model, batch):
    tokens = batch["tokens"]
    logits = model(input_ids=tokens, token_type_ids=torch.zeros_like(tokens)).logits
    return F.cross_entropy(logits.flatten(0, 1), tokens.flip(1).flatten())


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_layer=2, n_embd=32, n_head=4, vocab_size=VOCABULARY, n_positions=LENGTH, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0))


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=VOCABULARY, max_position_embeddings=LENGTH))


def bert():
    return transformers.BertForMaskedLM(transformers.BertConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        vocab_size=VOCABULARY, max_position_embeddings=LENGTH + 1, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0))


MODELS = {"gpt2": (gpt2, next_token_loss), "llama": (llama, next_token_loss),
          "bert": (bert, masked_token_loss)}
FUSED = {
    "gpt2": {"Gelu": 2, "Gemm": 8, "LayerNormalization": 5, "Attention": 2},
    "llama": {"RMSNormalization": 5, "RotaryEmbedding": 4, "Attention": 2},
    "bert": {"Gelu": 3, "Gemm": 14, "LayerNormalization": 6, "Attention": 2},
}
WRITTEN_OUT = {"Expand", "Tanh", "Erf", "Pow", "Neg", "And", "Cos", "Sin", "Softmax"}


@pytest.fixture(scope="module", params=MODELS)
def case(request, lab):
    """(name, native model, its loss, job of the same weights)."""
    torch.manual_seed(0)
    make, loss = MODELS[request.param]
    model = make()
    # Token 0 is among them: BERT's padding, whose embedding gets no gradient.
    job = lab.job_of(copy.deepcopy(model), loss, lab.token_columns(VOCABULARY, LENGTH + 1), 2,
                     optimizer=OptimizerSpec(kind="sgd", learning_rate=1.0), clip_norm=0.0)
    return request.param, model, loss, job


def count(graph, op_type):
    return sum(node.op_type == op_type for node in graph.nodes)


def test_patterns_become_operators(case):
    name, _, _, job = case
    assert {op_type: count(job.graph, op_type) for op_type in FUSED[name]} == FUSED[name]
    assert not WRITTEN_OUT & {node.op_type for node in job.graph.nodes}
    attentions = [node for node in job.graph.nodes if node.op_type == "Attention"]
    assert all(len(node.inputs) == 3 for node in attentions)
    assert all(node.attributes.get("is_causal", 0) == (name != "bert") for node in attentions)


def test_loss_and_gradients_are_native(case, lab):
    """With SGD at rate 1, one step changes each parameter by its gradient."""
    _, model, loss, job = case
    pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, 1))
    measured, _ = pipeline.step(0)
    expected = 0.0
    model.zero_grad()
    for microbatch in range(2):
        data = pipeline.data(0, microbatch)
        value = loss(model, {n: torch.from_numpy(a) for n, a in data.items()}) / 2
        value.backward()
        expected += value.item()
    assert measured == pytest.approx(expected, rel=1e-5)
    after = pipeline.parameters()
    for name, parameter in model.named_parameters():
        if name in job.trainable and parameter.grad is not None:
            wanted = parameter.grad.numpy()
            got = job.parameters[name] - after[name]
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=2e-6, err_msg=name)


def test_cuts_change_no_bit(case, lab):
    _, _, _, job = case
    placed = lab.placed_nodes(job.graph)

    def trained(parts):
        pipeline = lab.Pipeline(job, parts)
        return pipeline.run(2), pipeline.parameters()

    whole = trained([placed])
    cuts = [lab.contiguous_parts(job.graph, n) for n in (2, 5)] + [[[i] for i in placed]]
    for parts in cuts:
        measured, parameters = trained(parts)
        assert measured == whole[0]
        assert lab.different(parameters, whole[1]) == []


def test_weight_gradients_of_linear_layers_are_deferred(case, lab):
    _, _, _, job = case
    pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, 2))
    pipeline.forward(TRAIN, pipeline.data(0, 0))
    pipeline.backward(TRAIN)
    weights = [g.weight for g in pipeline.loaded[1]._deferred[TRAIN]]
    products = [node for node in job.graph.nodes if node.index in set(pipeline.segments[1].nodes)
                and node.op_type in ("Gemm", "MatMul")]
    assert len(weights) >= len(products) - 1 > 0  # a tied head is added at once
