"""The rewrites that put one standard operator in place of several, in the order in which they run.

Each is exact in exact arithmetic, keeps every parameter, and leaves what it does not recognise.
docs/fusions.md lists them, with where to read what each one saves.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ir.passes.attention_mask import simplify_attention_masks
from ir.passes.gelu import fuse_gelu
from ir.passes.grouped_query import share_key_heads
from ir.passes.linear import fuse_linear
from ir.passes.rms_norm import fuse_rms_norm
from ir.passes.rotary import fuse_rotary

FUSIONS: dict[str, Callable[[ir.Model], int]] = {
    "rms_norm": fuse_rms_norm,
    "gelu": fuse_gelu,
    "rotary": fuse_rotary,
    "attention_mask": simplify_attention_masks,
    "grouped_query": share_key_heads,
    "linear": fuse_linear,
}
"""Name -> rewrite; it edits the model in place and says how often it applied."""
