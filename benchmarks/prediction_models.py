"""The models that `prediction` trains and runs: small, and of four different shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from examples.transformer import Transformer, language_loss

SEED = 0
ROWS = 64
Columns = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a case runs.

    Attributes:
        make: the module, always with the same first weights.
        loss: `(module, batch) -> mean loss`.
        rows: `count -> columns` of that many samples, targets included.
        inputs: columns that the module itself reads, for inference.
    """

    make: Callable[[], nn.Module]
    loss: Callable[[Any, dict[str, Tensor]], Tensor]
    rows: Callable[[int], Columns]
    inputs: tuple[str, ...]


class Convolutions(nn.Module):
    """Blocks of convolutions over small pictures, each halving their sides; then a classifier."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for number in range(blocks):
            wider = width << number
            layers += [nn.Conv2d(channels, wider, 3, padding=1), nn.ReLU(),
                       nn.Conv2d(wider, wider, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels = wider
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 10)

    def forward(self, picture: Tensor) -> Tensor:
        """Map [B, 3, S, S] to the logits of ten classes."""
        return self.head(self.body(picture).mean((2, 3)))


class TwoBranches(nn.Module):
    """Two towers over two inputs that meet in a head: a graph that is no chain."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.left = _tower(width, depth)
        self.right = _tower(width, depth)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Map two arrays [B, width] to the logits of ten classes."""
        return self.head(torch.cat((self.left(first), self.right(second)), dim=1))


def _tower(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(
        layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.GELU())))


def _mlp(width: int, depth: int) -> nn.Module:
    return nn.Sequential(_tower(width, depth), nn.Linear(width, 10))


def _classified(*inputs: str) -> Callable[[Any, dict[str, Tensor]], Tensor]:
    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(model(*(batch[name] for name in inputs)), batch["label"])

    return loss


def _columns(**shapes: tuple[int, ...]) -> Callable[[int], Columns]:
    def rows(count: int) -> Columns:
        random = np.random.default_rng(SEED)
        return {
            **{name: random.standard_normal((count, *shape), np.float32)
               for name, shape in shapes.items()},
            "label": random.integers(0, 10, count)}

    return rows


def _tokens(context: int) -> Callable[[int], Columns]:
    def rows(count: int) -> Columns:
        return {"tokens": np.random.default_rng(SEED).integers(0, 256, (count, context + 1))}

    return rows


def _seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def made() -> nn.Module:
        torch.manual_seed(SEED)
        return make()

    return made


MODELS: Mapping[str, Model] = {
    "transformer": Model(
        make=_seeded(lambda: Transformer(
            width=192, layers=4, heads=4, hidden=512, context=128, tied=False)),
        loss=language_loss, rows=_tokens(128), inputs=("tokens",)),
    "cnn": Model(
        make=_seeded(lambda: Convolutions(width=24, blocks=3)), loss=_classified("picture"),
        rows=_columns(picture=(3, 32, 32)), inputs=("picture",)),
    "mlp": Model(
        make=_seeded(lambda: _mlp(width=768, depth=6)), loss=_classified("features"),
        rows=_columns(features=(768,)), inputs=("features",)),
    "two-branch": Model(
        make=_seeded(lambda: TwoBranches(width=640, depth=4)),
        loss=_classified("first", "second"), rows=_columns(first=(640,), second=(640,)),
        inputs=("first", "second")),
}
