"""A model whose batch and sequence axes are open, and the graph that a job binds them to.

A `Graph` is static. What a front end reads stays in ONNX until the extents are known: then one
model gives as many graphs as there are microbatch sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir

from homespun.errors import Code, HomespunError
from ir import serde
from ir.frontends.canonical import freeze, rename
from ir.frontends.flatten import check_static
from ir.frontends.imported import Imported, ImportedParameter
from ir.frontends.losses import LossSpec, append_loss
from ir.frontends.opsets import prepared
from ir.graph import Graph
from ir.limits import DIMENSION
from ir.tensor_proto import Array

Extents = tuple[int | str, ...]
"""Extents of an input: a number, or the name of a symbolic axis."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SymbolicModel:
    """A model as data, before its axes are bound.

    Attributes:
        model: nodes in order; parameters are inputs. It is not changed by binding.
        parameters: the whole state; values beside the model.
        loss: appended to an output when the axes are bound; None: the model has its own.
        names: input of `model` -> what the graph calls it, where that differs.
        outputs: what the graph calls its outputs; None: as the model does.
        updated: inputs of `model` that its last outputs replace (`Graph.updates`).
        keep_names: leave the names of nodes as they are.
        notes: for people, as `Imported.notes`.
    """

    model: onnx.ModelProto
    parameters: tuple[ImportedParameter, ...]
    loss: LossSpec | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] | None = None
    updated: tuple[str, ...] = ()
    keep_names: bool = True
    notes: tuple[str, ...] = ()

    @property
    def inputs(self) -> dict[str, Extents]:
        """Data inputs by the graph's names, with their axes. Axes without a name get one."""
        lifted = {parameter.name for parameter in self.parameters}
        found = {self._named(value.name): value for value in self.model.graph.input}
        return {name: _extents(name, value) for name, value in found.items() if name not in lifted}

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the symbolic axes, in the order of the inputs."""
        named = [axis for extents in self.inputs.values() for axis in extents]
        return tuple(dict.fromkeys(axis for axis in named if isinstance(axis, str)))

    def axes_of(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """The extents of the symbolic axes that follow from the shapes of inputs.

        Args:
            shapes: input -> shape of one microbatch. Others than the model's inputs are ignored.

        Raises:
            HomespunError: INVALID_ARGUMENT naming input, axis and both extents where shapes
                contradict the model or each other.
        """
        bound: dict[str, int] = {}
        source: dict[str, str] = {}
        for name, extents in self.inputs.items():
            if name not in shapes:
                continue
            shape = tuple(shapes[name])
            if len(shape) != len(extents):
                raise _refused(f"Input {name!r} has {len(extents)} axes {_shown(extents)}; the "
                               f"column gives {len(shape)} ({list(shape)}, rows first).")
            for place, (axis, extent) in enumerate(zip(extents, shape, strict=True)):
                known = axis if isinstance(axis, int) else bound.setdefault(axis, extent)
                where = f"axis {place} of input {name!r}"
                if known != extent:
                    said = "in the model" if isinstance(axis, int) else f"by {source[axis]}"
                    called = f" ({axis!r})" if isinstance(axis, str) else ""
                    raise _refused(f"The {where}{called} is {extent}, but it is {known} {said}.")
                if isinstance(axis, str):
                    source.setdefault(axis, where)
        return bound

    def bind(
        self, axes: Mapping[str, int] | None = None, known: Mapping[str, Array] | None = None
    ) -> Imported:
        """The static graph for these extents.

        Args:
            axes: symbolic axis -> extent, from 1 to `limits.DIMENSION`.
            known: input -> elements that it always has: it becomes a constant of the graph.

        Raises:
            HomespunError: INVALID_ARGUMENT for an axis that is unknown or left open, and what
                importing raises: UNSUPPORTED_OP, INVALID_GRAPH, EXPORT_FAILED, LIMIT_EXCEEDED.

        Cost: linear in the nodes, loops unrolled; weights are not touched.
        """
        graph = self._graph(axes or {}, known or {})
        return Imported(
            graph_bytes=serde.dump(graph), graph=graph, parameters=self.parameters,
            notes=self.notes)

    def bind_shapes(self, shapes: Mapping[str, Sequence[int]]) -> Imported:
        """The static graph for inputs of these shapes; raises as `axes_of` and `bind`."""
        return self.bind(self.axes_of(shapes))

    def _graph(self, axes: Mapping[str, int], known: Mapping[str, Array]) -> Graph:
        self._check_axes(axes, known)
        inputs = self.inputs
        originals = {self._named(value.name): value.name for value in self.model.graph.input}
        shapes = {
            originals[name]: [axes[axis] if isinstance(axis, str) else axis for axis in extents]
            for name, extents in inputs.items() if name not in known}
        parameters = [originals[parameter.name] for parameter in self.parameters
                      if parameter.name in originals]
        frozen = prepare(
            self.model, shapes, {originals[name]: array for name, array in known.items()},
            parameters, loss=self.loss, updated=self.updated, keep_names=self.keep_names)
        if not self.names:
            return frozen
        named = {name: self._named(name) for name in (*frozen.inputs, *frozen.parameters)}
        outputs = self.outputs or frozen.outputs
        return rename(frozen, {**named, **dict(zip(frozen.outputs, outputs, strict=True))})

    def _named(self, name: str) -> str:
        return self.names.get(name, name)

    def _check_axes(self, axes: Mapping[str, int], known: Mapping[str, Array]) -> None:
        inputs = self.inputs
        for name in known:
            if name not in inputs:
                raise _refused(f"The model has no input {name!r} to give a value.")
        for axis, extent in axes.items():
            if axis not in self.axes:
                raise _refused(f"The model has no symbolic axis {axis!r}; it has "
                               f"{', '.join(self.axes) or 'none'}.")
            if isinstance(extent, bool) or not isinstance(extent, int) or not (
                    1 <= extent <= DIMENSION):
                raise _refused(f"Axis {axis!r} must be from 1 to {DIMENSION}; it is {extent!r}.")
        for name, extents in inputs.items():
            left = [axis for axis in extents if isinstance(axis, str) and axis not in axes]
            if left and name not in known:
                raise _refused(
                    f"Input {name!r} {_shown(extents)} has the symbolic axis {left[0]!r}; a graph "
                    "needs static shapes. Say its extent when binding: "
                    f"axes={{{left[0]!r}: ...}}.")


def prepare(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]] | None = None,
    known: Mapping[str, Array] | None = None, parameters: Sequence[str] = (), *,
    loss: LossSpec | None = None, updated: Sequence[str] = (), keep_names: bool = True,
) -> Graph:
    """Any model as a graph: flattened, converted, simplified, every shape static.

    Args:
        model: opset 7 to 28; its initializers become constants. It is not changed.
        shapes: input -> shape, where the model leaves it open.
        known: input -> elements: it becomes a constant, so that what depends on it is known.
        parameters: names of the inputs that are parameters.
        loss: appended to one of the outputs.
        updated: parameters that the model's last outputs replace.
        keep_names: leave the names of nodes as they are.

    Raises:
        HomespunError: UNSUPPORTED_OP, INVALID_GRAPH, EXPORT_FAILED, LIMIT_EXCEEDED, naming the
            node; INVALID_ARGUMENT for a loss that does not fit.
    """
    static = onnx.ModelProto()
    static.CopyFrom(model)
    for value in static.graph.input:
        if shapes is not None and value.name in shapes:
            value.type.CopyFrom(onnx.helper.make_tensor_type_proto(
                value.type.tensor_type.elem_type, list(shapes[value.name])))
    _drop_defaults(static.graph)
    flat = prepared(static, known or {})
    check_static(flat)
    if loss is not None:
        append_loss(flat, loss)
    return freeze(
        ir.from_proto(flat), list(parameters), updated=updated, keep_names=keep_names)


def _drop_defaults(graph: onnx.GraphProto) -> None:
    """Initializers that are listed as inputs too are constants: nobody may give another value."""
    constants = {tensor.name for tensor in graph.initializer}
    kept = [onnx.ValueInfoProto.FromString(value.SerializeToString())
            for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(kept)


def _extents(name: str, value: onnx.ValueInfoProto) -> Extents:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value") or "nothing"
        raise HomespunError(
            Code.UNSUPPORTED_OP,
            f"Input {name!r} is of kind {kind.removesuffix('_type')}; only tensors are accepted.")
    if not tensor.HasField("shape"):
        raise HomespunError(
            Code.INVALID_GRAPH, f"Input {name!r} declares no shape, not even its number of axes; "
            "export it with a shape, whose axes may be symbolic.")
    return tuple(
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0
        else axis.dim_param or f"{name}.{place}"
        for place, axis in enumerate(tensor.shape.dim))


def _shown(extents: Extents) -> str:
    return f"[{', '.join(str(axis) for axis in extents)}]"


def _refused(message: str) -> HomespunError:
    return HomespunError(Code.INVALID_ARGUMENT, message)
