"""What is recorded about an operator, and short ways to write it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

OPSET = 23
"""The version of the default domain that front ends write where it has all that a graph needs."""
OPSETS = range(OPSET, 29)
"""Versions that a graph may have in memory: above `OPSET` only where an operator, one of its
attributes or of its inputs is newer. The facts follow the last of them; what else changed in
between are further types, not the meaning of a node."""


class OpClass(StrEnum):
    """What limits an operator's speed; a peer is measured once per class."""

    MATMUL = "matmul"
    ATTENTION = "attention"
    CONVOLUTION = "convolution"
    MEMORY = "memory"
    """Element-wise work, copies, reductions: time is bytes over memory bandwidth."""
    HOST = "host"
    """Known before the run (shapes, constants): costs a device nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorInfo:
    """The facts about one operator.

    Attributes:
        op_class: which measured speed of a peer applies.
        differentiable: whether a gradient passes from its float outputs to its float inputs. True
            also where the gradient is zero almost everywhere (`Floor`), because automatic
            differentiation passes that zero on.
        random: whether it draws random numbers (keyed by seed, step, microbatch and node index).
        min_inputs: fewest inputs, trailing optional ones left out.
        max_inputs: most inputs; None: any number.
        max_outputs: most outputs; None: any number.
        required: attributes that must be there.
        optional: attributes that may be there.
        inert_inputs: positions of inputs that never receive a gradient even if they are floats.
        inert_outputs: positions of outputs that pass no gradient on even if they are floats.
        since: first version of the default domain that has it, where that is above `OPSET`.
        newer: attribute, or `input <position>`, that came later -> first version that has it.
        description: one line for people.
    """

    op_class: OpClass
    differentiable: bool
    random: bool
    min_inputs: int
    max_inputs: int | None
    max_outputs: int | None
    required: tuple[str, ...]
    optional: tuple[str, ...]
    inert_inputs: frozenset[int]
    description: str
    since: int = OPSET
    inert_outputs: frozenset[int] = frozenset()
    newer: Mapping[str, int] = field(default_factory=dict)


def op(
    description: str,
    inputs: int | tuple[int, int | None] = 1,
    *,
    outputs: int | None = 1,
    required: str = "",
    optional: str = "",
    op_class: OpClass = OpClass.MEMORY,
    gradient: bool = True,
    random: bool = False,
    inert: tuple[int, ...] = (),
    since: int = OPSET,
    inert_outputs: tuple[int, ...] = (),
    newer: Mapping[str, int] | None = None,
) -> OperatorInfo:
    """An operator's facts; `inputs` is how many it takes, or the fewest and the most."""
    least, most = (inputs, inputs) if isinstance(inputs, int) else inputs
    return OperatorInfo(
        op_class=op_class, differentiable=gradient, random=random, min_inputs=least,
        max_inputs=most, max_outputs=outputs, required=tuple(required.split()),
        optional=tuple(optional.split()), inert_inputs=frozenset(inert), description=description,
        since=since, inert_outputs=frozenset(inert_outputs), newer=newer or {})


def comparison(description: str, inputs: int = 2, optional: str = "") -> OperatorInfo:
    """An operator whose result is no number: no gradient passes."""
    return op(description, inputs, optional=optional, gradient=False)
