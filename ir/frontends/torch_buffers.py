"""Buffers that a training forward changes: running statistics, moving averages, counters.

The tracer makes such a forward pure: it gives the buffers' new values beside the loss. They become
`Graph.updates`.

Batch normalisation needs more care. Torch stores the variance over n - 1 samples, ONNX's operator
gives the one over n; and in evaluation the operator reads the *stored* statistics, also where a
module is called twice and its second call follows the first call's update.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.onnx.ops  # Registers the operator below.
from torch import Tensor
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    OutputKind,
    OutputSpec,
)
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils import _pytree as pytree

from homespun.errors import Code, HomespunError

Statistics = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

_SYMBOLIC = torch.ops.onnx_symbolic._symbolic_multi_out.default
_ARITHMETIC = (torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor)


def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor,
    training: bool, momentum: float, epsilon: float,
) -> Statistics:
    """`aten._native_batch_norm_legit_functional`: one operator, and the statistics' arithmetic.

    Args:
        x: [N, C, ...].
        weight: [C] or None.
        bias: [C] or None.
        mean: [C], running.
        variance: [C], running, over n - 1 samples.
        training: whether the batch's own statistics are used; else NotImplemented is returned.
        momentum: share of the batch in the new running statistics.
        epsilon: added to the variance.

    Returns:
        The result, two values that nobody reads, and the new running statistics.
    """
    if not training:
        return NotImplemented  # type: ignore[no-any-return]
    channels = x.shape[1]
    samples = x.numel() // channels
    like = {"dtype": mean.dtype, "device": mean.device}
    scale = torch.ones(channels, **like) if weight is None else weight
    shift = torch.zeros(channels, **like) if bias is None else bias
    y, batch_mean, batch_variance = torch.onnx.ops.symbolic_multi_out(
        "::BatchNormalization", (x, scale, shift, mean, variance),
        {"epsilon": epsilon, "momentum": 0.0, "training_mode": 1},
        dtypes=(x.dtype, mean.dtype, variance.dtype),
        shapes=(x.shape, mean.shape, variance.shape))
    unbiased = batch_variance * (samples / max(samples - 1, 1))
    if momentum == 1.0:
        return y, batch_mean, batch_variance, batch_mean, unbiased
    new_mean = mean * (1 - momentum) + batch_mean * momentum
    new_variance = variance * (1 - momentum) + unbiased * momentum
    return y, batch_mean, batch_variance, new_mean, new_variance


def batch_norm_without_statistics(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`aten._native_batch_norm_legit.no_stats`: the batch's own statistics in every mode."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    variance = (centred * centred).mean(axes, keepdim=True)
    y = centred / torch.sqrt(variance + epsilon)
    if weight is not None:
        y = y * weight.reshape(shape)
    if bias is not None:
        y = y + bias.reshape(shape)
    return y, mean.reshape(-1), variance.reshape(-1)


@contextlib.contextmanager
def traceable_modules(step: torch.nn.Module) -> Iterator[None]:
    """While tracing, let modules that torch's tracer gets wrong run as written here.

    A batch normalisation with a cumulative average reads its counter on the host, and an instance
    normalisation's running statistics are changed behind the tracer's back.
    """
    changed = []
    for module in step.modules():
        forward = _replacement(module)
        if forward is not None:
            module.forward = types.MethodType(forward, module)
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _replacement(module: torch.nn.Module) -> Callable[..., Tensor] | None:
    if not module.training or not getattr(module, "track_running_stats", False):
        return None
    if isinstance(module, _InstanceNorm):
        return _instance_norm
    if isinstance(module, _BatchNorm) and module.momentum is None:
        return _cumulative_batch_norm
    return None


def _cumulative_batch_norm(self: Any, x: Tensor) -> Tensor:
    """`_BatchNorm.forward` with momentum None: running statistics are means over all batches."""
    self._check_input_dim(x)
    self.num_batches_tracked.add_(1)
    y, _, _, mean, variance = torch.ops.aten._native_batch_norm_legit_functional(
        x, self.weight, self.bias, self.running_mean, self.running_var, True, 1.0, self.eps)
    share = 1.0 / self.num_batches_tracked.to(mean.dtype)
    self.running_mean.add_((mean - self.running_mean) * share)
    self.running_var.add_((variance - self.running_var) * share)
    return y


def _instance_norm(self: Any, x: Tensor) -> Tensor:
    """`_InstanceNorm.forward`: batch normalisation over samples times channels.

    Source: ATen/native/Normalization.cpp, instance_norm: the running statistics follow the mean
    over the samples of a batch.
    """
    self._check_input_dim(x)
    batched = x if x.ndim == self._get_no_batch_dim() + 1 else x.unsqueeze(0)
    rows, channels = batched.shape[:2]
    merged = batched.reshape(1, rows * channels, *batched.shape[2:])
    repeated = [None if value is None else value.repeat(rows) for value in (
        self.weight, self.bias, self.running_mean, self.running_var)]
    momentum = 0.0 if self.momentum is None else self.momentum
    y, _, _, mean, variance = torch.ops.aten._native_batch_norm_legit_functional(
        merged, *repeated, True, momentum, self.eps)
    self.running_mean.copy_(mean.view(rows, channels).mean(0))
    self.running_var.copy_(variance.view(rows, channels).mean(0))
    return y.reshape(x.shape)


def expose_updates(exported: torch.export.ExportedProgram) -> tuple[str, ...]:
    """Make the new values of changed buffers results of the program, before its own.

    Args:
        exported: a decomposed program; its signature is changed in place.

    Returns:
        Places of the buffers in the traced module, in the order of the results.

    Raises:
        HomespunError: UNSUPPORTED_OP for a forward that changes a trainable parameter or a column.
    """
    signature = exported.graph_signature
    for spec in signature.output_specs:
        if spec.kind not in (OutputKind.USER_OUTPUT, OutputKind.BUFFER_MUTATION):
            what = "a column" if spec.kind is OutputKind.USER_INPUT_MUTATION else (
                f"the parameter {str(spec.target).removeprefix('model.')!r}")
            raise _unsupported(
                f"The model changes {what} in forward; only buffers can be changed there.")
    _read_stored_statistics(exported)
    updated = tuple(
        str(spec.target) for spec in signature.output_specs
        if spec.kind is OutputKind.BUFFER_MUTATION)
    specs = [OutputSpec(OutputKind.USER_OUTPUT, spec.arg, None) for spec in signature.output_specs]
    exported._graph_signature = ExportGraphSignature(signature.input_specs, specs)
    results = pytree.tree_structure((0,) * len(specs))
    exported.module_call_graph[0].signature.out_spec = results
    return updated


def _read_stored_statistics(exported: torch.export.ExportedProgram) -> None:
    """Let every batch normalisation read the statistics that its forward began with.

    While training it does not matter which it reads. In evaluation nothing is updated.
    """
    buffers = {
        spec.arg.name for spec in exported.graph_signature.input_specs
        if spec.kind is InputKind.BUFFER}
    for node in exported.graph.nodes:
        if _is_batch_norm(node):
            given = list(node.args[0])
            for position in (3, 4):
                given[position] = _stored(given[position], buffers)
            node.args = (given, *node.args[1:])


def _is_batch_norm(node: torch.fx.Node) -> bool:
    return node.target == _SYMBOLIC and "BatchNormalization" in node.args[1]


def _stored(value: torch.fx.Node, buffers: set[str]) -> torch.fx.Node:
    """The buffer that running statistics are in, before this forward's earlier calls."""
    node = value
    while node.target in _ARITHMETIC:
        node = node.args[0]
    if node.name in buffers:
        return node
    waiting, seen = [value], set()
    while waiting:
        node = waiting.pop()
        if _is_batch_norm(node):
            raise _unsupported(
                "A normalisation with running statistics of its own kind (such as InstanceNorm "
                "with track_running_stats) is called twice in one forward; a graph cannot tell "
                "the stored statistics from the updated ones. Use two modules.")
        if node not in seen:
            seen.add(node)
            waiting.extend(node.all_input_nodes)
    return value


def _unsupported(message: str) -> HomespunError:
    return HomespunError(Code.UNSUPPORTED_OP, message)
