"""Language models of `transformers`, each with the loss that it computes itself.

Weights are drawn ten times wider than by default (`initializer_range`): with the usual ones two
layers attend evenly, and a wrong mask or position would hide in the tolerance.
"""

import numpy as np
import torch
from torch import nn

from tests.universality.entry import Case, Entry

VOCABULARY = 99
LENGTH = 16
ROWS = 8
SPECIAL = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = {**SPECIAL, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
           "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
           "initializer_range": 0.2}


def tokens(length: int = LENGTH, highest: int = VOCABULARY) -> np.ndarray:
    """Random token numbers [ROWS, length], none of them special."""
    return np.random.default_rng(length).integers(4, highest, (ROWS, length))


def padding(length: int = LENGTH) -> np.ndarray:
    """An attention mask whose rows end at different places."""
    return (np.arange(length) < length - np.arange(ROWS)[:, None]).astype(np.int64)


def causal(model: nn.Module, padded: bool = False) -> Case:
    """A decoder that predicts the next token."""
    inputs = {"input_ids": tokens()}
    if padded:
        inputs["attention_mask"] = padding()
    labels = np.where(padding() == 1, tokens(), -100) if padded else tokens()
    return Case(model=model, columns={**inputs, "labels": labels}, inference=inputs)


def gpt2() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    return causal(GPT2LMHeadModel(GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1,
        eos_token_id=2, initializer_range=0.2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)))


def llama() -> Case:
    from transformers import LlamaConfig, LlamaForCausalLM

    return causal(LlamaForCausalLM(LlamaConfig(**DECODER)), padded=True)


def qwen3() -> Case:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return causal(Qwen3ForCausalLM(Qwen3Config(**DECODER, head_dim=8)))


def mistral() -> Case:
    from transformers import MistralConfig, MistralForCausalLM

    return causal(MistralForCausalLM(MistralConfig(**DECODER, sliding_window=4)))


def gemma3() -> Case:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return causal(Gemma3ForCausalLM(Gemma3TextConfig(
        **DECODER, head_dim=8, sliding_window=4, final_logit_softcapping=30.0,
        layer_types=["sliding_attention", "full_attention"])))


def phi3() -> Case:
    from transformers import Phi3Config, Phi3ForCausalLM

    return causal(Phi3ForCausalLM(Phi3Config(**DECODER)))


def mixtral() -> Case:
    from transformers import MixtralConfig, MixtralForCausalLM

    return causal(MixtralForCausalLM(MixtralConfig(
        **DECODER, num_local_experts=4, num_experts_per_tok=2, output_router_logits=True)))


def qwen3_moe() -> Case:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    return causal(Qwen3MoeForCausalLM(Qwen3MoeConfig(
        **DECODER, head_dim=8, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=24,
        output_router_logits=True)), padded=True)


def mamba2() -> Case:
    from transformers import Mamba2Config, Mamba2ForCausalLM

    return causal(Mamba2ForCausalLM(Mamba2Config(
        **SPECIAL, hidden_size=32, num_hidden_layers=2, state_size=8, num_heads=8, head_dim=8,
        n_groups=2, chunk_size=8, initializer_range=0.2)))


def rwkv() -> Case:
    from transformers import RwkvConfig, RwkvForCausalLM

    return causal(RwkvForCausalLM(RwkvConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, context_length=64,
        bos_token_id=1, eos_token_id=2, rescale_every=0)))


class Adapter(nn.Module):
    """A frozen layer and what is added to it: two narrow matrices, the second one small."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.up(self.down(x)) * 0.5


def adapters() -> Case:
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) on the queries and values of Llama."""
    case = llama()
    case.model.requires_grad_(False)
    for layer in case.model.model.layers:
        layer.self_attn.q_proj = Adapter(layer.self_attn.q_proj)
        layer.self_attn.v_proj = Adapter(layer.self_attn.v_proj)
    return case


def bert() -> Case:
    """Masked tokens: every fourth one is hidden, and only those count."""
    from transformers import BertConfig, BertForMaskedLM

    hidden = np.arange(LENGTH) % 4 == 3
    # Rows end with token 0, whose embedding is the padding row: it gets no gradient.
    inputs = {"input_ids": np.where(hidden, 3, tokens()) * padding(), "attention_mask": padding()}
    labels = np.where(hidden & (padding() == 1), tokens(), -100)
    return Case(
        model=BertForMaskedLM(BertConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=64, initializer_range=0.2,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)),
        columns={**inputs, "labels": labels}, inference=inputs)


def t5() -> Case:
    """Encoder and decoder; the decoder's input is the labels, one place later."""
    from transformers import T5Config, T5ForConditionalGeneration

    inputs = {"input_ids": tokens(), "attention_mask": padding()}
    return Case(
        model=T5ForConditionalGeneration(T5Config(
            vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
            dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0, eos_token_id=2)),
        columns={**inputs, "labels": tokens(10)},
        inference={**inputs, "decoder_input_ids": tokens(10)})


def _entry(name: str, source: str, build: object, notes: str = "", **more: object) -> Entry:
    return Entry(name=name, family="Language", source=f"transformers.{source}", build=build,
                 notes=notes, **more)


_GROUPED = ("the counter does not see grouped products, and the graph's static form of them "
            "multiplies up to twice as often")

ENTRIES = (
    _entry("GPT-2", "GPT2LMHeadModel", gpt2, "Tied embeddings."),
    _entry("Llama", "LlamaForCausalLM", llama, "Grouped queries; rows padded to one length."),
    _entry("Llama with adapters", "LlamaForCausalLM", adapters,
           "Low-rank adapters on queries and values train, all else is frozen."),
    _entry("Qwen3", "Qwen3ForCausalLM", qwen3, "Normalised queries and keys."),
    _entry("Mistral", "MistralForCausalLM", mistral, "A window of 4 tokens."),
    _entry("Gemma 3", "Gemma3ForCausalLM", gemma3,
           "One local and one global layer; capped logits; tied embeddings."),
    _entry("Phi-3", "Phi3ForCausalLM", phi3, "Fused projections."),
    _entry("Mixtral", "MixtralForCausalLM", mixtral,
           "2 of 4 experts per token, chosen by gathers; the loss includes that of the balance.",
           uncounted=_GROUPED),
    _entry("Qwen3-MoE", "Qwen3MoeForCausalLM", qwen3_moe,
           "2 of 8 experts per token, and a loss of the balance that leaves out padding.",
           uncounted=_GROUPED),
    _entry("Mamba-2", "Mamba2ForCausalLM", mamba2, "The scan in two chunks of 8 tokens."),
    _entry("RWKV", "RwkvForCausalLM", rwkv,
           "The recurrence is unrolled over 16 tokens. `rescale_every=0`: otherwise evaluation "
           "changes weights in place, which is refused."),
    _entry("BERT", "BertForMaskedLM", bert, "Loss on the hidden tokens; tied embeddings."),
    _entry("T5", "T5ForConditionalGeneration", t5,
           "Every decoder layer reads the encoder's memory; relative positions; tied embeddings."),
)
