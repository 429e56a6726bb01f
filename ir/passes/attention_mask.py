"""Take constant masks away from `Attention`: one that hides nothing, and the causal one.

A mask that is constant and lets position i see positions up to i is what `is_causal=1` means; the
kernels that know it skip the hidden half and read no mask. Source: ONNX operator Attention-23.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ir.passes.matching import known_array, replace

_MASK = 3


def simplify_attention_masks(model: ir.Model) -> int:
    """Rewrite in place every attention whose mask is constant and of one of the two forms.

    Returns:
        How many were rewritten. Cost: one look at each element of each different mask.
    """
    seen: dict[ir.Value, str | None] = {}
    return sum(_rewrite(model.graph, node, seen) for node in tuple(model.graph))


def _rewrite(graph: ir.Graph, node: ir.Node, seen: dict[ir.Value, str | None]) -> bool:
    mask = node.inputs[_MASK] if len(node.inputs) > _MASK else None
    if node.op_type != "Attention" or mask is None or len(node.inputs) > _MASK + 1:
        return False
    if mask not in seen:
        seen[mask] = _form(known_array(mask))
    form, outputs = seen[mask], len(node.outputs)
    if form is None or outputs != 1:
        return False
    attributes = dict(node.attributes)
    if form == "causal":
        attributes["is_causal"] = ir.AttrInt64("is_causal", 1)
    plain = ir.Node("", "Attention", node.inputs[:_MASK], list(attributes.values()),
                    num_outputs=1, metadata_props=dict(node.metadata_props))
    replace(graph, node, [plain], plain.outputs[0])
    return True


def _form(mask: npt.NDArray[np.generic] | None) -> str | None:
    """`open` if nothing is hidden, `causal`, or None for any other mask."""
    if mask is None or mask.ndim < 2:
        return None
    if mask.dtype == np.bool_:
        visible = mask
    else:
        if mask.dtype not in (np.float16, np.float32, np.float64):
            return None
        bias = mask.astype(np.float64)
        visible = bias == 0
        # Only what no score can make visible again counts as hidden.
        if not np.all(bias[~visible] <= float(np.finfo(mask.dtype.name).min)):
            return None
    if visible.all():
        return "open"
    if visible.shape[-1] != visible.shape[-2]:
        return None
    causal = np.tri(*visible.shape[-2:], dtype=np.bool_)
    return "causal" if np.array_equal(visible, np.broadcast_to(causal, visible.shape)) else None
