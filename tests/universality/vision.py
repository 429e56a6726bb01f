"""Models that look at images."""

import numpy as np
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.universality.entry import Case, Entry

CLASSES = 5
SIDE = 32


def images(rows: int = 8, side: int = SIDE, channels: int = 3) -> np.ndarray:
    """Random images [rows, channels, side, side], float32."""
    draws = np.random.default_rng(0)
    return draws.standard_normal((rows, channels, side, side)).astype(np.float32)


def labels(*shape: int, classes: int = CLASSES) -> np.ndarray:
    """Random class numbers, int64."""
    return np.random.default_rng(1).integers(0, classes, shape)


def classification_loss(model: nn.Module, batch: dict) -> object:
    """Cross entropy of a transformers classifier's logits."""
    return F.cross_entropy(model(batch["pixels"]).logits, batch["label"])


def _classifier(model: nn.Module, side: int = SIDE) -> Case:
    columns = {"pixels": images(side=side), "label": labels(8)}
    return Case(model=model, loss=classification_loss, columns=columns)


def vit() -> Case:
    """Vision transformer."""
    from transformers import ViTConfig, ViTForImageClassification

    return _classifier(ViTForImageClassification(ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        image_size=SIDE, patch_size=8, num_labels=CLASSES, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0)))


def swin() -> Case:
    """Shifted windows: a hierarchy of transformers on patches."""
    from transformers import SwinConfig, SwinForImageClassification

    return _classifier(SwinForImageClassification(SwinConfig(
        image_size=SIDE, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4],
        window_size=4, num_labels=CLASSES, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, drop_path_rate=0.0)))


def convnext() -> Case:
    """A convolutional network in the manner of a transformer."""
    from transformers import ConvNextConfig, ConvNextForImageClassification

    return _classifier(ConvNextForImageClassification(ConvNextConfig(
        patch_size=2, hidden_sizes=[16, 32], depths=[2, 2], num_stages=2, num_labels=CLASSES,
        drop_path_rate=0.0, layer_scale_init_value=0.1)))


ENTRIES = (
    Entry(name="ViT", family="Vision", source="transformers.ViTForImageClassification", build=vit),
    Entry(name="Swin", family="Vision", source="transformers.SwinForImageClassification",
          build=swin, notes="Two stages, every second block with shifted windows."),
    Entry(name="ConvNeXt", family="Vision", source="transformers.ConvNextForImageClassification",
          build=convnext),
)
