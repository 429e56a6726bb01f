"""A compiled segment: steps over numbered slots, and running them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from homespun.errors import Code, HomespunError
from ir.graph import Graph, Node
from peer.executor.torch_executor.failures import node_failure
from peer.executor.torch_executor.table import Runner
from peer.executor.torch_executor.tensors import DTYPES

SlotKey = tuple[str, int | None]
"""(value, None), or (value, consumer index) where each consumer has a leaf of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node, ready to run: `values[target] = run(*values[sources])`.

    Attributes:
        node: for messages.
        run: the implementation, bound to the node.
        sources: slot of each input.
        targets: slot of each output; all that nobody wants share one.
        single: whether `run` gives one tensor, not a tuple.
        dead: slots that nobody reads afterwards.
    """

    node: Node
    run: Runner
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    single: bool
    dead: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A compiled segment.

    Attributes:
        steps: in node-index order.
        initial: what the slots hold before a microbatch: constants, else None.
        slots: slot of each value that comes from outside (data, parameters, boundary tensors) or
            is a result (loss, graph outputs of inference, outgoing boundary tensors).
    """

    steps: tuple[Step, ...]
    initial: tuple[Tensor | None, ...]
    slots: Mapping[SlotKey, int]


def execute(plan: Plan, values: list[Tensor | None], device: torch.device) -> None:
    """Run all steps over `values`, which holds the inputs; results are left in their slots.

    Raises:
        HomespunError: OUT_OF_MEMORY or EXECUTOR_FAILED, naming the node.
    """
    step = None
    try:
        for step in plan.steps:
            result = step.run(*[values[source] for source in step.sources])
            if step.single:
                # Shared semantics may give all outputs that the operator can have.
                values[step.targets[0]] = result[0] if isinstance(result, tuple) else result
            else:
                for target, part in zip(step.targets, result, strict=False):
                    values[target] = part
            for slot in step.dead:
                values[slot] = None
    except HomespunError:
        raise
    except Exception as error:
        assert step is not None
        raise node_failure(error, step.node, device) from error


def check_types(plan: Plan, graph: Graph) -> Plan:
    """The same plan with steps that compare each result with the graph's types.

    Raises (when run):
        HomespunError: INVALID_GRAPH, naming the node and both types.
    """
    return replace(plan, steps=tuple(
        replace(step, run=_checked(step.run, step.node, graph)) for step in plan.steps))


def _checked(run: Runner, node: Node, graph: Graph) -> Runner:
    def checked(*values: Tensor | None) -> object:
        result = run(*values)
        results = result if isinstance(result, tuple | list) else (result,)
        for name, tensor in zip(node.outputs, results, strict=False):
            if not name:
                continue
            kind = graph.types[name]
            if tuple(tensor.shape) != kind.shape or tensor.dtype != DTYPES[kind.dtype]:
                raise HomespunError(
                    Code.INVALID_GRAPH,
                    f"Node '{node.name}' ({node.op_type}) gives {tensor.dtype} "
                    f"{tuple(tensor.shape)} for '{name}', but the graph says {kind.dtype} "
                    f"{kind.shape}.", node=node.name, op_type=node.op_type)
        return result

    return checked
