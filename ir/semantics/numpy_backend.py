"""Numpy as a backend: host work, such as the parts of a graph that depend on nothing.

No gradients; loops and scatters are plain Python loops or unbuffered numpy calls, so use it for
small arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import erf
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import numpy.typing as npt

from ir.tensor_proto import numpy_dtype

Values = npt.NDArray[Any]

_UPDATES: dict[str, np.ufunc] = {
    "add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


class NumpyBackend:
    """See `ir.semantics.backend.Backend`."""

    xp: Any = xp

    def dtype(self, name: str) -> np.dtype[Any]:
        """The numpy dtype of that name; what numpy lacks comes from `ml_dtypes`."""
        return numpy_dtype(name)

    def constant(self, array: npt.NDArray[np.generic]) -> Values:
        """The array itself."""
        return array

    def cast(self, x: Values, dtype: str) -> Values:
        """Convert the dtype; a float that does not fit gives what the processor gives."""
        with np.errstate(all="ignore"):
            return np.asarray(x).astype(self.dtype(dtype))

    def bitcast(self, x: Values, dtype: str) -> Values:
        """A view."""
        return np.asarray(x).view(self.dtype(dtype))

    def detach(self, x: Values) -> Values:
        """The array itself: there are no gradients."""
        return x

    def erf(self, x: Values) -> Values:
        """Error function, element by element."""
        values = [erf(value) for value in np.asarray(x, dtype=np.float64).reshape(-1)]
        return np.array(values).reshape(x.shape).astype(x.dtype)

    def take(self, x: Values, indices: tuple[Values | slice, ...]) -> Values:
        """Advanced indexing."""
        taken: Values = x[indices]
        return taken

    def scatter(
        self, x: Values, indices: tuple[Values, ...], updates: Values, reduction: str
    ) -> Values:
        """Write at indices, in a copy, in row-major order of the indices."""
        result = x.copy()
        if reduction == "none":
            result[indices] = updates
        else:
            _UPDATES[reduction].at(result, indices, updates)
        return result

    def pad(self, x: Values, borders: Sequence[tuple[int, int]], value: Any) -> Values:
        """Constant border."""
        return np.pad(x, borders, constant_values=value)

    def einsum(self, equation: str, *operands: Values) -> Values:
        """Sum of products."""
        result: Values = np.einsum(equation, *operands)
        return result

    def top_k(self, x: Values, k: int, largest: bool) -> tuple[Values, Values]:
        """The first k of a stable sort."""
        if largest:
            # Sorted backwards and read backwards, equal elements keep their order.
            order = np.flip(np.argsort(np.flip(x, -1), axis=-1, kind="stable"), -1)
            positions = x.shape[-1] - 1 - order[..., :k]
        else:
            positions = np.argsort(x, axis=-1, kind="stable")[..., :k]
        return np.take_along_axis(x, positions, -1), positions.astype(np.int64)

    def loop(
        self, step: Callable[[Any, Any], tuple[Any, Any]], start: Any, xs: Any, length: int
    ) -> tuple[Any, Any]:
        """A Python loop."""
        carry, rows = start, []
        for position in range(length):
            carry, results = step(carry, tuple(x[position] for x in xs))
            rows.append(results)
        return carry, tuple(np.stack(column) for column in zip(*rows, strict=True))
