"""Append a loss to a model that has none, so that any ONNX file can be fine-tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx
from onnx import helper

from homespun.errors import Code, HomespunError
from ir.frontends.flat_value import FlatValue
from ir.frontends.flatten import opset_of
from ir.graph import FLOATS
from ir.tensor_proto import DTYPES, ELEMENT_TYPES

LOSS = "loss"
"""Name of the graph's output with an appended loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpec:
    """Which loss, of which output, against which column.

    Attributes:
        kind: a key of `LOSSES`.
        output: the predictions: a name among the model's outputs.
        target: name of the new data input.
    """

    kind: str
    output: str
    target: str


Nodes = list[onnx.NodeProto]
Formula = Callable[[str, str], Nodes]
"""Names of predictions and target -> nodes, the last of which makes `LOSS`."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One loss: its formula, and what it compares the predictions with.

    Attributes:
        formula: the nodes.
        labels: the target holds class numbers (int64, without the class axis 1), not floats.
    """

    formula: Formula
    labels: bool


def _cross_entropy(predictions: str, target: str) -> Nodes:
    return [helper.make_node("SoftmaxCrossEntropyLoss", [predictions, target], [LOSS], LOSS)]


def _log_likelihood(predictions: str, target: str) -> Nodes:
    return [
        helper.make_node("Log", [predictions], [f"{LOSS}/logarithms"], f"{LOSS}/Log"),
        helper.make_node("NegativeLogLikelihoodLoss", [f"{LOSS}/logarithms", target], [LOSS], LOSS),
    ]


def _mean_of(op_type: str) -> Formula:
    def formula(predictions: str, target: str) -> Nodes:
        difference, term = f"{LOSS}/difference", f"{LOSS}/terms"
        second = [difference, difference] if op_type == "Mul" else [difference]
        return [
            helper.make_node("Sub", [predictions, target], [difference], f"{LOSS}/Sub"),
            helper.make_node(op_type, second, [term], f"{LOSS}/{op_type}"),
            helper.make_node("ReduceMean", [term], [LOSS], LOSS, keepdims=0),
        ]

    return formula


def _binary_cross_entropy(predictions: str, target: str) -> Nodes:
    """mean(softplus(x) - x * target), which is stable for logits of either sign."""
    wide, chosen, term = (f"{LOSS}/{name}" for name in ("softplus", "chosen", "terms"))
    return [
        helper.make_node("Softplus", [predictions], [wide], f"{LOSS}/Softplus"),
        helper.make_node("Mul", [predictions, target], [chosen], f"{LOSS}/Mul"),
        helper.make_node("Sub", [wide, chosen], [term], f"{LOSS}/Sub"),
        helper.make_node("ReduceMean", [term], [LOSS], LOSS, keepdims=0),
    ]


LOSSES: Mapping[str, Loss] = {
    "cross_entropy": Loss(_cross_entropy, labels=True),
    "negative_log_likelihood": Loss(_log_likelihood, labels=True),
    "binary_cross_entropy": Loss(_binary_cross_entropy, labels=False),
    "mse": Loss(_mean_of("Mul"), labels=False),
    "mae": Loss(_mean_of("Abs"), labels=False),
}
"""Name -> loss, a mean over the microbatch. `cross_entropy` and `binary_cross_entropy` take logits,
`negative_log_likelihood` probabilities, as a model gives them that ends in a softmax."""


def check_loss(kind: str) -> None:
    """Refuse a loss that is not one of `LOSSES`, with INVALID_ARGUMENT."""
    if kind not in LOSSES:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"There is no loss {kind!r}; known are {', '.join(LOSSES)}. For another one, put it "
            "into the model and name its output as the loss.")


def append_loss(model: onnx.ModelProto, spec: LossSpec) -> None:
    """Make the loss the only output of a flat model and the target its last data input, in place.

    Raises:
        HomespunError: INVALID_ARGUMENT where the output cannot be compared this way, or the
            target's name is taken.
    """
    graph, loss = model.graph, LOSSES[spec.kind]
    output = next(value for value in graph.output if value.name == spec.output)
    predictions = FlatValue(output.name, output.type)
    shape = predictions.shape
    dtype = DTYPES.get(predictions.element_type, "")
    if shape is None or dtype not in FLOATS or (loss.labels and len(shape) < 2):
        wanted = "floats [rows, classes, ...]" if loss.labels else "floats of static shape"
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"The loss {spec.kind} compares {wanted}; the output {spec.output!r} is {dtype} "
            f"{'of unknown shape' if shape is None else list(shape)}.")
    taken = {value.name for value in graph.input} | {
        name for node in graph.node for name in node.output}
    for name in (spec.target, LOSS):
        if name in taken:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"The model has a value {name!r} already; call the target column something else.")
    if loss.labels:
        type_ = helper.make_tensor_type_proto(ELEMENT_TYPES["int64"], (shape[0], *shape[2:]))
    else:
        type_ = helper.make_tensor_type_proto(predictions.element_type, shape)
    graph.input.add(name=spec.target).type.CopyFrom(type_)
    graph.value_info.add(name=output.name).type.CopyFrom(output.type)
    graph.node.extend(loss.formula(output.name, spec.target))
    del graph.output[:]
    graph.output.add(name=LOSS).type.CopyFrom(
        helper.make_tensor_type_proto(predictions.element_type, ()))
    assert opset_of(model) >= 13, "losses are written for opsets with axes as inputs"
