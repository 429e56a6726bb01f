"""Turn an ONNX file that any framework wrote into a graph and named parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
from google.protobuf.message import DecodeError

from homespun.errors import Code, HomespunError
from ir.frontends.external_data import read_tensor
from ir.frontends.imported import Imported, ImportedParameter
from ir.frontends.losses import LossSpec, check_loss
from ir.frontends.symbolic import SymbolicModel
from ir.graph import FLOATS
from ir.operators import OPERATORS
from ir.tensor_proto import DTYPES, ELEMENT_TYPES, array_type, encode_tensor

TARGET = "target"
"""Name of the column that an appended loss compares with, unless the user gives another."""


def import_onnx(
    source: Path | str | bytes,
    loss_output: str | None = None,
    *,
    parameters: Collection[str] | None = None,
    loss: str | None = None,
    target: str = TARGET,
    axes: Mapping[str, int] | None = None,
) -> Imported:
    """Read an ONNX graph; its float initializers become trainable parameters of the same names.

    Args:
        source: as for `read_onnx`.
        loss_output: as for `read_onnx`.
        parameters: as for `read_onnx`.
        loss: as for `read_onnx`.
        target: as for `read_onnx`.
        axes: symbolic axis -> extent; the samples of one microbatch are along axis 0 of each input.

    Raises:
        HomespunError: as `read_onnx` and `SymbolicModel.bind`.
    """
    model = read_onnx(source, loss_output, parameters=parameters, loss=loss, target=target)
    with _contradictions():
        return model.bind(axes)


def read_onnx(
    source: Path | str | bytes,
    loss_output: str | None = None,
    *,
    parameters: Collection[str] | None = None,
    loss: str | None = None,
    target: str = TARGET,
) -> SymbolicModel:
    """Read an ONNX file and leave its symbolic axes open.

    Args:
        source: path of the file, or its bytes. Axes of inputs may be symbolic.
        loss_output: name of the output that is the scalar loss; the others are dropped. None: all
            outputs stay; the first is the loss, if the graph is trained. With `loss`: the output
            that holds the predictions; None: the first.
        parameters: names of the initializers that are parameters. None: all of floating point
            with at least one axis, except those that only feed inputs without gradient (a
            dropout's ratio); scalars stay constants, because most are epsilons and factors. The
            running statistics of a batch normalisation are lifted, but stay as they are.
        loss: a key of `losses.LOSSES` that is appended to the output; None: the model has its own.
        target: name of the column that an appended loss compares with.

    Raises:
        HomespunError: INVALID_GRAPH, UNSUPPORTED_OP; INVALID_ARGUMENT for a name that the model
            does not have; NOT_FOUND for a file that is not there.
    """
    if loss is not None:
        check_loss(loss)
    folder = None if isinstance(source, bytes) else Path(source).absolute().parent
    model = _parse(source)
    with _contradictions():
        if loss_output is not None or loss is not None:
            _select_output(model.graph, loss_output or model.graph.output[0].name)
        values = _lift(model.graph, folder, parameters)
        spec = None if loss is None else LossSpec(
            kind=loss, output=model.graph.output[0].name, target=target)
        return SymbolicModel(model=_ordered(model), parameters=values, loss=spec)


@contextlib.contextmanager
def _contradictions() -> Iterator[None]:
    """Contradictions in a file come out of the libraries as KeyError, ValueError, and others."""
    try:
        yield
    except HomespunError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise HomespunError(
            Code.INVALID_GRAPH, f"The ONNX file contradicts itself: {reason}."
        ) from error


def _ordered(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the nodes that its outputs need, in topological order, subgraphs too."""
    for value in (*model.graph.output, *model.graph.value_info):
        if not value.type.HasField("tensor_type"):  # Its node is refused later, by name.
            value.ClearField("type")
    edited = ir.from_proto(model)
    edited.graph.sort()
    common.RemoveUnusedNodesPass()(edited)
    return ir.to_proto(edited)


def _parse(source: Path | str | bytes) -> onnx.ModelProto:
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        model = onnx.ModelProto.FromString(data)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise HomespunError(Code.NOT_FOUND, f"There is no file {str(source)!r}.") from error
    except (DecodeError, UnicodeError) as error:
        raise HomespunError(
            Code.INVALID_GRAPH, f"This is not an ONNX file: {error}. Export the model again."
        ) from error
    if not model.graph.output:
        raise HomespunError(Code.INVALID_GRAPH, "The ONNX file holds no graph with an output.")
    return model


def _select_output(graph: onnx.GraphProto, wanted: str) -> None:
    """Drop all outputs but one."""
    chosen = [output for output in graph.output if output.name == wanted]
    if not chosen:
        names = ", ".join(output.name for output in graph.output)
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"The graph has no output {wanted!r}; its outputs are {names}.",
        )
    kept = chosen[0].SerializeToString()
    del graph.output[:]
    graph.output.add().ParseFromString(kept)


def _lift(
    graph: onnx.GraphProto, folder: Path | None, parameters: Collection[str] | None
) -> tuple[ImportedParameter, ...]:
    """Take parameters out of the initializers and make them inputs; embed the other ones."""
    if graph.sparse_initializer:
        raise HomespunError(Code.UNSUPPORTED_OP, "The graph has sparse initializers.")
    known = {tensor.name for tensor in graph.initializer}
    missing = sorted(set(parameters or ()) - known)
    if missing:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"The graph has no initializer {missing[0]!r} to train."
        )
    buffers = _statistics(graph)
    inert = known - _receives_gradient(graph) - buffers
    inputs = [value for value in graph.input if value.name not in known]
    kept: list[onnx.TensorProto] = []
    lifted: list[ImportedParameter] = []
    for tensor in graph.initializer:
        array = read_tensor(tensor, folder)
        is_float = DTYPES[tensor.data_type] in FLOATS
        wanted = is_float and array.ndim > 0 and tensor.name not in inert
        if tensor.name in parameters if parameters is not None else wanted:
            lifted.append(ImportedParameter(
                name=tensor.name, aliases=(), value=array,
                trainable=is_float and tensor.name not in buffers,
            ))
            type_ = array_type(array)
            inputs.append(onnx.helper.make_tensor_value_info(
                tensor.name, ELEMENT_TYPES[type_.dtype], type_.shape
            ))
        else:
            kept.append(encode_tensor(array, tensor.name))
    # Copies first: deleting from a repeated field ends the life of what it held.
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in inputs]
    del graph.input[:], graph.initializer[:]
    graph.input.extend(copies)
    graph.initializer.extend(kept)
    return tuple(lifted)


def _statistics(graph: onnx.GraphProto) -> set[str]:
    """Running means and variances: buffers of the model, which no optimizer moves."""
    return {name for node in graph.node if node.op_type == "BatchNormalization"
            for name in node.input[3:5]}


def _receives_gradient(graph: onnx.GraphProto) -> set[str]:
    """Values that some operator reads at an input which a gradient can flow to."""
    found: set[str] = set()
    for node in graph.node:
        info = OPERATORS.get(node.op_type)
        inert = info.inert_inputs if info is not None else frozenset()
        found.update(name for i, name in enumerate(node.input) if i not in inert)
    return found
