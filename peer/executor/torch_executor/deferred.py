"""Products with a weight whose weight gradient is computed later than the input's gradient.

Another segment waits for the gradient of the input, nobody for the weight's: computing the former
first lets the neighbour go on while this segment catches up ("zero bubble" pipelining, Qi et al.
2023, arXiv:2401.10241, section 2; we split single matrix products, not whole layers). When the
weight's gradient is computed changes no bit: terms are added to the parameter in microbatch order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from peer.executor.torch_executor.run_state import RunState


@dataclass(frozen=True, slots=True, eq=False)
class WeightGradient:
    """What it takes to add one weight's gradient of one microbatch.

    Attributes:
        rows: the product's left operand, [n, k].
        weight: its right operand, [k, m], with its way back to the parameter.
        gradient: of the product, [n, m].
        is_transposed: whether `weight` is a view of a row-major [m, k] parameter.
    """

    rows: Tensor
    weight: Tensor
    gradient: Tensor
    is_transposed: bool

    def add(self) -> None:
        """Compute the gradient and add it to the parameter's sum."""
        if self.is_transposed:
            gradient = torch.mm(self.gradient.mT, self.rows).mT
        else:
            gradient = torch.mm(self.rows.mT, self.gradient)
        torch.autograd.backward([self.weight], [gradient])


class _Product(torch.autograd.Function):
    """`rows @ weight + bias`, whose backward leaves the weight's gradient to `RunState.deferred`.

    The gradient of the bias is a small sum and is not worth keeping anything for.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, state: RunState,
        attached: Callable[[], Tensor], is_transposed: bool,
    ) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.state, ctx.attached, ctx.is_transposed = state, attached, is_transposed
        return _plain(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, weight = ctx.saved_tensors
        (gradient,) = gradients
        ctx.state.deferred.append(
            WeightGradient(rows, ctx.attached(), gradient, ctx.is_transposed))
        toward_rows = torch.mm(gradient, weight.mT) if ctx.needs_input_grad[0] else None
        toward_bias = gradient.sum(0) if ctx.needs_input_grad[2] else None
        return toward_rows, None, toward_bias, None, None, None


def product(
    rows: Tensor, weight: Tensor, state: RunState, is_transposed: bool, bias: Tensor | None = None
) -> Tensor:
    """`rows @ weight + bias`; while training, the weight's gradient goes to `state.deferred`.

    Args:
        rows: [n, k].
        weight: [k, m].
        state: which microbatch is running.
        is_transposed: whether `weight` is a view of a row-major [m, k] parameter.
        bias: [m].
    """
    if not (state.training and weight.requires_grad and torch.is_grad_enabled()):
        return _plain(rows, weight, bias)
    result: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
        rows, weight, bias, state, lambda: weight, is_transposed)
    return result


def _plain(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(rows, weight) if bias is None else torch.addmm(bias, rows, weight)
