"""Let `Attention` share key and value heads instead of copying them for every query head.

```
Reshape(Expand(Unsqueeze(k, 2)))  from [B, G, S, D] over [B, G, n, S, D] to [B, G * n, S, D]
```
is each head repeated n times, which `Attention` does by itself where query has more heads than key.
Source: Ainslie et al. 2023 (arXiv:2305.13245), section 2.2; ONNX operator Attention-23.
"""

from __future__ import annotations

import onnx_ir as ir

from ir.passes.matching import producer, replace, static_shape


def share_key_heads(model: ir.Model) -> int:
    """Rewrite every match in place.

    Returns:
        How many attentions were rewritten.
    """
    return sum(_rewrite(model.graph, node) for node in tuple(model.graph))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    if node.op_type != "Attention" or len(node.outputs) != 1:
        return False
    if any(value is not None for value in node.inputs[4:]):
        return False
    key, value = (_unrepeated(part) for part in node.inputs[1:3])
    if key is None or value is None or key.shape is None or value.shape is None:
        return False
    if key.shape[1] != value.shape[1]:
        return False
    shared = ir.Node(
        "", "Attention", [node.inputs[0], key, value, *node.inputs[3:]],
        list(node.attributes.values()), num_outputs=1, metadata_props=dict(node.metadata_props))
    replace(graph, node, [shared], shared.outputs[0])
    return True


def _unrepeated(value: ir.Value | None) -> ir.Value | None:
    """[B, G, S, D], if `value` is its heads repeated; None if not."""
    merge = producer(value, "Reshape")
    expand = producer(merge.inputs[0], "Expand") if merge is not None else None
    source = expand.inputs[0] if expand is not None else None
    split = producer(source, "Unsqueeze", "Reshape")
    if merge is None or expand is None or split is None:
        return None
    before, one = static_shape(split.inputs[0]), static_shape(source)
    many, after = static_shape(expand.outputs[0]), static_shape(value)
    if before is None or many is None or len(before) != 4 or len(many) != 5:
        return None
    batch, groups, length, size = before
    repeats = many[2]
    fits = (
        one == (batch, groups, 1, length, size)
        and many == (batch, groups, repeats, length, size)
        and after == (batch, groups * repeats, length, size))
    return split.inputs[0] if fits else None
