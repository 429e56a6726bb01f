"""Wrappers around an operator's implementation that make its bits independent of the cut.

Why each exists is in `compilation`'s docstring.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from peer.executor.torch_executor.table import Runner

Preparation = tuple[int, Callable[[Tensor], Tensor]]
"""(input slot, what to do with it)."""


def alias(value: Tensor) -> Tensor:
    """A new value with the same elements: gradient terms that meet in it are summed there."""
    return value.view_as(value)


def with_prepared(
    run: Runner, prepare: tuple[Preparation, ...], names: tuple[str, ...]
) -> Runner:
    """Run with some inputs prepared; a value in two input slots is prepared once."""
    first = {slot: names.index(names[slot]) for slot, _ in prepare}

    def prepared(*values: Tensor) -> object:
        inputs = list(values)
        for slot, function in prepare:
            origin = first[slot]
            inputs[slot] = function(values[slot]) if origin == slot else inputs[origin]
        return run(*inputs)

    return prepared


def with_row_major(run: Runner) -> Runner:
    """Run on row-major inputs; copies those that are not."""

    def ordered(*values: Tensor | None) -> object:
        for value in values:
            if value is not None and not value.is_contiguous():
                return run(*(None if v is None else v.contiguous() for v in values))
        return run(*values)

    return ordered


def with_stopped(run: Runner, stopped: frozenset[int]) -> Runner:
    """Give the results in these positions without a way back for gradients."""

    def detached(*values: Tensor | None) -> object:
        result = run(*values)
        if isinstance(result, tuple | list):
            return tuple(
                part.detach() if position in stopped and part is not None else part
                for position, part in enumerate(result))
        return result.detach()

    return detached


def with_dense_gradients(run: Runner) -> Runner:
    """Make the gradient of each result row-major before it is used."""

    def hooked(*values: Tensor | None) -> object:
        result = run(*values)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if tensor is not None and tensor.requires_grad:
                tensor.register_hook(_dense)
        return result

    return hooked


def _dense(gradient: Tensor) -> Tensor | None:
    return None if gradient.is_contiguous() else gradient.contiguous()
