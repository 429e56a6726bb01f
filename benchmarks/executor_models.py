"""The models that benchmarks/executor.py runs: random weights, real widths, few layers.

Each is an unchanged class of `transformers` at a size at which one pass takes 50 to 500 ms on one
thread of a CPU. Dropout is off: its masks are drawn on the host, so that they are the same on every
device, which is a different work than the native draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

VOCABULARY = 2048
LENGTH = 128
Loss = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """One model with its loss and one microbatch.

    Attributes:
        model: in training mode, on the CPU.
        loss: of the model and one microbatch, as `import_module` takes it.
        batch: column -> tensor.
    """

    model: nn.Module
    loss: Loss
    batch: Mapping[str, Tensor]


def _next_token_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    tokens = batch["tokens"]
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def _masked_token_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    tokens = batch["tokens"]
    logits = model(input_ids=tokens, token_type_ids=torch.zeros_like(tokens)).logits
    return F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())


def _image_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(pixel_values=batch["pixels"]).logits, batch["labels"])


def _tokens(rows: int, length: int) -> Tensor:
    # 0 is BERT's padding, whose embedding gets no gradient natively.
    return torch.randint(1, VOCABULARY, (rows, length))


def gpt2() -> Workload:
    """Two blocks of GPT-2 small: LayerNorm, GELU (tanh), fused QKV, tied head."""
    config = transformers.GPT2Config(
        n_layer=2, vocab_size=VOCABULARY, n_positions=LENGTH, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=0, eos_token_id=0)
    return Workload(
        transformers.GPT2LMHeadModel(config), _next_token_loss, {"tokens": _tokens(1, LENGTH + 1)})


def llama() -> Workload:
    """Two Llama blocks: RMSNorm, rotary embedding, three query heads per key head, SwiGLU."""
    config = transformers.LlamaConfig(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=2, num_attention_heads=12,
        num_key_value_heads=4, vocab_size=VOCABULARY, max_position_embeddings=LENGTH)
    return Workload(
        transformers.LlamaForCausalLM(config), _next_token_loss,
        {"tokens": _tokens(1, LENGTH + 1)})


def bert() -> Workload:
    """Two BERT blocks: attention in both directions, GELU (erf), LayerNorm after the sum."""
    config = transformers.BertConfig(
        num_hidden_layers=2, vocab_size=VOCABULARY, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0)
    batch = {"tokens": _tokens(1, LENGTH), "labels": _tokens(1, LENGTH)}
    return Workload(transformers.BertForMaskedLM(config), _masked_token_loss, batch)


def resnet() -> Workload:
    """ResNet-50 on small images: convolution, batch normalisation, ReLU."""
    config = transformers.ResNetConfig(num_labels=100)
    batch = {"pixels": torch.randn(2, 3, 96, 96), "labels": torch.randint(0, 100, (2,))}
    return Workload(transformers.ResNetForImageClassification(config), _image_loss, batch)


WORKLOADS: Mapping[str, Callable[[], Workload]] = {
    "gpt2": gpt2, "llama": llama, "bert": bert, "resnet": resnet}
"""Name -> makes the workload; the caller seeds torch."""
