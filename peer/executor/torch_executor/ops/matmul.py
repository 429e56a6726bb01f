"""Matrix products. They alone compute in bfloat16 when the job's precision says so.

With precision `bfloat16` a product rounds its float32 operands to bfloat16, multiplies, and returns
float32 again: every value keeps the type that the graph gives it, so a value that crosses between
segments is the same number as one that does not. (torch.autocast leaves results in bfloat16, which
would make the result depend on the cut.)
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peer.executor.torch_executor.deferred import product
from peer.executor.torch_executor.table import Call, Runner, operator
from peer.executor.torch_executor.tensors import row_major


def rounded(call: Call, run: Runner) -> Runner:
    """`run` with operands in the job's precision and results in the graph's dtype."""
    dtype = call.dtype(0)
    if call.precision != "bfloat16" or dtype != torch.float32:
        return run

    def low(*values: Tensor | None) -> Tensor:
        result: Tensor = run(*(None if v is None else v.to(torch.bfloat16) for v in values))
        return result.to(dtype)

    return low


@operator("MatMul", strided=True, once=True, dense=True)
def _matmul(call: Call) -> Runner:
    left, right = len(call.shape(0)), len(call.shape(1))
    if right == 2 and left >= 2:
        return rounded(call, _by_matrix(call))
    if call.transposed[1]:
        return rounded(call, lambda a, b: torch.matmul(row_major(a), row_major(b.mT).mT))
    return rounded(call, lambda a, b: torch.matmul(row_major(a), row_major(b)))


def _by_matrix(call: Call) -> Runner:
    """Rows times one matrix: a single product of two matrices, whatever the leading axes."""
    *leading, inner = call.shape(0)
    count, shape = prod(leading), call.out().shape
    transposed = call.transposed[1]
    is_weight = len(call.of_parameter) > 1 and call.of_parameter[1]
    state = call.state

    def run(a: Tensor, b: Tensor) -> Tensor:
        # A transposed weight is read where it lies; the copy happens only if it was received.
        matrix = row_major(b.mT).mT if transposed else row_major(b)
        rows = row_major(a).view(count, inner)
        if is_weight:
            return product(rows, matrix, state, transposed).view(shape)
        return torch.mm(rows, matrix).view(shape)

    return run


@operator("Gemm", strided=True, once=True, dense=True)
def _gemm(call: Call) -> Runner:
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    swap_a, swap_b = bool(call.integer("transA", 0)), bool(call.integer("transB", 0))
    whole = not call.dtype(0).is_floating_point
    if _is_linear(call):
        return _linear(call, swap_b)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        left = row_major(a).mT if swap_a else row_major(a)
        right = row_major(b).mT if swap_b else row_major(b)
        if c is None:
            product = torch.mm(left, right)
            return product if alpha == 1.0 else product * alpha
        if whole:
            return (torch.mm(left, right) * int(alpha)) + row_major(c) * int(beta)
        return torch.addmm(row_major(c), left, right, beta=beta, alpha=alpha)

    return rounded(call, run)


def _is_linear(call: Call) -> bool:
    """Whether this is a linear layer: rows times a matrix, plus at most one number per column."""
    plain = call.number("alpha", 1.0) == 1.0 and call.number("beta", 1.0) == 1.0
    bias = call.inputs[2].shape if call.has(2) and call.inputs[2] is not None else None
    return (
        plain and not call.integer("transA", 0) and call.dtype(0).is_floating_point
        and bias in (None, call.out().shape[1:]))


def _linear(call: Call, swap: bool) -> Runner:
    """One fused kernel; the bias is not rounded to the job's precision, as it is no factor."""
    is_weight = len(call.of_parameter) > 1 and call.of_parameter[1]
    state = call.state
    short = call.precision == "bfloat16" and call.dtype(0) == torch.float32

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        if short:
            result = by_matrix(row_major(a).to(torch.bfloat16), b.to(torch.bfloat16), None)
            wide = result.to(torch.float32)
            return wide if c is None else wide + c
        return by_matrix(row_major(a), b, None if c is None else row_major(c))

    def by_matrix(rows: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        matrix = row_major(b).mT if swap else row_major(b)
        if is_weight:
            return product(rows, matrix, state, swap, bias)
        return torch.mm(rows, matrix) if bias is None else torch.addmm(bias, rows, matrix)

    return run


@operator("Einsum")
def _einsum(call: Call) -> Runner:
    equation = call.text("equation", "").replace(" ", "")
    return rounded(call, lambda *values: torch.einsum(equation, *values))


def convolve(rank: int) -> Runner:
    """Torch's convolution over `rank` spatial axes."""
    return (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
