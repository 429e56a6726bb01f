"""The closed list of operators that a job may contain, and the facts about each one.

Everything is of the default ONNX domain at `OPSET`. The list is data: the checker refuses what is
not here, the cost model reads the class, the differentiator reads `differentiable` and
`inert_inputs`, and every executor must run all of it. docs/operators.md is generated from it by
scripts/operators_doc.py. Arity and attributes follow the ONNX operator reference
(onnx/docs/Operators.md at opset 23), and a test compares them with the `onnx` package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from ir.graph import Node

OPSET = 23
"""The version of the default domain that the facts follow and that front ends write."""
OPSETS = range(OPSET, 27)
"""Versions that a graph may have in memory: above `OPSET` only where an operator is newer. What
changed in between for older operators are further types, not their meaning."""


class OpClass(StrEnum):
    """What limits an operator's speed; a peer is measured once per class."""

    MATMUL = "matmul"
    ATTENTION = "attention"
    CONVOLUTION = "convolution"
    MEMORY = "memory"
    """Element-wise work, copies, reductions: time is bytes over memory bandwidth."""
    HOST = "host"
    """Known before the run (shapes, constants): costs a device nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorInfo:
    """The facts about one operator.

    Attributes:
        op_class: which measured speed of a peer applies.
        differentiable: whether a gradient passes from its float outputs to its float inputs. True
            also where the gradient is zero almost everywhere (`Floor`), because automatic
            differentiation passes that zero on.
        random: whether it draws random numbers (keyed by seed, step, microbatch and node index).
        min_inputs: fewest inputs, trailing optional ones left out.
        max_inputs: most inputs; None: any number.
        max_outputs: most outputs; None: any number.
        required: attributes that must be there.
        optional: attributes that may be there.
        inert_inputs: positions of inputs that never receive a gradient even if they are floats.
        since: first version of the default domain that has it, where that is above `OPSET`.
        description: one line for people.
    """

    op_class: OpClass
    differentiable: bool
    random: bool
    min_inputs: int
    max_inputs: int | None
    max_outputs: int | None
    required: tuple[str, ...]
    optional: tuple[str, ...]
    inert_inputs: frozenset[int]
    description: str
    since: int = OPSET


def _op(
    description: str,
    inputs: int | tuple[int, int | None] = 1,
    *,
    outputs: int | None = 1,
    required: str = "",
    optional: str = "",
    op_class: OpClass = OpClass.MEMORY,
    gradient: bool = True,
    random: bool = False,
    inert: tuple[int, ...] = (),
    since: int = OPSET,
) -> OperatorInfo:
    least, most = (inputs, inputs) if isinstance(inputs, int) else inputs
    return OperatorInfo(
        op_class=op_class, differentiable=gradient, random=random, min_inputs=least,
        max_inputs=most, max_outputs=outputs, required=tuple(required.split()),
        optional=tuple(optional.split()), inert_inputs=frozenset(inert), description=description,
        since=since)


def _comparison(description: str, inputs: int = 2, optional: str = "") -> OperatorInfo:
    return _op(description, inputs, optional=optional, gradient=False)


def _reduction(description: str) -> OperatorInfo:
    return _op(f"{description} over axes", (1, 2), optional="keepdims noop_with_empty_axes")


_POOL = "auto_pad ceil_mode dilations pads strides"
_CONV = "auto_pad dilations group kernel_shape pads strides"
_LOSS = "ignore_index reduction"

_ELEMENTWISE: dict[str, OperatorInfo] = {
    "Abs": _op("absolute value"),
    "Acos": _op("inverse cosine"),
    "Acosh": _op("inverse hyperbolic cosine"),
    "Add": _op("sum of two, broadcast", 2),
    "And": _comparison("logical and, broadcast"),
    "Asin": _op("inverse sine"),
    "Asinh": _op("inverse hyperbolic sine"),
    "Atan": _op("inverse tangent"),
    "Atanh": _op("inverse hyperbolic tangent"),
    "Cast": _op("conversion to another dtype", required="to", optional="saturate"),
    "CastLike": _op("conversion to the dtype of the second input", 2, optional="saturate",
                    inert=(1,)),
    "Ceil": _op("smallest integer not below (zero gradient)"),
    "Celu": _op("continuously differentiable ELU", optional="alpha"),
    "Clip": _op("limit to [min, max]", (1, 3)),
    "Cos": _op("cosine"),
    "Cosh": _op("hyperbolic cosine"),
    "Div": _op("quotient of two, broadcast; integers truncate", 2),
    "Dropout": _op("random zeroing in training mode", (1, 3), outputs=2, optional="seed",
                   random=True, inert=(1, 2)),
    "Elu": _op("exponential linear unit", optional="alpha"),
    "Equal": _comparison("a == b, broadcast"),
    "Erf": _op("error function"),
    "Exp": _op("exponential"),
    "Floor": _op("largest integer not above (zero gradient)"),
    "Gelu": _op("Gaussian error linear unit", optional="approximate"),
    "Greater": _comparison("a > b, broadcast"),
    "GreaterOrEqual": _comparison("a >= b, broadcast"),
    "HardSigmoid": _op("piecewise linear sigmoid", optional="alpha beta"),
    "HardSwish": _op("x times hard sigmoid"),
    "Identity": _op("the same value"),
    "IsInf": _comparison("infinite?", 1, optional="detect_negative detect_positive"),
    "IsNaN": _comparison("not a number?", 1),
    "LeakyRelu": _op("ReLU with a slope below zero", optional="alpha"),
    "Less": _comparison("a < b, broadcast"),
    "LessOrEqual": _comparison("a <= b, broadcast"),
    "Log": _op("natural logarithm"),
    "Max": _op("largest of all inputs, broadcast", (1, None)),
    "Mean": _op("mean of all inputs, broadcast", (1, None)),
    "Min": _op("smallest of all inputs, broadcast", (1, None)),
    "Mish": _op("x * tanh(softplus(x))"),
    "Mod": _op("remainder, broadcast", 2, optional="fmod"),
    "Mul": _op("product of two, broadcast", 2),
    "Neg": _op("negation"),
    "Not": _comparison("logical not", 1),
    "Or": _comparison("logical or, broadcast"),
    "PRelu": _op("ReLU with a learned slope below zero", 2),
    "Pow": _op("power, broadcast", 2),
    "Reciprocal": _op("1 / x"),
    "Relu": _op("max(x, 0)"),
    "Round": _op("nearest integer, halves to even (zero gradient)"),
    "Selu": _op("scaled exponential linear unit", optional="alpha gamma"),
    "Sigmoid": _op("logistic function"),
    "Sign": _op("-1, 0 or 1 (zero gradient)"),
    "Sin": _op("sine"),
    "Sinh": _op("hyperbolic sine"),
    "Softplus": _op("log(1 + exp(x))"),
    "Softsign": _op("x / (1 + |x|)"),
    "Sqrt": _op("square root"),
    "Sub": _op("difference of two, broadcast", 2),
    "Sum": _op("sum of all inputs, broadcast", (1, None)),
    "Tan": _op("tangent"),
    "Tanh": _op("hyperbolic tangent"),
    "ThresholdedRelu": _op("x above a threshold, else 0", optional="alpha"),
    "Where": _op("choice by a condition, broadcast", 3),
    "Xor": _comparison("logical exclusive or, broadcast"),
}

_SHAPE: dict[str, OperatorInfo] = {
    "ArgMax": _op("index of the largest along an axis", gradient=False,
                  optional="axis keepdims select_last_index"),
    "ArgMin": _op("index of the smallest along an axis", gradient=False,
                  optional="axis keepdims select_last_index"),
    "Concat": _op("join along an axis", (1, None), required="axis"),
    "Constant": _op("a literal", 0, op_class=OpClass.HOST, gradient=False,
                    optional="value value_float value_floats value_int value_ints"),
    "ConstantOfShape": _op("one value, repeated to a shape", optional="value", gradient=False),
    "CumSum": _op("running sum along an axis", 2, optional="exclusive reverse"),
    "DepthToSpace": _op("channels to pixels", required="blocksize", optional="mode"),
    "Expand": _op("broadcast to a shape", 2),
    "Flatten": _op("reshape to two axes", optional="axis"),
    "Gather": _op("slices by index (embedding lookup)", 2, optional="axis"),
    "GatherElements": _op("elements by index along an axis", 2, optional="axis"),
    "GatherND": _op("slices by index tuples", 2, optional="batch_dims"),
    "OneHot": _op("indices to one-hot vectors", 3, optional="axis", gradient=False),
    "Pad": _op("add or remove a border", (2, 4), optional="mode"),
    "Range": _op("arithmetic sequence", 3, gradient=False),
    "Reshape": _op("same elements, other shape", 2, optional="allowzero"),
    "ScatterElements": _op("write elements by index along an axis", 3, optional="axis reduction"),
    "ScatterND": _op("write slices by index tuples", 3, optional="reduction"),
    "Shape": _op("extents as int64", optional="end start", op_class=OpClass.HOST, gradient=False),
    "Size": _op("number of elements as int64", op_class=OpClass.HOST, gradient=False),
    "Slice": _op("range with stride per axis", (3, 5)),
    "SpaceToDepth": _op("pixels to channels", required="blocksize"),
    "Split": _op("parts along an axis", (1, 2), outputs=None, optional="axis num_outputs"),
    "Squeeze": _op("drop axes of extent 1", (1, 2)),
    "Tile": _op("repeat along each axis", 2),
    "TopK": _op("k largest or smallest along an axis", 2, outputs=2,
                optional="axis largest sorted"),
    "Transpose": _op("permute axes", optional="perm"),
    "Trilu": _op("upper or lower triangle", (1, 2), optional="upper"),
    "Unsqueeze": _op("insert axes of extent 1", 2),
}

_REDUCTIONS: dict[str, OperatorInfo] = {
    "ReduceL1": _reduction("sum of absolute values"),
    "ReduceL2": _reduction("root of the sum of squares"),
    "ReduceLogSum": _reduction("log of the sum"),
    "ReduceLogSumExp": _reduction("log of the sum of exponentials"),
    "ReduceMax": _reduction("largest"),
    "ReduceMean": _reduction("mean"),
    "ReduceMin": _reduction("smallest"),
    "ReduceProd": _reduction("product"),
    "ReduceSum": _reduction("sum"),
    "ReduceSumSquare": _reduction("sum of squares"),
}

_NEURAL: dict[str, OperatorInfo] = {
    "Attention": _op("scaled dot-product attention", (3, 6), outputs=4, op_class=OpClass.ATTENTION,
                     optional="is_causal kv_num_heads q_num_heads qk_matmul_output_mode scale "
                     "softcap softmax_precision"),
    "AveragePool": _op("mean over windows", required="kernel_shape",
                       optional=_POOL + " count_include_pad"),
    "Conv": _op("convolution", (2, 3), op_class=OpClass.CONVOLUTION, optional=_CONV),
    "ConvTranspose": _op("transposed convolution", (2, 3), op_class=OpClass.CONVOLUTION,
                         optional=_CONV + " output_padding output_shape"),
    "Einsum": _op("sum of products by an equation", (1, None), required="equation",
                  op_class=OpClass.MATMUL),
    "Gemm": _op("alpha * A @ B + beta * C", (2, 3), optional="alpha beta transA transB",
                op_class=OpClass.MATMUL),
    "GlobalAveragePool": _op("mean over all pixels"),
    "GlobalMaxPool": _op("largest over all pixels"),
    "GroupNormalization": _op("normalise groups of channels", 3, required="num_groups",
                              optional="epsilon stash_type"),
    "InstanceNormalization": _op("normalise each channel of each sample", 3, optional="epsilon"),
    "LayerNormalization": _op("normalise the trailing axes", (2, 3), outputs=3,
                              optional="axis epsilon stash_type"),
    "LogSoftmax": _op("log of softmax along an axis", optional="axis"),
    "MatMul": _op("matrix product, batched", 2, op_class=OpClass.MATMUL),
    "MaxPool": _op("largest over windows", outputs=2, required="kernel_shape",
                   optional=_POOL + " storage_order"),
    "NegativeLogLikelihoodLoss": _op("mean of -input[target]", (2, 3), optional=_LOSS, inert=(2,)),
    "RMSNormalization": _op("divide by the root mean square of the trailing axes", 2,
                            optional="axis epsilon stash_type"),
    "RotaryEmbedding": _op("rotary position embedding", (3, 4),
                           optional="interleaved num_heads rotary_embedding_dim"),
    "Softmax": _op("exponentials that sum to 1 along an axis", optional="axis"),
    "SoftmaxCrossEntropyLoss": _op("cross entropy of scores and labels", (2, 3), outputs=2,
                                   optional=_LOSS, inert=(2,)),
}

OPERATORS: Mapping[str, OperatorInfo] = MappingProxyType(
    dict(sorted((_ELEMENTWISE | _SHAPE | _REDUCTIONS | _NEURAL).items())))
"""op_type -> its facts, in alphabetical order."""

RANDOM_OPERATORS = frozenset(name for name, info in OPERATORS.items() if info.random)
"""Operators that draw: never folded, never computed in more than one segment."""

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "Element-wise": tuple(sorted(_ELEMENTWISE)),
    "Shape, indexing and copies": tuple(sorted(_SHAPE)),
    "Reductions": tuple(sorted(_REDUCTIONS)),
    "Neural network": tuple(sorted(_NEURAL)),
})
"""Title of a family -> its operators, for documentation."""


def misuse(node: Node) -> str | None:
    """What is wrong with the arity or the attributes of a node, in words; None if nothing.

    Unknown attributes are refused: an executor that ignored one would compute something else.
    """
    info = OPERATORS[node.op_type]
    given, most = len(node.inputs), info.max_inputs
    if given < info.min_inputs or (most is not None and given > most):
        return f"it has {given} inputs; the operator takes {_span(info.min_inputs, most)}"
    if not node.outputs or (info.max_outputs is not None and len(node.outputs) > info.max_outputs):
        return f"it has {len(node.outputs)} outputs; the operator has {_span(1, info.max_outputs)}"
    if most is None and "" in node.inputs:
        return "an input is left out, but all inputs of this operator are required"
    for position in range(info.min_inputs):
        if not node.inputs[position]:
            return f"input {position} is left out, but it is required"
    for name in info.required:
        if name not in node.attributes:
            return f"attribute '{name}' is missing"
    for name in sorted(node.attributes):
        if name not in info.required and name not in info.optional:
            return f"attribute '{name}' is not one of this operator's"
    return None


def _span(least: int, most: int | None) -> str:
    if most is None:
        return f"{least} or more"
    return str(least) if least == most else f"{least} to {most}"
