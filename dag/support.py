"""What a peer's executor can run, and whether it can run one node. Frozen values.

An executor declares the operators that it runs, over which dtypes in each of their slots, the
opsets it reads, and whether it differentiates. The declaration travels with the peer's registration
(`ExecutorSupport` of session.proto has the same fields), so nobody imports a framework to read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ir.graph import ITEM_BYTES, Graph, Node
from ir.operators import OPERATORS, opset_of

COMPLETE_EXECUTORS = ("torch", "jax")
"""Executors that run the whole closed list, in training too: what a refusal recommends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DtypeSet:
    """The dtypes that one slot of an operator takes or gives, sorted."""

    dtypes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSupport:
    """Operators that an executor runs over the same dtypes.

    Attributes:
        operators: op types, sorted.
        inputs: dtypes of each input slot; the last entry stands for all further slots. Every
            combination of them that the operator itself allows is run.
        outputs: the same of the output slots.
    """

    operators: tuple[str, ...]
    inputs: tuple[DtypeSet, ...]
    outputs: tuple[DtypeSet, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorSupport:
    """Everything that an executor runs.

    Attributes:
        trainable: whether it differentiates and updates parameters.
        opset_min: oldest opset of the default domain that it reads.
        opset_max: newest one. What counts is what each node needs (`ir.operators.opset_of`): a
            segment may be written down at an older opset than the whole graph.
        operators: what it runs; an operator in no entry it does not run.
    """

    trainable: bool
    opset_min: int
    opset_max: int
    operators: tuple[OperatorSupport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why an executor does not run a node.

    Attributes:
        rule: `operator`, `dtype`, `opset` or `trainable`.
        text: what it lacks, to be read after "its executor".
    """

    rule: str
    text: str


Slots = tuple[tuple[DtypeSet, ...], tuple[DtypeSet, ...]]
"""Dtypes of the input slots and of the output slots; see `OperatorSupport`."""

ALL_DTYPES = DtypeSet(dtypes=tuple(sorted(ITEM_BYTES)))
ANY: Slots = ((ALL_DTYPES,), (ALL_DTYPES,))
"""Every dtype in every slot."""


def grouped(slots: Mapping[str, Slots]) -> tuple[OperatorSupport, ...]:
    """Operators of the same slots in one entry each, in the order of their first operator."""
    groups: dict[Slots, list[str]] = {}
    for operator in sorted(slots):
        groups.setdefault(slots[operator], []).append(operator)
    return tuple(
        OperatorSupport(operators=tuple(operators), inputs=inputs, outputs=outputs)
        for (inputs, outputs), operators in groups.items())


def everything(
    operators: Iterable[str], opsets: range, slots: Slots = ANY
) -> ExecutorSupport:
    """Support of an executor that trains, over the same dtypes everywhere."""
    return ExecutorSupport(
        trainable=True, opset_min=opsets[0], opset_max=opsets[-1],
        operators=grouped(dict.fromkeys(operators, slots)))


class SupportIndex:
    """An executor's support, ready for many questions.

    Cost: linear in the declaration to make; O(slots of the node) per question.
    """

    def __init__(self, support: ExecutorSupport, *, trains: bool) -> None:
        """Prepare.

        Args:
            support: what the executor declares.
            trains: whether the job differentiates.
        """
        self._support, self._trains = support, trains
        self._entries = {
            operator: (_sets(entry.inputs), _sets(entry.outputs))
            for entry in support.operators for operator in entry.operators}

    def first_obstacle(
        self, graph: Graph, nodes: Iterable[int]
    ) -> tuple[Node, Obstacle] | None:
        """The first of some nodes that the executor does not run, and why; None if it runs all."""
        found = ((node, self.obstacle(graph, node)) for node in map(graph.nodes.__getitem__, nodes))
        return next(((node, obstacle) for node, obstacle in found if obstacle is not None), None)

    def obstacle(self, graph: Graph, node: Node) -> Obstacle | None:
        """Why the executor does not run a node of a graph; None if it does."""
        support = self._support
        if self._trains and not support.trainable:
            return Obstacle(rule="trainable", text="does not train")
        entry = self._entries.get(node.op_type)
        if entry is None or node.op_type not in OPERATORS:
            return Obstacle(rule="operator", text=f"does not run {node.op_type}")
        needed = opset_of(node)
        if not support.opset_min <= needed <= support.opset_max:
            return Obstacle(
                rule="opset", text=f"reads opsets {support.opset_min} to {support.opset_max}, not "
                f"{needed}, which {node.op_type} needs here")
        for kind, names, sets in zip(
                ("input", "output"), (node.inputs, node.outputs), entry, strict=True):
            for slot, name in enumerate(names):
                if name and not _takes(sets, slot, graph.types[name].dtype):
                    return Obstacle(
                        rule="dtype", text=f"does not run {node.op_type} with "
                        f"{graph.types[name].dtype} as {kind} {slot}")
        return None


def _sets(slots: tuple[DtypeSet, ...]) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(slot.dtypes) for slot in slots)


def _takes(sets: tuple[frozenset[str], ...], slot: int, dtype: str) -> bool:
    return bool(sets) and dtype in sets[min(slot, len(sets) - 1)]


_FIRST_OPERATORS = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool Cast
    CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
    DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements
    GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization
    HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu
    Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mish Mod Mul Neg
    NegativeLogLikelihoodLoss Not OneHot Or PRelu Pad Pow RMSNormalization Range Reciprocal
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape RotaryEmbedding Round ScatterElements ScatterND Selu
    Shape Sigmoid Sign Sin Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu
    Unsqueeze Where Xor"""
_FIRST_DTYPES = DtypeSet(dtypes=(
    "bfloat16", "bool", "float16", "float32", "float64", "int16", "int32", "int64", "int8",
    "uint16", "uint32", "uint64", "uint8"))
FIRST_RELEASE = everything(
    _FIRST_OPERATORS.split(), range(23, 24), ((_FIRST_DTYPES,), (_FIRST_DTYPES,)))
"""What a peer runs that says nothing of it: the torch executor of the first release."""
