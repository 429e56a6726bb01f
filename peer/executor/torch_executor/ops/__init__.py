"""Operator implementations by family; importing this package fills the table."""

from peer.executor.torch_executor.ops import (
    attention,
    convolution,
    creation,
    elementwise,
    indexing,
    losses,
    matmul,
    movement,
    normalization,
    pooling,
    reduction,
    rotary,
)

__all__ = [
    "attention", "convolution", "creation", "elementwise", "indexing", "losses", "matmul",
    "movement", "normalization", "pooling", "reduction", "rotary",
]
