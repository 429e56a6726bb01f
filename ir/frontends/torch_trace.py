"""Trace one training step with PyTorch's exporter, and refuse what would train differently."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch

from homespun.errors import Code, HomespunError
from ir.frontends.quiet import quiet
from ir.frontends.torch_buffers import (
    batch_norm,
    batch_norm_without_statistics,
    expose_updates,
    traceable_modules,
)
from ir.frontends.torch_decompositions import (
    attention,
    binary_cross_entropy_with_logits,
    conv3d,
    cross_entropy,
    cumprod,
    log_sigmoid,
    view,
)
from ir.frontends.torch_embeddings import check_embeddings
from ir.frontends.torch_gathers import gathers
from ir.frontends.torch_gradients import mark_stopped_gradients
from ir.frontends.torch_step import Prediction, TrainStep
from ir.operators import OPSET

_DECOMPOSITIONS = {
    torch.ops.aten._native_batch_norm_legit_functional.default: batch_norm,
    torch.ops.aten._native_batch_norm_legit.no_stats: batch_norm_without_statistics,
    torch.ops.aten.cross_entropy_loss.default: cross_entropy,
    torch.ops.aten.binary_cross_entropy_with_logits.default: binary_cross_entropy_with_logits,
    torch.ops.aten.log_sigmoid.default: log_sigmoid,
    torch.ops.aten.scaled_dot_product_attention.default: attention,
    torch.ops.aten.conv3d.default: conv3d,
    torch.ops.aten.cumprod.default: cumprod,
    torch.ops.aten.view.default: view,
}

_ASSERTIONS = (
    torch.ops.aten._assert_async.default,
    torch.ops.aten._assert_async.msg,
    torch.ops.aten._assert_scalar.default,
)


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """What tracing gives.

    Attributes:
        model: the exporter's model, not optimised: weights are initializers named after their place
            in the traced module. Its first outputs are the new values of `updated`.
        updated: places of the buffers that a training forward changes.
    """

    model: ir.Model
    updated: tuple[str, ...]


def trace(
    step: TrainStep | Prediction, columns: tuple[torch.Tensor, ...], *, training: bool = True,
    axes: Sequence[Mapping[int, str]] = (),
) -> Traced:
    """Export; the step's modules are left as they were.

    Args:
        step: what to trace.
        columns: one microbatch on the model's device.
        training: trace in training mode and check that the gradient is the forward's; else in
            evaluation mode, where there is no gradient.
        axes: for each column, the axes whose extents stay open, and their names.

    Raises:
        HomespunError: EXPORT_FAILED, UNSUPPORTED_OP or INVALID_ARGUMENT.
    """
    try:
        with quiet(), _mode(step, training), traceable_modules(step):
            exported = torch.export.export(
                step, columns, strict=False, dynamic_shapes=_dynamic_shapes(axes))
            _drop_assertions(exported)
            check_embeddings(exported)
            if training:
                mark_stopped_gradients(exported)
            exported = exported.run_decompositions({**_DECOMPOSITIONS, **gathers()})
            updated = expose_updates(exported)
            if updated and not training:
                raise _changes_in_evaluation(updated)
            program = torch.onnx.export(
                exported, dynamo=True, optimize=False, opset_version=OPSET, external_data=False,
                verbose=False,
            )
    except HomespunError:
        raise
    # The tracer runs the user's code: anything can come out, and all of it means the same here.
    except Exception as error:
        raise _export_failed(error) from error
    return Traced(program.model, updated)


def _dynamic_shapes(axes: Sequence[Mapping[int, str]]) -> tuple[Any, ...] | None:
    """What the exporter wants to know of open axes: it infers which of them are equal."""
    specs = tuple({axis: torch.export.Dim.DYNAMIC for axis in named} or None for named in axes)
    return (specs,) if any(specs) else None


def _drop_assertions(exported: torch.export.ExportedProgram) -> None:
    """Remove what the model checks about its data while it runs: a graph cannot refuse data."""
    for node in tuple(exported.graph.nodes):
        if node.target in _ASSERTIONS:
            exported.graph.erase_node(node)
    exported.graph.eliminate_dead_code()


def _changes_in_evaluation(updated: tuple[str, ...]) -> HomespunError:
    name = updated[0].removeprefix("model.")
    return HomespunError(
        Code.UNSUPPORTED_OP,
        f"The model changes its buffer {name!r} in evaluation mode; inference keeps nothing from "
        "one microbatch to the next. Change buffers in training only.",
        buffers=", ".join(updated),
    )


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
