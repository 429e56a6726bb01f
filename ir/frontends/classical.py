"""Estimators of `ai.onnx.ml` in standard operators: scalers, encoders, linear models, kernels.

Sources: the operator reference of ai.onnx.ml, versions 1 to 3. Only operators are written whose
meaning is the same from opset 13 to 23, so that the result can be converted like any other node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ir.frontends.flat_value import FlatValue, Scope
from ir.frontends.refusals import refuse
from ir.tensor_proto import ELEMENT_TYPES, Array

if TYPE_CHECKING:
    from ir.frontends.flatten import Flattener

DOMAIN = "ai.onnx.ml"
OLDEST = 13
"""First opset in which the operators used here mean what they mean now."""


class Lowering:
    """Writes standard operators in place of one node."""

    def __init__(self, flat: Flattener, node: onnx.NodeProto, scope: Scope) -> None:
        self.flat = flat
        self.node = node
        self.scope = scope
        self._given = {entry.name: onnx.helper.get_attribute_value(entry)
                       for entry in node.attribute}
        self._count = 0

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute; bytes as text."""
        value = self._given.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def numbers(self, name: str) -> Array:
        """A list of floats, or its form as a tensor; empty if neither is given."""
        tensor = self._given.get(f"{name}_as_tensor")
        if tensor is not None:
            return np.asarray(onnx.numpy_helper.to_array(tensor), np.float32).reshape(-1)
        return np.asarray(self._given.get(name, []), np.float32)

    def constant(self, array: Any, dtype: str) -> FlatValue:
        """A constant of one of our dtypes."""
        return self.flat.constant(np.asarray(array, dtype))

    def op(self, op_type: str, *inputs: FlatValue, **attributes: object) -> FlatValue:
        """A node with one output."""
        self._count += 1
        name = f"{self.node.name or self.node.op_type}/{op_type}_{self._count}"
        return self.flat.emit(op_type, list(inputs), self.scope, name, **attributes)

    def floats(self, value: FlatValue) -> FlatValue:
        """The value in single precision, in which these operators compute."""
        to = ELEMENT_TYPES["float32"]
        return value if value.element_type == to else self.op("Cast", value, to=to)

    def sum(self, value: FlatValue, axis: int, keepdims: bool) -> FlatValue:
        """The sum along an axis."""
        axes = self.constant([axis], "int64")
        return self.op("ReduceSum", value, axes, keepdims=int(keepdims))

    def refused(self, reason: str, instead: str = "") -> Exception:
        """The error for this node."""
        return refuse(self.node, reason, prefix=self.scope.prefix, instead=instead)

    def labels(self, name: str) -> Array:
        """Class numbers; text is refused."""
        for text in ("classlabels_strings", "cats_strings"):
            if self._given.get(text):
                raise self.refused(
                    "has text as labels or categories, and a tensor holds numbers",
                    "train the estimator on integer labels (LabelEncoder().fit_transform(y))")
        return np.asarray(self._given.get(name, []), np.int64)

    def transformed(self, scores: FlatValue) -> FlatValue:
        """Scores [rows, classes] after the node's `post_transform`."""
        kind = self.attribute("post_transform", "NONE")
        if kind == "NONE":
            return scores
        if kind == "SOFTMAX":
            return self.op("Softmax", scores, axis=-1)
        if kind == "LOGISTIC":
            return self.op("Sigmoid", scores)
        raise self.refused(f"has the post-transform {kind}", "use NONE, SOFTMAX or LOGISTIC")

    def picked(self, scores: FlatValue, labels: Array) -> FlatValue:
        """The label of the largest score in each row."""
        best = self.op("ArgMax", scores, axis=1, keepdims=0)
        return self.op("Gather", self.constant(labels, "int64"), best)


Lowered = Sequence[FlatValue]


def _scaler(low: Lowering, inputs: Lowered) -> Lowered:
    x = low.floats(inputs[0])
    offset, scale = low.numbers("offset"), low.numbers("scale")
    shifted = low.op("Sub", x, low.constant(offset, "float32")) if offset.size else x
    return [low.op("Mul", shifted, low.constant(scale, "float32")) if scale.size else shifted]


def _normalizer(low: Lowering, inputs: Lowered) -> Lowered:
    x, kind = low.floats(inputs[0]), low.attribute("norm", "MAX")
    if kind == "L1":
        norm = low.sum(low.op("Abs", x), 1, True)
    elif kind == "L2":
        norm = low.op("Sqrt", low.sum(low.op("Mul", x, x), 1, True))
    else:
        best = low.op("ArgMax", x, axis=1, keepdims=1)
        norm = low.op("GatherElements", x, best, axis=1)
    zero = low.op("Equal", norm, low.constant(0, "float32"))
    return [low.op("Div", x, low.op("Where", zero, low.constant(1, "float32"), norm))]


def _binarizer(low: Lowering, inputs: Lowered) -> Lowered:
    limit = low.constant(low.attribute("threshold", 0.0), "float32")
    above = low.op("Greater", low.floats(inputs[0]), limit)
    return [low.op("Cast", above, to=ELEMENT_TYPES["float32"])]


def _imputer(low: Lowering, inputs: Lowered) -> Lowered:
    values = low.numbers("imputed_value_floats")
    missing = low.attribute("replaced_value_float", 0.0)
    if not values.size:
        raise low.refused("fills in integers", "give the imputer columns of floats")
    x = low.floats(inputs[0])
    absent = low.op("IsNaN", x) if np.isnan(missing) else low.op(
        "Equal", x, low.constant(missing, "float32"))
    return [low.op("Where", absent, low.constant(values, "float32"), x)]


def _one_hot(low: Lowering, inputs: Lowered) -> Lowered:
    categories = low.labels("cats_int64s")
    x = low.op("Cast", inputs[0], to=ELEMENT_TYPES["int64"])
    wide = low.op("Unsqueeze", x, low.constant([-1], "int64"))
    equal = low.op("Equal", wide, low.constant(categories, "int64"))
    return [low.op("Cast", equal, to=ELEMENT_TYPES["float32"])]


def _features(low: Lowering, inputs: Lowered) -> Lowered:
    return [low.op("Concat", *(low.floats(value) for value in inputs), axis=1)]


def _extractor(low: Lowering, inputs: Lowered) -> Lowered:
    x, indices = inputs
    flat = low.op("Reshape", indices, low.constant([-1], "int64"))
    picked = low.op("Gather", x, flat, axis=-1)
    if x.shape is not None and len(x.shape) == 1:  # The reference gives one row.
        picked = low.op("Unsqueeze", picked, low.constant([0], "int64"))
    return [picked]


def _linear_scores(low: Lowering, x: FlatValue, rows: int) -> FlatValue:
    weights = low.numbers("coefficients").reshape(rows, -1)
    scores = low.op("MatMul", low.floats(x), low.constant(weights.T, "float32"))
    bias = low.numbers("intercepts")
    return low.op("Add", scores, low.constant(bias, "float32")) if bias.size else scores


def _linear_regressor(low: Lowering, inputs: Lowered) -> Lowered:
    return [low.transformed(_linear_scores(low, inputs[0], low.attribute("targets", 1)))]


def _linear_classifier(low: Lowering, inputs: Lowered) -> Lowered:
    labels = low.labels("classlabels_ints")
    width = (inputs[0].shape or (0,))[-1]
    if not width:
        raise low.refused("has an input without a static number of features")
    rows = low.numbers("coefficients").size // width
    scores = _linear_scores(low, inputs[0], rows)
    if rows == 1:  # One row of scores for two classes: that of the second.
        scores = low.op("Concat", low.op("Neg", scores), scores, axis=1)
    return [low.picked(scores, labels), low.transformed(scores)]


def _svm_regressor(low: Lowering, inputs: Lowered) -> Lowered:
    """sum(coefficient * kernel(x, support vector)) + rho."""
    count = low.attribute("n_supports", 0)
    if not count or low.attribute("one_class", 0):
        raise low.refused("is linear or one-class", "use a linear model or another detector")
    x = low.floats(inputs[0])
    vectors = low.numbers("support_vectors").reshape(count, -1)
    gamma, offset, degree = (low.numbers("kernel_params").tolist() + [0.0] * 3)[:3]
    product = low.op("MatMul", x, low.constant(vectors.T, "float32"))
    kind = low.attribute("kernel_type", "LINEAR")
    if kind == "RBF":
        squares = low.sum(low.op("Mul", x, x), 1, True)
        distance = low.op("Add", low.op("Sub", squares, low.op(
            "Mul", product, low.constant(2, "float32"))),
            low.constant((vectors**2).sum(1), "float32"))
        kernel = low.op("Exp", low.op("Mul", distance, low.constant(-gamma, "float32")))
    elif kind in ("POLY", "SIGMOID"):
        kernel = low.op("Add", low.op("Mul", product, low.constant(gamma, "float32")),
                        low.constant(offset, "float32"))
        kernel = low.op("Tanh", kernel) if kind == "SIGMOID" else low.op(
            "Pow", kernel, low.constant(degree, "float32"))
    else:
        kernel = product
    weights = low.constant(low.numbers("coefficients").reshape(count, 1), "float32")
    scores = low.op("MatMul", kernel, weights)
    return [low.transformed(low.op("Add", scores, low.constant(low.numbers("rho"), "float32")))]


LINEAR: Mapping[str, Callable[[Lowering, Lowered], Lowered]] = {
    "ArrayFeatureExtractor": _extractor,
    "Binarizer": _binarizer,
    "FeatureVectorizer": _features,
    "Imputer": _imputer,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "Normalizer": _normalizer,
    "OneHotEncoder": _one_hot,
    "SVMRegressor": _svm_regressor,
    "Scaler": _scaler,
}
"""Operator of `ai.onnx.ml` -> how it is written in standard ones."""
