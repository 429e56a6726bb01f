"""Models of `transformers` are imported as they are, with the loss that they compute themselves."""

from collections import Counter

import pytest
import torch
import transformers
from torch import nn

from homespun.errors import Code, HomespunError
from ir.check import check
from ir.frontends.hugging_face import traceable
from ir.frontends.torch_module import import_module

SIZES = {"vocab_size": 61, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
         "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32}
TOKENS = torch.arange(18).reshape(2, 9) % 61
BATCH = {"input_ids": TOKENS, "labels": TOKENS}


def gpt2(**config):
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=61, n_embd=16, n_layer=1, n_head=2, n_positions=32,
                                bos_token_id=1, eos_token_id=2, **config))


def mixtral(**config):
    torch.manual_seed(0)
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(
        **SIZES, num_local_experts=4, num_experts_per_tok=2, **config))


def operators(imported):
    return Counter(node.op_type for node in imported.graph.nodes)


def test_the_model_s_own_loss(capfd: pytest.CaptureFixture[str]):
    model = gpt2()
    imported = import_module(model, None, BATCH)
    check(imported.graph)
    written = import_module(model, lambda m, b: m(b["input_ids"], labels=b["labels"]).loss, BATCH)
    assert imported.graph_bytes == written.graph_bytes
    assert imported.graph.inputs == ("input_ids", "labels")
    embedding = next(p for p in imported.parameters if p.name == "transformer.wte.weight")
    assert embedding.aliases == ("lm_head.weight",)
    assert operators(imported)["Dropout"] == 1 + 3  # embeddings; attention weights, two outputs
    assert imported.notes == ()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


class Mapped(nn.Module):
    """A model whose output is a dict, and whose loss is asked for."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(9, 1)

    def forward(self, x, return_loss=False):
        return {"loss": self.linear(x).mean() if return_loss else None}


def test_output_may_be_a_dict_and_the_loss_optional():
    imported = import_module(Mapped(), None, {"x": torch.ones(2, 9)})
    assert imported.graph.outputs == ("loss",)


@pytest.mark.parametrize(("model", "batch", "words"), [
    (gpt2, {"input_ids": TOKENS}, "computed no loss of its own"),
    (Mapped, {"y": TOKENS}, "takes no argument 'y'"),
    (lambda: nn.Linear(9, 1), {"input": torch.ones(2, 9)}, "computed no loss of its own"),
])
def test_no_own_loss(model, batch, words):
    with pytest.raises(HomespunError) as caught:
        import_module(model(), None, batch)
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert words in caught.value.message


def test_settings_are_changed_for_the_trace_only():
    model = mixtral(use_cache=True, experts_implementation="eager")
    model.set_attn_implementation("flex_attention")
    model.activation_checkpointing_enable()
    model.eval()
    before = dict(vars(model.config))
    with traceable(model) as notes:
        assert model.config.use_cache is False
        assert model.config._attn_implementation == "sdpa"
        assert model.config._experts_implementation == "grouped_mm"
        assert not model.model.layers[0].gradient_checkpointing
    assert vars(model.config) == before
    assert model.model.layers[0].gradient_checkpointing
    assert len(notes) == 2
    assert all("instead of" in note for note in notes)
    imported = import_module(model, None, BATCH)
    assert imported.notes == notes
    assert vars(model.config) == before
    assert not model.training


def test_inner_settings_come_back_as_they_were():
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
              "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    model = transformers.CLIPModel(transformers.CLIPConfig(
        text_config={**SIZES, "eos_token_id": 2}, vision_config=vision, projection_dim=8))
    model.set_attn_implementation({"": "sdpa", "text_config": "eager",
                                   "vision_config": "flex_attention"})
    configs = [model.config, model.config.text_config, model.config.vision_config]
    before = [config._attn_implementation for config in configs]
    assert before == ["sdpa", "eager", "flex_attention"]
    with traceable(model):
        assert [c._attn_implementation for c in configs] == ["sdpa", "eager", "sdpa"]
    assert [config._attn_implementation for config in configs] == before


def test_experts_are_chosen_by_gathers():
    imported = import_module(mixtral(output_router_logits=True), None, BATCH)
    check(imported.graph)
    count = operators(imported)
    assert count["TopK"] == 2  # what the router chooses (once, also for its loss), and the sort
    assert count["Gather"] >= 2 * 2  # rows and weights of the blocks, for both products
    largest = max(array.nbytes for array in imported.graph.constants.values())
    assert largest <= 4096
