"""Turn a PyTorch module and its loss into a graph and named parameters.

The exporter's default optimisation merges parameters of equal value and renames transposed ones,
so it stays off: every tensor of the state is lifted to a graph input first, then the graph is
simplified and fused, then the inputs get their `state_dict` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from homespun.errors import Code, HomespunError
from ir import serde
from ir.frontends.canonical import freeze, rename
from ir.frontends.hugging_face import traceable
from ir.frontends.imported import Imported
from ir.frontends.symbolic import SymbolicModel
from ir.frontends.torch_state import StateEntry, check_tensor, state_of
from ir.frontends.torch_step import Loss, Prediction, TrainStep
from ir.frontends.torch_trace import Traced, trace
from ir.graph import Graph

LOSS = "loss"
"""Name of the graph's first output."""


def import_module(
    model: torch.nn.Module,
    loss: Loss | None,
    sample: Mapping[str, torch.Tensor | npt.NDArray[np.generic]],
) -> Imported:
    """Export one training step's forward pass: data columns in, scalar loss out.

    Args:
        model: left as it is (mode, device, `requires_grad`, configuration). It is traced in
            training mode, so dropout stays in the graph, and without a cache of keys and values.
        loss: how the loss follows from the model and one microbatch. One of

            * a function of two positional arguments `(model, batch)`, where `batch` maps column
              names to tensors;
            * an `nn.Module`, such as `nn.CrossEntropyLoss()`, or a function of
              `torch.nn.functional`: called as `loss(model(*columns[:-1]), columns[-1])`;
            * None: the model computes it itself, as those of `transformers` do. The model is called
              with the columns as keyword arguments, and its output has a `loss`.

            The result is a floating-point scalar, the mean over the microbatch.
        sample: one microbatch; name -> tensor with the samples along axis 0, in order. Shapes and
            dtypes become the graph's, which accepts no others; values do not matter.

    Returns:
        The graph and the whole state of the model.

    Raises:
        HomespunError: INVALID_ARGUMENT for arguments that cannot work; EXPORT_FAILED with the
            exporter's reason; UNSUPPORTED_OP for what would train differently as a graph:
            parameters that change in forward, gradients stopped on tensors that are changed in
            place, tables with `max_norm`, `scale_grad_by_freq` or `sparse`, hand-written
            gradients; LIMIT_EXCEEDED.
    """
    state = state_of(model)
    columns = _columns(sample, _device(model), {name for entry in state for name in entry.names})
    step = TrainStep(model, loss, tuple(columns))
    with traceable(model) as notes:
        traced = trace(step, tuple(columns.values()))
    return _imported(_bind(traced, step, state, (LOSS,)), state, notes)


def read_module(
    model: torch.nn.Module,
    loss: Loss | None,
    sample: Mapping[str, torch.Tensor | npt.NDArray[np.generic]],
    dynamic_axes: Mapping[str, Mapping[int, str]],
) -> SymbolicModel:
    """Export a training step whose batch or sequence axes stay open until they are bound.

    Args:
        model: as for `import_module`.
        loss: as for `import_module`.
        sample: as for `import_module`; extents of open axes are at least 2, and no two axes of
            different names should have the same extent, or the exporter may take them for one.
        dynamic_axes: column -> axis -> name. Axes of one name have one extent.

    Raises:
        HomespunError: as `import_module`; EXPORT_FAILED where the model fixes such an axis.
    """
    state = state_of(model)
    columns = _columns(sample, _device(model), {name for entry in state for name in entry.names})
    if unknown := sorted(dynamic_axes.keys() - columns.keys()):
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"There is no column {unknown[0]!r} with dynamic axes; columns are "
            f"{', '.join(columns)}.")
    axes = [dict(dynamic_axes.get(name, {})) for name in columns]
    step = TrainStep(model, loss, tuple(columns))
    with traceable(model) as notes:
        traced = trace(step, tuple(columns.values()), axes=axes)
    lifted = _lifted(traced, step, state)
    proto = ir.to_proto(traced.model)
    for value, named in zip(proto.graph.input, axes, strict=False):
        for axis, name in named.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    return SymbolicModel(
        model=proto, parameters=tuple(entry.parameter() for entry in state), names=lifted.names,
        outputs=(LOSS,), updated=lifted.updated, keep_names=False, notes=notes)


def import_inference(
    model: torch.nn.Module,
    sample: Mapping[str, torch.Tensor | npt.NDArray[np.generic]],
) -> Imported:
    """Export a forward pass without a loss: data columns in, everything the model returns out.

    Args:
        model: left as it is. It is traced in evaluation mode. It is called with the columns by
            name if its `forward` has parameters of all those names, else as `model(*columns)`.
        sample: as for `import_module`.

    Returns:
        The graph and the whole state of the model. The graph's outputs are named `output_0`,
        `output_1`, ... where the model returns a tensor or a sequence of tensors, and after the
        keys where it returns a mapping (`keys.0.inner` for what is nested); None is left out.

    Raises:
        HomespunError: as `import_module`; INVALID_ARGUMENT for a model that returns anything else.
    """
    state = state_of(model)
    columns = _columns(sample, _device(model), {name for entry in state for name in entry.names})
    step = Prediction(model, tuple(columns))
    with traceable(model) as notes:
        traced = trace(step, tuple(columns.values()), training=False)
    return _imported(_bind(traced, step, state, step.outputs.names), state, notes)


def _imported(
    graph: Graph, state: tuple[StateEntry, ...], notes: tuple[str, ...]
) -> Imported:
    return Imported(
        graph_bytes=serde.dump(graph),
        graph=graph,
        parameters=tuple(entry.parameter() for entry in state),
        notes=notes,
    )


def _device(model: torch.nn.Module) -> torch.device:
    tensors = (*model.parameters(), *model.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


def _columns(
    sample: Mapping[str, torch.Tensor | npt.NDArray[np.generic]],
    device: torch.device,
    reserved: set[str],
) -> dict[str, torch.Tensor]:
    """The sample as tensors on the model's device."""
    if not sample:
        raise HomespunError(Code.INVALID_ARGUMENT, "The sample has no columns; give at least one.")
    columns = {name: _tensor(value).detach().to(device) for name, value in sample.items()}
    for name, tensor in columns.items():
        check_tensor(f"column {name!r}", tensor)
        if name in reserved or name == LOSS:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"The column {name!r} has the name of a parameter of the model, or of the loss; "
                "call it something else.",
            )
    rows = {name: tensor.shape[0] if tensor.ndim else 0 for name, tensor in columns.items()}
    if len(set(rows.values())) > 1 or not all(rows.values()):
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"All columns of the sample need the same number of rows, at least 1; found {rows}.",
        )
    return columns


def _tensor(value: torch.Tensor | npt.NDArray[np.generic]) -> torch.Tensor:
    """A column as torch sees it. torch takes no bfloat16 from numpy, but it takes the bits."""
    if isinstance(value, np.ndarray) and value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.as_tensor(value)


def _bind(
    traced: Traced, step: TrainStep | Prediction, state: tuple[StateEntry, ...],
    outputs: Sequence[str],
) -> Graph:
    """Lift the state to graph inputs, freeze, and give inputs and outputs their names.

    Until the end the exporter's own names are used: they are unique, while a parameter may well
    be called like one of its values.
    """
    lifted = _lifted(traced, step, state)
    frozen = freeze(traced.model, lifted.parameters, updated=lifted.updated)
    if taken := sorted(set(outputs).intersection(lifted.names.values())):
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"The output {taken[0]!r} has the name of a column or parameter; call it something "
            "else.",
        )
    named = {name: lifted.names[name] for name in (*frozen.inputs, *frozen.parameters)}
    return rename(frozen, {**named, **dict(zip(frozen.outputs, outputs, strict=True))})


@dataclass(frozen=True, slots=True)
class _Lifted:
    """A traced model's inputs once its state is among them.

    Attributes:
        parameters: names of those that are state, in `state_dict` order.
        updated: those that the model's last outputs replace.
        names: exporter's name of each input -> its column or `state_dict` name.
    """

    parameters: tuple[str, ...]
    updated: tuple[str, ...]
    names: Mapping[str, str]


def _lifted(
    traced: Traced, step: TrainStep | Prediction, state: tuple[StateEntry, ...]
) -> _Lifted:
    """Make the state inputs of the traced model, in place."""
    model, names = traced.model, _names_by_path(step, state)
    columns = dict(zip((value.name for value in model.graph.inputs), step.columns, strict=True))
    lifted = _lift(model.graph, names)
    updated = tuple(lifted[name].name for name in _updated_names(traced, names))
    _put_last(model.graph, len(updated))
    order = [entry.names[0] for entry in state if entry.names[0] in lifted]
    return _Lifted(
        tuple(lifted[name].name for name in order), updated,
        {**columns, **{lifted[name].name: name for name in order}})


def _updated_names(traced: Traced, names: Mapping[str, str]) -> list[str]:
    """`state_dict` names of the buffers that the forward changes."""
    for path in traced.updated:
        if path not in names:
            raise HomespunError(
                Code.UNSUPPORTED_OP,
                f"The model changes its buffer {path.removeprefix('model.')!r} in forward, which "
                "is not in its state_dict; register it with persistent=True.",
            )
    return [names[path] for path in traced.updated]


def _put_last(graph: ir.Graph, count: int) -> None:
    """Move the first `count` outputs behind the others."""
    ordered = [*graph.outputs[count:], *graph.outputs[:count]]
    graph.outputs.clear()
    graph.outputs.extend(ordered)


def _names_by_path(
    step: TrainStep | Prediction, state: tuple[StateEntry, ...]
) -> dict[str, str]:
    """Place in the traced step -> first `state_dict` name of the tensor there."""
    owner = {id(entry.tensor): entry.names[0] for entry in state}
    tensors = (
        *step.named_parameters(remove_duplicate=False),
        *step.named_buffers(remove_duplicate=False),
    )
    return {path: owner[id(tensor)] for path, tensor in tensors if id(tensor) in owner}


def _lift(graph: ir.Graph, names: Mapping[str, str]) -> dict[str, ir.Value]:
    """Make the state's initializers graph inputs; tied ones become one. By `state_dict` name."""
    lifted: dict[str, ir.Value] = {}
    for path in tuple(graph.initializers):
        if path not in names:
            continue
        value = graph.initializers.pop(path)
        value.const_value = None  # Else constant folding would still see it.
        first = lifted.setdefault(names[path], value)
        if first is value:
            graph.inputs.append(value)
        else:
            ir.convenience.replace_all_uses_with(value, first)
    return lifted
