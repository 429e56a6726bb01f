"""Models that look at images."""

import numpy as np
from torch import nn
from torch.nn import functional as F  # noqa: N812

from dag.job import OptimizerSpec
from tests.universality.entry import Case, Entry

CLASSES = 5
SGD = OptimizerSpec(kind="sgd", learning_rate=3e-4)
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


def resnet() -> Case:
    """ResNet-50: its real depth, a quarter of an eighth of its width."""
    from transformers import ResNetConfig, ResNetForImageClassification

    return _classifier(ResNetForImageClassification(ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[3, 4, 6, 3],
        layer_type="bottleneck", num_labels=CLASSES)), side=64)


def segformer() -> Case:
    """Segmentation by a hierarchy of transformers."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    model = SegformerForSemanticSegmentation(SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[16, 32],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
        decoder_hidden_size=32, num_labels=CLASSES, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, drop_path_rate=0.0, classifier_dropout_prob=0.0))

    def loss(model: nn.Module, batch: dict) -> object:
        return F.cross_entropy(model(batch["pixels"]).logits, batch["mask"])

    return Case(model=model, loss=loss,
                columns={"pixels": images(), "mask": labels(8, SIDE // 4, SIDE // 4)})


def detr() -> Case:
    """Detection by queries: a ResNet, a transformer, and boxes."""
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1],
                            layer_type="basic", out_features=["stage2"])
    model = DetrForObjectDetection(DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=backbone, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
        decoder_ffn_dim=64, num_queries=6, num_labels=CLASSES, dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0))

    def loss(model: nn.Module, batch: dict) -> object:
        found = model(pixel_values=batch["pixels"])
        classes = found.logits.flatten(0, 1)
        named = F.cross_entropy(classes, batch["label"].flatten())
        return named + 5.0 * F.l1_loss(found.pred_boxes, batch["box"])

    boxes = np.random.default_rng(3).random((8, 6, 4), np.float32)
    return Case(model=model, loss=loss, columns={
        "pixels": images(), "label": labels(8, 6, classes=CLASSES + 1), "box": boxes})


ENTRIES = (
    Entry(name="ViT", family="Vision", source="transformers.ViTForImageClassification", build=vit),
    Entry(name="Swin", family="Vision", source="transformers.SwinForImageClassification",
          build=swin, notes="Two stages, every second block with shifted windows."),
    Entry(name="ConvNeXt", family="Vision", source="transformers.ConvNextForImageClassification",
          build=convnext),
    Entry(name="ResNet-50", family="Vision", source="transformers.ResNetForImageClassification",
          build=resnet, optimizer=SGD,
          notes="All 53 convolutions and 53 batch normalisations, narrow. A small rate, because 50 "
          "normalised layers amplify rounding: after 5 steps with AdamW (rate 1e-3) the losses "
          "differ from torch's by 1e-3, with SGD at 0.01 and momentum by 5e-3, although the first "
          "gradients agree to 5e-8."),
    Entry(name="SegFormer", family="Vision",
          source="transformers.SegformerForSemanticSegmentation", build=segformer,
          optimizer=SGD, notes="Its loss is taken at the logits' resolution. Biases before its "
          "BatchNorm have no gradient but rounding, which Adam would scale up."),
    Entry(name="DETR", family="Vision", source="transformers.DetrForObjectDetection", build=detr,
          notes="Which query answers for which object is data (columns give each query's class and "
          "box): the Hungarian matching of its usual loss is a host algorithm, which no graph can "
          "hold."),
)
