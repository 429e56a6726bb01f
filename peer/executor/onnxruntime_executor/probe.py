"""Which operators this build of ONNX Runtime runs on a device, and over which dtypes.

Nobody but the runtime knows: kernels come and go with versions and providers, some operators are
expanded into others, and float16 is computed in float32 where a kernel lacks it. So each operator
of the closed list is tried: a session over one node with inputs of unknown shape is compiled as far
as choosing a kernel. Compiling runs nothing and takes about a millisecond; all of it a few seconds.

The type variables of an operator, and what each may be, are those of its ONNX schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import onnx
import onnxruntime as ort

from dag.support import DtypeSet, Slots
from ir.graph import FLOATS, Attribute, Node
from ir.operators import OPERATORS, OPSET, OPSETS, RANDOM_OPERATORS
from ir.serde import encode_node
from ir.tensor_proto import ELEMENT_TYPES, numpy_dtype
from peer.executor.onnxruntime_executor.inference_form import inference_form
from peer.executor.onnxruntime_executor.session import Place

PREFERRED = ("float32", "int64", "bool", "float64", "int32", "float16", "uint8", "int8", "bfloat16",
             "int16", "uint64", "uint32", "uint16")
"""Dtypes that are tried; the last ones are given up first where a combination of several fails.

Not tried are those of 8 bits and fewer that are only stored: the runtime packs some of them, and
arrays of ours do not.
"""
_USUAL: Mapping[str, Sequence[str]] = {"OneHot": ("int64", "int64", "float32")}
"""Operator -> the dtypes of its type variables that exporters write, where others run as well but
not all together."""
_REFUSED_WHEN_RUN: Mapping[str, frozenset[str]] = {
    "Clip": frozenset({"bfloat16", "int16", "uint16"}),  # with both limits
    "Mod": FLOATS,  # with fmod=0
    "ScatterElements": frozenset({"bfloat16", "float16"}),  # with a reduction
    "ScatterND": frozenset({"bfloat16", "float16"}),  # with a reduction
    "Resize": frozenset({"int32", "int8", "uint8"}),  # cubic
    "ReduceMax": frozenset({"bool"}), "ReduceMin": frozenset({"bool"}),  # over nothing
}
"""Operator -> dtypes whose kernel is there and yet refuses some inputs when it runs."""
_NOT_TRUSTED = frozenset({
    "ConvInteger",  # refuses padding when it runs
    "MaxUnpool",  # with an output shape it puts elements elsewhere
})
"""Operators that compile and yet are not declared."""
_RIGHT_OUTPUTS: Mapping[str, int] = {"Attention": 3}
"""Operator -> outputs that are right: masked scores come as the lowest float instead of -inf."""
COMBINATIONS_MAX = 200
"""Tried for one operator, at most; beyond, only its first type variable is free."""
_VARIADIC = 2
_TEXTS = {"equation": "ij,jk->ik"}
_FALLBACKS: Mapping[int, Attribute] = {
    onnx.defs.OpSchema.AttrType.INT: 1, onnx.defs.OpSchema.AttrType.INTS: (1, 1),
    onnx.defs.OpSchema.AttrType.FLOAT: 1.0, onnx.defs.OpSchema.AttrType.FLOATS: (1.0,),
}
_OUTPUT_DTYPES = ("to", "dtype", "output_dtype")
"""Attributes that say the dtype of an output."""

Assignment = dict[str, str]
"""Type variable -> dtype."""


def probed_slots(place: Place) -> dict[str, Slots]:
    """Dtypes of the slots of every operator that runs; those that do not run are left out.

    Random operators draw on the host, by keys of ours, and are left out but for dropout, which does
    not draw in inference.
    """
    names = sorted({*OPERATORS} - {*RANDOM_OPERATORS} - _NOT_TRUSTED | {"Dropout"})
    probes = ((name, _Probe(name, place)) for name in names)
    return {name: slots for name, probe in probes if (slots := probe.slots()) is not None}


def readable_opsets(place: Place, operators: Iterable[str]) -> range:
    """Opsets, from `OPSET` on, at which every operator that has changed since still compiles.

    Args:
        place: where to compute.
        operators: what `probed_slots` found.
    """
    for opset in OPSETS[1:]:
        changed = (name for name in operators if _version(name, opset) > OPSET)
        if not all(_Probe(name, place, opset).compiles() for name in changed):
            return range(OPSET, opset)
    return OPSETS


def _version(name: str, opset: int) -> int:
    """The version of an operator that an opset has; 0 if it has none."""
    if not onnx.defs.has(name, opset, ""):
        return 0
    version: int = onnx.defs.get_schema(name, opset, "").since_version
    return version


@dataclass(frozen=True, slots=True)
class _Slot:
    """One formal input or output: its type variable (or fixed type) and how often it may come."""

    variable: str
    is_required: bool
    is_variadic: bool


class _Probe:
    """One operator on one device, at an opset or at the first that has it."""

    def __init__(self, name: str, place: Place, opset: int = 0) -> None:
        self._name, self._place = name, place
        self._opset = opset or OPERATORS[name].since
        schema = onnx.defs.get_schema(name, self._opset, "")
        self._schema = schema
        self._inputs = [_slot(formal) for formal in schema.inputs]
        self._outputs = [_slot(formal) for formal in schema.outputs]
        self._domains = {
            variable: _dtypes(types) for variable, types in _constraints(schema).items()}

    def slots(self) -> Slots | None:
        """What each slot takes and gives; None if the operator does not run at all."""
        base = self._base()
        if base is None:
            return None
        found = {
            variable: [dtype for dtype in dtypes
                       if dtype == base[variable] or self._runs({**base, variable: dtype})]
            for variable, dtypes in self._domains.items()}
        refused = _REFUSED_WHEN_RUN.get(self._name, frozenset())
        taken = {variable: DtypeSet(dtypes=tuple(sorted({*dtypes} - refused)))
                 for variable, dtypes in self._closed(found, base).items()}
        inputs = tuple(taken[slot.variable] for slot in self._inputs)
        outputs = tuple(taken[slot.variable] for slot in self._outputs)
        right = _RIGHT_OUTPUTS.get(self._name, len(outputs))
        return inputs, (*outputs[:right], *[DtypeSet(dtypes=())] * (len(outputs) - right))

    def compiles(self) -> bool:
        """Whether it runs over any dtypes."""
        return self._base() is not None

    def _base(self) -> Assignment | None:
        """The most usual dtypes over which it runs."""
        usual = dict(zip(self._domains, _USUAL.get(self._name, ()), strict=False))
        candidates = [usual] if usual else self._assignments(self._domains)
        return next(filter(self._runs, candidates), None)

    def _closed(self, found: dict[str, list[str]], base: Assignment) -> dict[str, list[str]]:
        """Dtypes per variable of which every combination runs; the least usual go first."""
        free = [variable for variable, dtypes in found.items() if len(dtypes) > 1]
        if len(free) < 2:
            return found
        if prod(len(found[variable]) for variable in free) > COMBINATIONS_MAX:
            return {**found, **{variable: [base[variable]] for variable in free[1:]}}
        failing = [a for a in self._assignments(found) if not self._runs(a)]
        while failing:
            counts: dict[tuple[int, int, str, str], int] = {}
            for assignment in failing:
                for variable in free:
                    dtype = assignment[variable]
                    if dtype != base[variable]:
                        key = (0, PREFERRED.index(dtype), variable, dtype)
                        counts[key] = counts.get(key, 0) + 1
            worst = max(counts, key=lambda key: (counts[key], key))
            found[worst[2]].remove(worst[3])
            failing = [a for a in failing if a[worst[2]] != worst[3]]
        return found

    def _assignments(self, domains: Mapping[str, Sequence[str]]) -> Iterator[Assignment]:
        for dtypes in product(*domains.values()):
            yield dict(zip(domains, dtypes, strict=True))

    def _runs(self, assignment: Assignment) -> bool:
        """Whether a session over the node can be made."""
        try:
            model = self._model(assignment)
            ort.InferenceSession(
                model.SerializeToString(), self._options(), providers=self._place.providers())
        except Exception:  # whatever keeps it from compiling: it does not run
            return False
        return True

    def _options(self) -> ort.SessionOptions:
        options = self._place.options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        return options

    def _model(self, assignment: Assignment) -> onnx.ModelProto:
        inputs = [(f"in{number}", assignment[slot.variable])
                  for number, slot in enumerate(_expanded(self._inputs))]
        outputs = [(f"out{number}", assignment[slot.variable])
                   for number, slot in enumerate(_expanded(self._outputs)) if slot.is_required]
        node = Node(
            0, "probe", self._name, tuple(name for name, _ in inputs),
            tuple(name for name, _ in outputs), self._attributes(dict(outputs)["out0"]))
        return _model(
            inference_form(node, {name for name, _ in outputs}), inputs, outputs, self._opset)

    def _attributes(self, output: str) -> dict[str, Attribute]:
        attributes: dict[str, Attribute] = {}
        info = OPERATORS[self._name]
        for name, schema in self._schema.attributes.items():
            if name in _OUTPUT_DTYPES and name in (*info.required, *info.optional):
                attributes[name] = ELEMENT_TYPES[output]
            elif name == "value":
                attributes[name] = np.zeros(1, numpy_dtype(output))
            elif schema.required or name in info.required:
                attributes[name] = _TEXTS.get(name) or _FALLBACKS[schema.type]
        return attributes


def _model(
    nodes: Iterator[Node], inputs: list[tuple[str, str]], outputs: list[tuple[str, str]],
    opset: int,
) -> onnx.ModelProto:
    """A model whose inputs have dtypes but no shapes, so that it fits operands of any rank."""
    model = onnx.ModelProto(ir_version=11)
    model.opset_import.add(domain="", version=opset)
    model.graph.name = "probe"
    model.graph.node.extend(encode_node(node) for node in nodes)
    for target, values in ((model.graph.input, inputs), (model.graph.output, outputs)):
        for name, dtype in values:
            target.add(name=name).type.tensor_type.elem_type = ELEMENT_TYPES[dtype]
    return model


def _slot(formal: onnx.defs.OpSchema.FormalParameter) -> _Slot:
    option = onnx.defs.OpSchema.FormalParameterOption
    return _Slot(formal.type_str, formal.option != option.Optional,
                 formal.option == option.Variadic)


def _expanded(slots: list[_Slot]) -> Iterator[_Slot]:
    """Slots that a node fills: required ones, and optional ones up to the last whose type is new.

    A type variable that only an optional slot has is tried through that slot.
    """
    seen: set[str] = set()
    last = 0
    for number, slot in enumerate(slots):
        if slot.is_required or slot.variable not in seen:
            last = number + 1
        seen.add(slot.variable)
    for slot in slots[:last]:
        yield from [slot] * (_VARIADIC if slot.is_variadic else 1)


def _constraints(schema: onnx.defs.OpSchema) -> dict[str, Sequence[str]]:
    """Type variable, or fixed type, -> types that it may be, of the slots that the operator has."""
    found = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    slots = (*schema.inputs, *schema.outputs)
    return {slot.type_str: found.get(slot.type_str, [slot.type_str]) for slot in slots}


_NAMES = {"float": "float32", "double": "float64"}


def _dtypes(types: Sequence[str]) -> list[str]:
    """Dtypes of ours among ONNX types such as `tensor(float)`, the usual ones first."""
    inner = (text.removeprefix("tensor(").removesuffix(")") for text in types)
    found = {_NAMES.get(name, name) for name in inner} & set(PREFERRED)
    return sorted(found, key=PREFERRED.index)
