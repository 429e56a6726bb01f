"""Find what changes a gradient without changing the forward: mark it, or refuse it.

ONNX says what a forward computes, not what its gradient is. So a detached tensor, `no_grad` or a
hand-written backward must be found here, and an embedding's padding row: the exporter drops each
without a word. All but hand-written ones become marked nodes, from which `canonical.freeze` makes
`Graph.stopped`.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import BackwardCFunction

from homespun.errors import Code, HomespunError
from ir.frontends.torch_embeddings import EMBEDDING, train_embedding
from ir.frontends.torch_gathers import gathers
from ir.frontends.torch_nodes import place, stopped

_DETACHES_IN_PLACE = (torch.ops.aten.detach_.default,)
_DETACHES = (
    torch.ops.aten.detach.default, torch.ops.aten.detach_copy.default, *_DETACHES_IN_PLACE)


def check_gradient(loss: torch.Tensor, model: torch.nn.Module) -> None:
    """Refuse hand-written gradients, and losses that train a tensor outside of the model.

    Autograd's own graph is walked: it knows both.

    Raises:
        HomespunError: UNSUPPORTED_OP or INVALID_ARGUMENT.
    """
    own = {id(tensor) for tensor in model.parameters()}
    known = {_backward_name(target) for target in gathers()}
    seen: set[Any] = set()
    waiting = [loss.grad_fn]
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        waiting.extend(following for following, _ in function.next_functions)
        if isinstance(function, BackwardCFunction) and type(function).__name__ not in known:
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


def _backward_name(target: torch._ops.OpOverload) -> str:
    """What torch calls the backward of an operator that a library registered."""
    name, _, overload = str(target).rpartition(".")
    return f"GeneratedBackwardFor_{name.replace('.', '_')}_{overload}Backward"


def mark_stopped_gradients(exported: torch.export.ExportedProgram) -> None:
    """Put a node that the exporter keeps where `detach`, `no_grad` or a padding row stops one.

    Only what depends on a trainable parameter is marked; elsewhere there is no gradient to stop.
    The graph of `exported` is edited in place.

    Raises:
        HomespunError: UNSUPPORTED_OP with the line of the model, where a value is detached or
            computed without gradient *and* changed in place: which of its readers see the gradient
            then depends on memory, which a graph does not have; what `train_embedding` raises.
    """
    signature = exported.graph_signature.inputs_to_parameters
    trained = {
        name for name, path in signature.items() if exported.state_dict[path].requires_grad
    }
    depends: set[torch.fx.Node] = set()
    for node in tuple(exported.graph.nodes):
        if node.op == "placeholder" and node.name in trained:
            depends.add(node)
        elif depends.intersection(_sources(node)) and _is_float(node):
            if node.target in _DETACHES:
                _stop(exported.graph, node)
            elif _is_without_gradient(node):
                passed = _passed_through(exported, node, depends)
                depends.update(_stop_results(exported.graph, node, passed))
            elif node.target is EMBEDDING and node.args[0] in depends:
                depends.update((node, train_embedding(exported.graph, node)))
            else:
                depends.add(node)
    exported.graph_module.recompile()


def _stop(graph: torch.fx.Graph, value: torch.fx.Node) -> None:
    """Let all readers of `value` read it through a marked node."""
    if value.target in _DETACHES_IN_PLACE or _is_changed(value):
        raise HomespunError(
            Code.UNSUPPORTED_OP,
            f"The model stops a gradient on a tensor that is changed in place{place(value)}; use "
            "operations that make new tensors.",
        )
    readers = tuple(value.users)
    marked = stopped(graph, value)
    value.replace_all_uses_with(marked, delete_user_cb=lambda user: user in readers)


def _stop_results(
    graph: torch.fx.Graph, region: torch.fx.Node, passed: frozenset[int]
) -> list[torch.fx.Node]:
    """Stop the results of a region without gradient; those that it only passes through are given.

    Args:
        graph: the graph of the region.
        region: runs an inner graph; each user takes one of its results.
        passed: numbers of the results that are arguments of the region.
    """
    through = []
    for user in tuple(region.users):
        if user.args[1] in passed:
            through.append(user)
        elif _is_float(user):
            _stop(graph, user)
    return through


def _passed_through(
    exported: torch.export.ExportedProgram, region: torch.fx.Node, depends: set[torch.fx.Node]
) -> frozenset[int]:
    """Numbers of the region's results that are arguments of it: they keep their gradient."""
    inner = getattr(exported.graph_module, region.args[1].target).graph
    given = [node for node in inner.nodes if node.op == "placeholder"]
    with_gradient = {
        node for node, argument in zip(given, region.args[2:], strict=True) if argument in depends}
    for node in inner.nodes:
        nested = node.target is torch.ops.higher_order.wrap_with_set_grad_enabled
        if nested or (_is_mutable(node) and _base(node.args[0]) in with_gradient):
            raise HomespunError(
                Code.UNSUPPORTED_OP,
                "The model switches gradients on again, or changes a tensor with a gradient in "
                f"place, inside of no_grad{place(node)}; use operations that make new tensors.",
            )
    (results,) = inner.output_node().args
    return frozenset(number for number, result in enumerate(results) if result in with_gradient)


def _is_mutable(node: torch.fx.Node) -> bool:
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def _is_view(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(r.alias_info is not None for r in schema.returns)


def _base(value: torch.fx.Node) -> torch.fx.Node:
    """What a value is a view of."""
    while value.op == "call_function" and _is_view(value):
        value = value.args[0]
    return value


def _is_changed(value: torch.fx.Node) -> bool:
    """Whether a value, or a view of it, is changed in place."""
    return any(
        (_is_mutable(user) and user.args[0] is value) or (_is_view(user) and _is_changed(user))
        for user in value.users)


def _sources(node: torch.fx.Node) -> list[torch.fx.Node]:
    """The nodes that a node's value follows from."""
    source = node.args[0] if node.target is operator.getitem else None
    if source is not None and source.target is torch.ops.aten.broadcast_tensors.default:
        return [source.args[0][node.args[1]]]  # Each result follows from one of the arguments.
    sources: list[torch.fx.Node] = node.all_input_nodes
    return sources


def _is_without_gradient(node: torch.fx.Node) -> bool:
    region = torch.ops.higher_order.wrap_with_set_grad_enabled
    return node.target is region and not node.args[0]


def _is_float(node: torch.fx.Node) -> bool:
    """Whether a gradient could pass: integers and booleans have none."""
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else (value,)
    return any(not isinstance(v, torch.Tensor) or v.is_floating_point() for v in values)
