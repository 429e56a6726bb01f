"""Fold constants and drop operators that do nothing, without touching what training depends on.

onnxscript's own `optimize` is not used, because it changes numbers: it treats `x + 1e-8` as `x`
(constants are compared with a tolerance), and its removal of common subexpressions turns two
dropouts of one tensor into one dropout. The parts that are exact are run here one by one.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common
from onnxscript.optimizer import fold_constants_ir
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules import common as rules

from ir.operators import RANDOM_OPERATORS

EXACT_RULES = (
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
    rules.reshape_reshape_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.squeeze_reshape_1d_rule,
    rules.materialize_reshape_shape_rule,
    rules.no_op_static_scatter_nd_rule,
    rules.no_op_dynamic_scatter_nd_rule,
)
"""Rewrites that change no number, not even by rounding."""

_ROUNDS = 4


def simplify(model: ir.Model) -> None:
    """Simplify a model in place. Graph inputs (parameters among them) are never folded.

    Args:
        model: parameters are graph inputs already.

    Cost: about linear in the number of nodes, times at most four rounds.
    """
    common.InlinePass()(model)
    for _ in range(_ROUNDS):
        folded = fold_constants_ir(
            model, onnx_shape_inference=True,
            should_fold=lambda node: False if node.op_type in RANDOM_OPERATORS else None,
        )
        rewritten = RewritePass(EXACT_RULES)(model)
        common.IdentityEliminationPass()(model)
        common.RemoveUnusedNodesPass()(model)
        if not (folded.modified or rewritten.modified):
            break
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.DeduplicateInitializersPass()(model)
    _merge_equal_nodes(model)
    common.RemoveUnusedNodesPass()(model)


def tidy(model: ir.Model) -> None:
    """Merge what fusions left side by side, such as two reshapes in a row, and drop what is unused.

    Cost: linear in the number of nodes.
    """
    RewritePass(EXACT_RULES)(model)
    common.RemoveUnusedNodesPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.DeduplicateInitializersPass()(model)


def _merge_equal_nodes(model: ir.Model) -> None:
    """Compute equal expressions once, except random ones."""
    draws = [node for node in model.graph if node.op_type in RANDOM_OPERATORS]
    # The pass knows no Dropout; a number of its own makes each one differ from the others.
    for number, node in enumerate(draws):
        node.attributes["seed"] = ir.AttrInt64("seed", number)
    common.CommonSubexpressionEliminationPass()(model)
    for node in draws:
        node.attributes.pop("seed")
