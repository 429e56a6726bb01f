"""Turn a JAX function and its tree of parameters into a graph, through `jax2onnx`.

Parameters become inputs of the graph under their place in the tree (`params/dense/kernel`). What
the executors differentiate is the exported forward, so whatever makes JAX's gradient another one
than the forward's own is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax2onnx
import numpy as np
import numpy.typing as npt
import onnx

from homespun.errors import Code, HomespunError
from ir.frontends.imported import Imported, ImportedParameter
from ir.frontends.jax_gradient import check_gradient, check_primitives
from ir.frontends.losses import LOSS, LossSpec, check_loss
from ir.frontends.symbolic import SymbolicModel
from ir.graph import FLOATS
from ir.operators import OPSET
from ir.tensor_proto import DTYPES, ELEMENT_TYPES

PREDICTIONS = "predictions"
"""Name of the output of a function that gives predictions."""
Function = Callable[[Any, Mapping[str, Any]], Any]


def import_function(
    function: Function,
    params: Any,
    sample: Mapping[str, npt.NDArray[np.generic]],
    *,
    frozen: Collection[str] = (),
    loss: str | None = None,
    target: str = "target",
) -> Imported:
    """Export `function(params, batch)`: a scalar loss, or predictions with a loss to append.

    Args:
        function: pure; `batch` maps column names to arrays. It gives the loss, the mean over the
            microbatch; with `loss`, one array of predictions, and `batch` lacks the target.
        params: a tree of arrays, such as Flax's variables or the state of an `nnx` module. Floats
            are trained.
        sample: one microbatch; name -> array with the samples along axis 0. Shapes and dtypes
            become the graph's. Types that JAX narrows (int64) are narrowed in the graph.
        frozen: places in the tree that stay as they are, with all below them (`batch_stats`).
        loss: a key of `losses.LOSSES`; None: the function gives the loss.
        target: the column that an appended loss compares with.

    Raises:
        HomespunError: INVALID_ARGUMENT for arguments that cannot work; UNSUPPORTED_OP for random
            draws, callbacks, and gradients that are not the forward's (`stop_gradient`,
            `custom_vjp`); EXPORT_FAILED with the exporter's reason; LIMIT_EXCEEDED.

    Cost: two gradients of the sample, and the export.
    """
    if loss is not None:
        check_loss(loss)
    places = _places(params, sample)
    columns = {name: np.asarray(array) for name, array in sample.items()
               if loss is None or name != target}
    step = _Step(function, params, tuple(columns), is_loss=loss is None)
    trained = tuple(name for name, leaf in places.items()
                    if _is_float(leaf) and not _is_below(name, frozen))
    narrow = tuple(array.astype(_narrowed(array.dtype)) for array in columns.values())
    _check(step, places, narrow, trained)
    model = _exported(step, (*places.values(), *narrow), [*places, *columns])
    _widen(model.graph, columns)
    spec = None if loss is None else LossSpec(kind=loss, output=PREDICTIONS, target=target)
    parameters = tuple(
        ImportedParameter(name=name, aliases=(), value=np.ascontiguousarray(leaf),
                          trainable=name in trained)
        for name, leaf in places.items())
    return SymbolicModel(
        model=model, parameters=parameters, loss=spec, keep_names=False).bind()


class _Step:
    """The function over a flat list of leaves and columns, as exporters want it."""

    def __init__(
        self, function: Function, params: Any, columns: tuple[str, ...], *, is_loss: bool
    ) -> None:
        self.function = function
        self.columns = columns
        self.is_loss = is_loss
        self.leaves, self.tree = jax.tree_util.tree_flatten(params)

    def __call__(self, *values: Any) -> Any:
        count = len(self.leaves)
        params = jax.tree_util.tree_unflatten(self.tree, values[:count])
        result = self.function(params, dict(zip(self.columns, values[count:], strict=True)))
        shape = getattr(result, "shape", None)
        wanted = "one floating-point scalar" if self.is_loss else "one array of predictions"
        if shape is None or (self.is_loss and shape != ()) or not _is_float(result):
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"The function must return {wanted}; it returned "
                f"{type(result).__name__} {'' if shape is None else shape}.")
        return result


def _places(params: Any, sample: Mapping[str, Any]) -> dict[str, npt.NDArray[np.generic]]:
    """The leaves of the tree by their place, in the tree's order."""
    found: dict[str, npt.NDArray[np.generic]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        array = np.asarray(leaf)
        if array.dtype.name not in ELEMENT_TYPES:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"The parameter {name!r} is {array.dtype}; accepted are "
                f"{', '.join(ELEMENT_TYPES)}. Leave keys of random numbers out of the tree.")
        if name in found or name in sample or name in (LOSS, PREDICTIONS):
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"Two things are called {name!r} among parameters, columns and the result.")
        found[name] = array
    if not found or not sample:
        raise HomespunError(
            Code.INVALID_ARGUMENT, "The function needs parameters, and a sample with columns.")
    return found


def _check(
    step: _Step, places: Mapping[str, npt.NDArray[np.generic]],
    columns: tuple[npt.NDArray[np.generic], ...], trained: tuple[str, ...],
) -> None:
    try:
        program = jax.make_jaxpr(step)(*places.values(), *columns)
        check_primitives(program.jaxpr)
        positions = tuple(i for i, name in enumerate(places) if name in trained)
        check_gradient(program, (*places.values(), *columns), positions, tuple(places))
    except HomespunError:
        raise
    # The user's code runs here: anything can come out.
    except Exception as error:
        raise _failed(error) from error


def _exported(
    step: _Step, values: tuple[npt.NDArray[np.generic], ...], names: list[str]
) -> onnx.ModelProto:
    # Names of our own in between: the exporter's rules for names are not those of trees.
    inputs = [f"input_{place}" for place in range(len(names))]
    try:
        model: onnx.ModelProto = jax2onnx.to_onnx(
            step, [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in values],
            opset=OPSET, input_names=inputs, output_names=["result"])
    except HomespunError:
        raise
    except Exception as error:
        raise _failed(error) from error
    named = dict(zip(inputs, names, strict=True))
    named[model.graph.output[0].name] = LOSS if step.is_loss else PREDICTIONS
    _rename(model.graph, named)
    return model


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give values other names, also where subgraphs capture them."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename(inner, names)


def _widen(graph: onnx.GraphProto, columns: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Let the graph take columns as they are, and convert them to the type that JAX computes in."""
    casts = []
    for value in graph.input:
        if value.name not in columns:
            continue
        own = value.type.tensor_type.elem_type
        wanted = ELEMENT_TYPES[columns[value.name].dtype.name]
        if own != wanted:
            narrow = f"{value.name} as {DTYPES[own]}"
            casts.append(onnx.helper.make_node("Cast", [value.name], [narrow], to=own))
            for node in graph.node:
                node.input[:] = [narrow if name == value.name else name for name in node.input]
            value.type.tensor_type.elem_type = wanted
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*casts, *nodes])


def _narrowed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    narrowed: np.dtype[Any] = np.dtype(jax.dtypes.canonicalize_dtype(dtype))
    return narrowed


def _is_float(value: Any) -> bool:
    return str(getattr(value, "dtype", "")) in FLOATS


def _is_below(name: str, places: Collection[str]) -> bool:
    return any(name == place or name.startswith(f"{place}/") for place in places)


def _failed(error: BaseException) -> HomespunError:
    while error.__cause__ is not None:
        error = error.__cause__
    reason = " ".join(str(error).split())[:400] or "no reason given"
    return HomespunError(
        Code.EXPORT_FAILED,
        f"The function cannot be exported: {type(error).__name__}: {reason}", reason=reason)
