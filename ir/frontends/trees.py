"""Ensembles of decision trees as a walk of fixed depth: the same comparisons, all rows at once.

Every node of every tree has a number; leaves point to themselves. Each level gathers the feature
and threshold of the node that a row is at, compares, and goes on to a child. After as many levels
as the deepest tree has, every row is at its leaf. Source: TreeEnsembleClassifier-3 and
TreeEnsembleRegressor-3 of the operator reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ir.frontends.classical import LINEAR, OLDEST, Lowered, Lowering
from ir.frontends.flat_value import FlatValue, Scope
from ir.tensor_proto import Array

if TYPE_CHECKING:
    from ir.frontends.flatten import Flattener

MAX_DEPTH = 64
"""Levels of a tree: each costs a handful of operators."""
_COMPARISONS = {
    "BRANCH_LEQ": "LessOrEqual", "BRANCH_LT": "Less", "BRANCH_GTE": "GreaterOrEqual",
    "BRANCH_GT": "Greater", "BRANCH_EQ": "Equal", "BRANCH_NEQ": "Equal",
}


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """All nodes of all trees, numbered from 0.

    Attributes:
        roots: number of the first node of each tree.
        features: [nodes] which column a node looks at; 0 for leaves.
        thresholds: [nodes] what it compares with.
        true: [nodes] child where the comparison holds; leaves name themselves.
        false: [nodes] the other child.
        missing: [nodes] whether NaN goes where the comparison holds.
        weights: [nodes, targets] what a leaf adds.
        mode: the one comparison that all nodes use.
        depth: levels of the deepest tree.
    """

    roots: Array
    features: Array
    thresholds: Array
    true: Array
    false: Array
    missing: Array
    weights: Array
    mode: str
    depth: int


def _forest(low: Lowering, prefix: str, targets: int) -> Forest:
    trees, ids = low.attribute("nodes_treeids", []), low.attribute("nodes_nodeids", [])
    number = {key: place for place, key in enumerate(zip(trees, ids, strict=True))}
    count = len(number)
    modes = [mode.decode() for mode in low.attribute("nodes_modes", [])]
    is_leaf = np.array([mode == "LEAF" for mode in modes], bool)
    kinds = {mode for mode in modes if mode != "LEAF"} or {"BRANCH_LEQ"}
    if len(kinds) > 1 or not kinds <= _COMPARISONS.keys():
        raise low.refused(f"compares in the ways {', '.join(sorted(kinds))}; one is accepted")
    weights = np.zeros((count, targets), np.float32)
    places = zip(low.attribute(f"{prefix}_treeids", []), low.attribute(f"{prefix}_nodeids", []),
                 low.attribute(f"{prefix}_ids", []), low.numbers(f"{prefix}_weights"), strict=True)
    for tree, node, target, weight in places:
        weights[number[tree, node], target] += weight
    own = np.arange(count)
    children = [np.array([
        place if leaf else number[tree, child] for place, (leaf, tree, child) in enumerate(
            zip(is_leaf, trees, low.attribute(name, []), strict=True))], np.int64)
        for name in ("nodes_truenodeids", "nodes_falsenodeids")]
    missing = low.attribute("nodes_missing_value_tracks_true") or [0] * count
    roots = np.setdiff1d(own, np.concatenate([child[~is_leaf] for child in children]))
    return Forest(
        roots=roots, features=np.where(is_leaf, 0, low.attribute("nodes_featureids", [])),
        thresholds=low.numbers("nodes_values"), true=children[0], false=children[1],
        missing=np.asarray(missing, bool), weights=weights, mode=kinds.pop(),
        depth=_depth(low, roots, children, is_leaf))


def _depth(low: Lowering, roots: Array, children: Sequence[Array], is_leaf: Array) -> int:
    level, depth = set(roots.tolist()), 0
    while level := {int(child[node]) for node in level if not is_leaf[node] for child in children}:
        depth += 1
        if depth > MAX_DEPTH:
            raise low.refused(f"has a tree of more than {MAX_DEPTH} levels, or a cycle",
                              "limit max_depth when fitting")
    return depth


def _leaves(low: Lowering, x: FlatValue, forest: Forest) -> FlatValue:
    """Number of the leaf that each row reaches in each tree: [rows, trees]."""
    rows = (x.shape or (0,))[0]
    at = low.op("Expand", low.constant(forest.roots[None], "int64"),
                low.constant([rows, len(forest.roots)], "int64"))
    features, true, false = (
        low.constant(a, "int64") for a in (forest.features, forest.true, forest.false))
    thresholds = low.constant(forest.thresholds, "float32")
    for _ in range(forest.depth):
        seen = low.op("GatherElements", x, low.op("Gather", features, at), axis=1)
        holds = low.op(_COMPARISONS[forest.mode], seen, low.op("Gather", thresholds, at))
        if forest.mode == "BRANCH_NEQ":
            holds = low.op("Not", holds)
        if forest.missing.any():
            absent = low.op("And", low.op("IsNaN", seen),
                            low.op("Gather", low.constant(forest.missing, "bool"), at))
            holds = low.op("Or", holds, absent)
        at = low.op("Where", holds, low.op("Gather", true, at), low.op("Gather", false, at))
    return at


def _sums(low: Lowering, x: FlatValue, forest: Forest) -> FlatValue:
    """[rows, targets] over all trees."""
    each = low.op("Gather", low.constant(forest.weights, "float32"), _leaves(low, x, forest))
    total = low.sum(each, 1, False)
    kind = low.attribute("aggregate_function", "SUM")
    if kind == "AVERAGE":
        return low.op("Div", total, low.constant(len(forest.roots), "float32"))
    if kind != "SUM":
        raise low.refused(f"aggregates by {kind}", "use SUM or AVERAGE")
    return total


def _regressor(low: Lowering, inputs: Lowered) -> Lowered:
    forest = _forest(low, "target", low.attribute("n_targets", 1))
    scores = _sums(low, low.floats(inputs[0]), forest)
    base = low.numbers("base_values")
    if base.size:
        scores = low.op("Add", scores, low.constant(base, "float32"))
    return [low.transformed(scores)]


def _classifier(low: Lowering, inputs: Lowered) -> Lowered:
    labels = low.labels("classlabels_int64s")
    forest = _forest(low, "class", len(labels))
    scores = _sums(low, low.floats(inputs[0]), forest)
    base = low.numbers("base_values")
    used = set(low.attribute("class_ids", []))
    if len(labels) == 2 and len(used) == 1:
        return _binary(low, scores, forest, labels, base, used.pop())
    if base.size:
        scores = low.op("Add", scores, low.constant(base, "float32"))
    return [low.picked(scores, labels), low.transformed(scores)]


def _binary(
    low: Lowering, scores: FlatValue, forest: Forest, labels: Array, base: Array, used: int
) -> Lowered:
    """Weights for one class of two: probabilities where all are positive, else a margin."""
    score = low.op("Gather", scores, low.constant([used], "int64"), axis=1)
    if base.size:
        score = low.op("Add", score, low.constant(base[-1:], "float32"))
    positive = bool(np.all(np.asarray(forest.weights, np.float32) >= 0))
    if positive and low.attribute("post_transform", "NONE") == "NONE":
        both = low.op("Concat", low.op("Sub", low.constant(1, "float32"), score), score, axis=1)
    else:
        both = low.op("Concat", low.op("Neg", score), score, axis=1)
    return [low.picked(both, labels), low.transformed(both)]


def lower(
    flat: Flattener, node: onnx.NodeProto, inputs: Sequence[FlatValue], scope: Scope
) -> Lowered:
    """Write a node of `ai.onnx.ml` in standard operators; the values of its outputs.

    Raises:
        HomespunError: UNSUPPORTED_OP for an operator or a setting that has no such form.
    """
    low = Lowering(flat, node, scope)
    if node.op_type not in LOWERINGS:
        raise low.refused(f"has no form in standard operators; known are {', '.join(LOWERINGS)}")
    if scope.opset < OLDEST:
        raise low.refused(f"is in a file of opset {scope.opset}",
                          f"convert the estimator with target_opset {OLDEST} or newer")
    return LOWERINGS[node.op_type](low, inputs)


LOWERINGS: Mapping[str, Callable[[Lowering, Lowered], Lowered]] = {
    **LINEAR,
    "TreeEnsembleClassifier": _classifier,
    "TreeEnsembleRegressor": _regressor,
}
"""Operator of `ai.onnx.ml` -> how it is written in standard ones."""
