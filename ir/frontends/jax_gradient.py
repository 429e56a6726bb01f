"""Find what a JAX function does that an exported forward would not do.

It may draw random numbers, call back into Python, or differentiate otherwise than its forward says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import jax
import numpy as np

from homespun.errors import Code, HomespunError

_DRAWS = ("random_", "threefry", "rng_")
_CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "debug_print")
_STOPS = "stop_gradient"
_OWN_BACKWARD = "custom_vjp_call"
_CALLS = ("pjit", "jit", "closed_call", "core_call", "remat", "remat2", "checkpoint")
_SHIFTS = ("jax/_src/nn/functions.py", "jax/_src/ops/special.py")
"""JAX's softmax and logsumexp: they subtract a maximum that cancels out, in the gradient too."""
_TOLERANCE = 1e-3
"""Relative to the largest gradient of a parameter: rounding is far below, a stopped path above."""


def check_primitives(jaxpr: Any) -> None:
    """Refuse random draws and callbacks.

    Raises:
        HomespunError: UNSUPPORTED_OP naming the primitive and the user's line.
    """
    for equation in _equations(jaxpr):
        name = equation.primitive.name
        if name.startswith(_DRAWS):
            raise HomespunError(
                Code.UNSUPPORTED_OP,
                f"The function draws random numbers ({name}{_line(equation)}): every step would "
                "see the same ones. Draw them before you submit and give them as a column, or "
                "train without dropout.", op_type=name)
        if name in _CALLBACKS:
            raise HomespunError(
                Code.UNSUPPORTED_OP,
                f"The function calls back into Python ({name}{_line(equation)}), which a graph "
                "cannot. Remove the call.", op_type=name)


def check_gradient(
    program: Any, values: Sequence[Any], positions: tuple[int, ...], names: Sequence[str]
) -> None:
    """Compare JAX's gradient with that of the bare forward, at the sample.

    `stop_gradient` inside JAX's own softmax changes nothing; elsewhere it may. Where there is one,
    both gradients are computed: with everything that overrides differentiation, and without.

    Args:
        program: closed jaxpr of the function; its first result is summed.
        values: leaves of the parameters, then columns.
        positions: which of the values are trained.
        names: of the leaves.

    Raises:
        HomespunError: UNSUPPORTED_OP naming the first parameter whose gradient differs.
    """
    overrides = [equation for equation in _equations(program.jaxpr) if _overrides(equation)]
    if not overrides or not positions:
        return

    def plain(*args: Any) -> Any:
        return jax.core.eval_jaxpr(program.jaxpr, program.consts, *args)[0].sum()

    def bare(*args: Any) -> Any:
        return _evaluate(program.jaxpr, program.consts, args)[0].sum()

    wanted = jax.jit(jax.grad(plain, positions))(*values)
    found = jax.jit(jax.grad(bare, positions))(*values)
    for place, left, right in zip(positions, wanted, found, strict=True):
        left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
        scale = max(np.abs(left).max(initial=0), np.abs(right).max(initial=0))
        if np.abs(left - right).max(initial=0) > _TOLERANCE * scale:
            first = overrides[0]
            raise HomespunError(
                Code.UNSUPPORTED_OP,
                f"The function overrides the gradient of {names[place]!r} "
                f"({first.primitive.name}{_line(first)}); a graph carries the forward alone. "
                "Freeze the parameters concerned, or leave the gradient in.",
                op_type=first.primitive.name)


def _overrides(equation: Any) -> bool:
    """Whether an equation has a gradient of its own that may not be the forward's."""
    if equation.primitive.name.startswith(_OWN_BACKWARD):
        return True
    if equation.primitive.name != _STOPS:
        return False
    frames = equation.source_info.traceback.frames if equation.source_info.traceback else ()
    own = itertools.takewhile(lambda file: "jax" in PurePath(file).parts,
                              (frame.file_name for frame in frames))
    return not any(file.replace("\\", "/").endswith(_SHIFTS) for file in own)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """All equations, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)


def _evaluate(jaxpr: Any, constants: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Run a program without its overrides of differentiation."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, constants, strict=True))
    known.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else known[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        known.update(zip(equation.outvars, _apply(equation, inputs), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: Any, inputs: list[Any]) -> Sequence[Any]:
    name, params = equation.primitive.name, equation.params
    if name == _STOPS:
        return inputs
    inner = params.get("call_jaxpr") or params.get("fun_jaxpr") or params.get("jaxpr")
    if inner is not None and (name in _CALLS or name.startswith(_OWN_BACKWARD)):
        return _evaluate(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)
    results = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(params))
    return results if equation.primitive.multiple_results else [results]


def _line(equation: Any) -> str:
    """The user's line, such as ` at model.py, line 12`."""
    from jax._src import source_info_util

    frame = source_info_util.user_frame(equation.source_info.traceback)
    return f" at {PurePath(frame.file_name).name}, line {frame.start_line}" if frame else ""
