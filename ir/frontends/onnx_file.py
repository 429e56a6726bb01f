"""Turn an ONNX file that any framework wrote into a graph and named parameters."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from homespun.errors import Code, HomespunError
from ir import serde
from ir.frontends.canonical import freeze
from ir.frontends.external_data import read_tensor
from ir.frontends.imported import Imported, ImportedParameter
from ir.graph import FLOATS
from ir.operators import OPERATORS, OPSET
from ir.tensor_proto import DTYPES, ELEMENT_TYPES, array_type, encode_tensor

OPSETS = range(13, 27)
"""Versions of the default domain that are converted to opset 23."""


def import_onnx(
    source: Path | str | bytes,
    loss_output: str | None = None,
    *,
    parameters: Collection[str] | None = None,
) -> Imported:
    """Read an ONNX graph; its float initializers become trainable parameters of the same names.

    Args:
        source: path of the file, or its bytes. Inputs must have static shapes, with the samples
            of one microbatch along axis 0.
        loss_output: name of the output that is the scalar loss; the others are dropped. None: all
            outputs stay; the first is the loss, if the graph is trained.
        parameters: names of the initializers that are parameters. None: all of floating point
            with at least one axis, except those that only feed inputs without gradient (a
            dropout's ratio); scalars stay constants, because most are epsilons and factors.

    Raises:
        HomespunError: INVALID_GRAPH, UNSUPPORTED_OP, LIMIT_EXCEEDED; EXPORT_FAILED where a shape
            is not static; NOT_FOUND for a file that is not there.
    """
    folder = None if isinstance(source, bytes) else Path(source).absolute().parent
    model = _parse(source)
    try:
        _select_loss(model.graph, loss_output)
        values = _lift(model.graph, folder, parameters)
        edited = ir.from_proto(_converted(model))
        edited.graph.sort()
        graph = freeze(edited, [value.name for value in values], keep_names=True)
    except HomespunError:
        raise
    # Contradictions in the file come out of the libraries as KeyError, ValueError, and others.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise HomespunError(
            Code.INVALID_GRAPH, f"The ONNX file contradicts itself: {reason}."
        ) from error
    return Imported(graph_bytes=serde.dump(graph), graph=graph, parameters=values)


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


def _select_loss(graph: onnx.GraphProto, loss_output: str | None) -> None:
    if loss_output is None:
        return
    chosen = [output for output in graph.output if output.name == loss_output]
    if not chosen:
        names = ", ".join(output.name for output in graph.output)
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"The graph has no output {loss_output!r}; its outputs are {names}.",
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
    inert = known - _receives_gradient(graph)
    inputs = [value for value in graph.input if value.name not in known]
    kept: list[onnx.TensorProto] = []
    lifted: list[ImportedParameter] = []
    for tensor in graph.initializer:
        array = read_tensor(tensor, folder)
        is_float = DTYPES[tensor.data_type] in FLOATS
        wanted = is_float and array.ndim > 0 and tensor.name not in inert
        if tensor.name in parameters if parameters is not None else wanted:
            lifted.append(ImportedParameter(
                name=tensor.name, aliases=(), value=array, trainable=is_float
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


def _receives_gradient(graph: onnx.GraphProto) -> set[str]:
    """Values that some operator reads at an input which a gradient can flow to."""
    found: set[str] = set()
    for node in graph.node:
        info = OPERATORS.get(node.op_type)
        inert = info.inert_inputs if info is not None else frozenset()
        found.update(name for i, name in enumerate(node.input) if i not in inert)
    return found


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model at opset 23. Weights are out already, so this is cheap."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in OPSETS:
        raise HomespunError(
            Code.INVALID_GRAPH,
            f"The file uses opset {versions or 'none'}; accepted are {OPSETS[0]} to {OPSETS[-1]}.",
        )
    if versions[0] == OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    # The converter is C++ and raises RuntimeError and ConvertError alike.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise HomespunError(
            Code.UNSUPPORTED_OP,
            f"The graph cannot be converted from opset {versions[0]} to {OPSET}: {reason}. Export "
            f"it with opset {OPSET}.",
        ) from error
