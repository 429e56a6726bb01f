"""Trace one training step with PyTorch's exporter, and refuse what would train differently.

ONNX says what a forward computes, not what its gradient is. So whatever changes the gradient
without changing the forward (a detached tensor, `no_grad`, a hand-written backward) must be found
here: the exporter drops it without a word.
"""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TypeAlias

import onnx_ir as ir
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import BackwardCFunction

from homespun.errors import Code, HomespunError
from ir.frontends.torch_decompositions import (
    attention,
    binary_cross_entropy_with_logits,
    cross_entropy,
    log_sigmoid,
    view,
)
from ir.operators import OPSET

Loss: TypeAlias = "torch.nn.Module | Callable[..., torch.Tensor]"

_DECOMPOSITIONS = {
    torch.ops.aten.cross_entropy_loss.default: cross_entropy,
    torch.ops.aten.binary_cross_entropy_with_logits.default: binary_cross_entropy_with_logits,
    torch.ops.aten.log_sigmoid.default: log_sigmoid,
    torch.ops.aten.scaled_dot_product_attention.default: attention,
    torch.ops.aten.view.default: view,
}
_STOPS_GRADIENT = (
    torch.ops.aten.detach.default,
    torch.ops.aten.detach_.default,
    torch.ops.aten.detach_copy.default,
)


class TrainStep(torch.nn.Module):  # type: ignore[misc]
    """The module that is traced: columns in, loss out."""

    def __init__(self, model: torch.nn.Module, loss: Loss, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.columns = columns

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Compute the loss of one microbatch."""
        if compares_predictions(self.loss):
            result = self.loss(self.model(*tensors[:-1]), tensors[-1])
        else:
            result = self.loss(self.model, dict(zip(self.columns, tensors, strict=True)))
        _check_scalar(result)
        _check_gradient(result, self.model)
        return result


@dataclass(slots=True)
class OutputNames:
    """What a traced model calls its outputs. An object, because the tracer puts lists back."""

    names: tuple[str, ...] = ()


class Prediction(torch.nn.Module):  # type: ignore[misc]
    """The module that is traced for inference: columns in, the model's outputs out.

    Attributes:
        outputs: their names, once it was traced.
    """

    def __init__(self, model: torch.nn.Module, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.columns = columns
        self.outputs = OutputNames()

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the outputs of one microbatch."""
        outputs = _named_outputs(self.model(*tensors))
        self.outputs.names = tuple(outputs)
        return tuple(outputs.values())


def _named_outputs(result: Any) -> dict[str, torch.Tensor]:
    """What a model returned as named tensors."""
    if isinstance(result, torch.Tensor):
        result = (result,)
    if isinstance(result, Mapping):
        named = dict(result)
    elif isinstance(result, tuple | list):
        named = {f"output_{position}": value for position, value in enumerate(result)}
    else:
        named = {}
    named = {name: value for name, value in named.items() if value is not None}
    if named and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in named.items()
    ):
        return named
    found = {name: type(value).__name__ for name, value in named.items()} or type(result).__name__
    raise HomespunError(
        Code.INVALID_ARGUMENT,
        "A model to run must return a tensor, or a tuple, list or dict of tensors; it returned "
        f"{found}. Wrap it in a module that returns the tensors you want.",
    )


def compares_predictions(loss: Loss) -> bool:
    """Whether the loss takes (predictions, targets) and not (model, batch)."""
    named = getattr(torch.nn.functional, getattr(loss, "__name__", ""), None)
    return isinstance(loss, torch.nn.Module) or named is loss


def trace(
    step: TrainStep | Prediction, columns: tuple[torch.Tensor, ...], *, training: bool = True
) -> ir.Model:
    """Export; the step's modules are left as they were.

    Args:
        step: what to trace.
        columns: one microbatch on the model's device.
        training: trace in training mode and check that the gradient is the forward's; else in
            evaluation mode, where there is no gradient.

    Returns:
        The exporter's model, not optimised: weights are initializers named after their place in
        `step`.

    Raises:
        HomespunError: EXPORT_FAILED, UNSUPPORTED_OP or INVALID_ARGUMENT.
    """
    try:
        with _quiet(), _mode(step, training):
            exported = torch.export.export(step, columns, strict=False)
            if training:
                _check_stopped_gradients(exported)
            exported = exported.run_decompositions(_DECOMPOSITIONS)
            _check_mutations(exported)
            program = torch.onnx.export(
                exported, dynamo=True, optimize=False, opset_version=OPSET, external_data=False,
                verbose=False,
            )
    except HomespunError:
        raise
    # The tracer runs the user's code: anything can come out, and all of it means the same here.
    except Exception as error:
        raise _export_failed(error) from error
    return program.model


def _check_scalar(loss: Any) -> None:
    found = type(loss).__name__
    if isinstance(loss, torch.Tensor):
        if loss.ndim == 0 and loss.is_floating_point():
            return
        found = f"a {loss.dtype} of shape {tuple(loss.shape)}"
    raise HomespunError(
        Code.INVALID_ARGUMENT,
        f"The loss must return one floating-point scalar, it returned {found}; "
        "take the mean over the microbatch.",
    )


def _check_gradient(loss: torch.Tensor, model: torch.nn.Module) -> None:
    """Walk autograd's own graph: it knows hand-written gradients and every trainable leaf."""
    own = {id(tensor) for tensor in model.parameters()}
    seen: set[Any] = set()
    waiting = [loss.grad_fn]
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        waiting.extend(following for following, _ in function.next_functions)
        if isinstance(function, BackwardCFunction):
            raise HomespunError(
                Code.UNSUPPORTED_OP,
                f"The model uses the autograd function {type(function).__name__} with a backward "
                "of its own, which a graph cannot carry; write it with plain tensor operations.",
            )
        leaf = getattr(function, "variable", None)
        if isinstance(leaf, torch.Tensor) and id(leaf) not in own:
            where = "a weight of the loss" if isinstance(leaf, FakeTensor) else "defined outside"
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"The loss trains a tensor of shape {tuple(leaf.shape)} that is not part of the "
                f"model ({where}); make it a parameter of the model, or freeze it.",
            )


def _check_stopped_gradients(exported: torch.export.ExportedProgram) -> None:
    """Refuse `detach` and `no_grad` on anything that depends on a trainable parameter."""
    signature = exported.graph_signature.inputs_to_parameters
    trained = {
        name for name, path in signature.items() if exported.state_dict[path].requires_grad
    }
    depends: set[torch.fx.Node] = set()
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name in trained:
            depends.add(node)
        elif depends.intersection(_sources(node)) and _is_float(node):
            if _stops_gradient(node):
                raise HomespunError(
                    Code.UNSUPPORTED_OP,
                    "The model stops a gradient (detach or no_grad) that would reach a trainable "
                    f"parameter{_place(node)}; a graph cannot carry that. Freeze the parameters "
                    "concerned, or leave the gradient in.",
                )
            depends.add(node)


def _sources(node: torch.fx.Node) -> list[torch.fx.Node]:
    """The nodes that a node's value follows from."""
    source = node.args[0] if node.target is operator.getitem else None
    if source is not None and source.target is torch.ops.aten.broadcast_tensors.default:
        return [source.args[0][node.args[1]]]  # Each result follows from one of the arguments.
    sources: list[torch.fx.Node] = node.all_input_nodes
    return sources


def _stops_gradient(node: torch.fx.Node) -> bool:
    if node.target is torch.ops.higher_order.wrap_with_set_grad_enabled:
        return not node.args[0]
    return node.target in _STOPS_GRADIENT


def _is_float(node: torch.fx.Node) -> bool:
    """Whether a gradient could pass: integers and booleans have none."""
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else (value,)
    return any(not isinstance(v, torch.Tensor) or v.is_floating_point() for v in values)


def _place(node: torch.fx.Node) -> str:
    """The user's line, from the exporter's stack trace, such as ` (model.py, line 12)`."""
    lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [
        (path, line) for path, line in lines
        if path != __file__ and "torch" not in PurePath(path).parts
    ]
    return f" ({PurePath(own[-1][0]).name}, line {own[-1][1]})" if own else ""


def _check_mutations(exported: torch.export.ExportedProgram) -> None:
    """Refuse forwards with side effects: a graph has none."""
    changed = sorted(set(exported.graph_signature.buffers_to_mutate.values()))
    if changed:
        name = changed[0].removeprefix("model.")
        raise HomespunError(
            Code.UNSUPPORTED_OP,
            f"The model changes its buffer {name!r} in forward, as batch normalisation does; use "
            "a normalisation without running statistics, such as GroupNorm or LayerNorm.",
            buffers=", ".join(changed),
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter warns, logs and prints."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def _mode(step: TrainStep | Prediction, training: bool) -> Iterator[None]:
    """Training or evaluation mode for every module, and afterwards each as it was."""
    modes = [(module, module.training) for module in step.modules()]
    # Dropout in place reaches the exporter as a comparison of random numbers, not as Dropout.
    dropouts = [m for m in step.modules() if isinstance(m, torch.nn.Dropout) and m.inplace]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    step.train(training)
    for module in dropouts:
        module.inplace = False
    # In evaluation, attention modules would take fused kernels that are no standard operators.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.set_grad_enabled(training):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, training in modes:
            module.training = training
        for module in dropouts:
            module.inplace = True


def _export_failed(error: BaseException) -> HomespunError:
    """Quote the innermost reason in a sentence or two."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    paragraph = " ".join(text.split("\n\n")[0].split())
    reason = " ".join(re.split(r"(?<=[.!?])\s+", paragraph)[:2])[:400] or "no reason given"
    return HomespunError(
        Code.EXPORT_FAILED,
        f"The model cannot be exported: {type(error).__name__}: {reason}",
        reason=reason,
    )
