"""Torch as a backend of `ir.semantics`: the Array API through array-api-compat, and the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peer.executor.torch_executor.tensors import DTYPES, to_torch

_REDUCTIONS = {"mul": "prod", "min": "amin", "max": "amax"}


class TorchBackend:
    """See `ir.semantics.backend.Backend`."""

    xp: Any = xp

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def dtype(self, name: str) -> torch.dtype:
        """The torch dtype of that name."""
        return DTYPES[name]

    def constant(self, array: npt.NDArray[np.generic]) -> Tensor:
        """A copy on the device."""
        return to_torch(array, self._device)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """Convert the dtype."""
        return x.to(DTYPES[dtype])

    def detach(self, x: Tensor) -> Tensor:
        """Leave the graph of autograd."""
        return x.detach()

    def bitcast(self, x: Tensor, dtype: str) -> Tensor:
        """A view."""
        return x.view(DTYPES[dtype])

    def erf(self, x: Tensor) -> Tensor:
        """Error function."""
        return torch.erf(x)

    def take(self, x: Tensor, indices: tuple[Tensor | slice, ...]) -> Tensor:
        """Advanced indexing."""
        return x[indices]

    def scatter(
        self, x: Tensor, indices: tuple[Tensor, ...], updates: Tensor, reduction: str
    ) -> Tensor:
        """Write at indices, in a copy; the order of sums is that of the indices."""
        if reduction in ("none", "add"):
            return x.index_put(indices, updates, accumulate=reduction == "add")
        kept = x.shape[len(indices):]
        rows = x.reshape(-1, *kept)
        row = torch.zeros((), dtype=torch.int64, device=x.device)
        for index, extent in zip(indices, x.shape, strict=False):
            row = row * extent + index
        flat = updates.expand(*row.shape, *kept).reshape(-1, *kept)
        target = row.reshape(-1, *[1] * len(kept)).expand_as(flat)
        return rows.scatter_reduce(0, target, flat, _REDUCTIONS[reduction]).reshape(x.shape)

    def pad(self, x: Tensor, borders: Sequence[tuple[int, int]], value: Any) -> Tensor:
        """Constant border."""
        return F.pad(x, [n for pair in reversed(borders) for n in pair], value=value)

    def einsum(self, equation: str, *operands: Tensor) -> Tensor:
        """Sum of products."""
        return torch.einsum(equation, *operands)

    def top_k(self, x: Tensor, k: int, largest: bool) -> tuple[Tensor, Tensor]:
        """The first k of a stable sort."""
        values, positions = torch.sort(x, dim=-1, descending=largest, stable=True)
        return values[..., :k], positions[..., :k]

    def loop(
        self, step: Callable[[Any, Any], tuple[Any, Any]], start: Any, xs: Any, length: int
    ) -> tuple[Any, Any]:
        """A Python loop."""
        carry, rows = start, []
        for position in range(length):
            carry, results = step(carry, tuple(x[position] for x in xs))
            rows.append(results)
        return carry, tuple(torch.stack(column) for column in zip(*rows, strict=True))
