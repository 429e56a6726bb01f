"""Find what changes a gradient without changing the forward, and refuse what a graph cannot carry.

ONNX says what a forward computes, not what its gradient is. So a detached tensor, `no_grad` or a
hand-written backward must be found here: the exporter drops each without a word.
"""

from __future__ import annotations

import operator
import re
from pathlib import PurePath
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import BackwardCFunction

from homespun.errors import Code, HomespunError
from ir.frontends.torch_gathers import gathers

_STOPS_GRADIENT = (
    torch.ops.aten.detach.default,
    torch.ops.aten.detach_.default,
    torch.ops.aten.detach_copy.default,
)


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


def check_stopped_gradients(exported: torch.export.ExportedProgram) -> None:
    """Refuse `detach` and `no_grad` on anything that depends on a trainable parameter.

    Raises:
        HomespunError: UNSUPPORTED_OP, with the line of the model.
    """
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
        if PurePath(path).parent != PurePath(__file__).parent
        and "torch" not in PurePath(path).parts
    ]
    return f" ({PurePath(own[-1][0]).name}, line {own[-1][1]})" if own else ""
