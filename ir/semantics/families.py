"""Every operator family, so that importing this module fills the table."""

from ir.semantics import (
    activations,
    batch_norm,
    bits,
    creation,
    deformable,
    dropout,
    elementwise,
    indexing,
    linear_attention,
    losses,
    movement,
    normalization,
    quantization,
    random,
    recurrent,
    reductions,
    resize,
    rotary,
    sampling,
    sequences,
    signal,
    taps,
)

__all__ = [
    "activations", "batch_norm", "bits", "creation", "deformable", "dropout", "elementwise",
    "indexing", "linear_attention", "losses", "movement", "normalization", "quantization",
    "random", "recurrent", "reductions", "resize", "rotary", "sampling", "sequences", "signal",
    "taps",
]
