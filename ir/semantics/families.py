"""The table: operator name -> how it computes on any backend. Importing every family fills it."""

from collections.abc import Mapping
from types import MappingProxyType

from ir.semantics import (  # each registers its operators when it is imported
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
from ir.semantics.registry import REGISTERED, Semantics

FAMILIES = (
    activations, batch_norm, bits, creation, deformable, dropout, elementwise, indexing,
    linear_attention, losses, movement, normalization, quantization, random, recurrent,
    reductions, resize, rotary, sampling, sequences, signal, taps,
)
TABLE: Mapping[str, Semantics] = MappingProxyType(REGISTERED)
"""op_type -> semantics, for every operator that is written on the Array API."""
