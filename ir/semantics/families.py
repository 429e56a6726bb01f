"""Every operator family, so that importing this module fills the table."""

from ir.semantics import (
    activations,
    batch_norm,
    creation,
    dropout,
    elementwise,
    indexing,
    losses,
    movement,
    normalization,
    reductions,
    rotary,
)

__all__ = [
    "activations", "batch_norm", "creation", "dropout", "elementwise", "indexing", "losses",
    "movement", "normalization", "reductions", "rotary",
]
