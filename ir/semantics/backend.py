"""What an array library must offer: the Array API standard, and a few things it leaves out.

Kept small on purpose: whatever can be written with the standard is written with it, in an operator
family. Arrays are values; nothing here changes one in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = Any
"""An array of the backend's library."""


class Backend(Protocol):
    """An array library on a device.

    Attributes:
        xp: its Array API namespace (version 2023.12 or newer).
    """

    xp: Any

    def dtype(self, name: str) -> Any:
        """The library's dtype for a key of `ir.graph.ITEM_BYTES`."""
        ...

    def constant(self, array: npt.NDArray[np.generic]) -> Array:
        """A host value as an array on the device."""
        ...

    def cast(self, x: Array, dtype: str) -> Array:
        """Convert as C does: floats to integers truncate, to bool compare with zero."""
        ...

    def detach(self, x: Array) -> Array:
        """The same value, through which no gradient flows."""
        ...

    def bitcast(self, x: Array, dtype: str) -> Array:
        """The same bits as another dtype of the same width."""
        ...

    def erf(self, x: Array) -> Array:
        """Error function of floats."""
        ...

    def take(self, x: Array, indices: tuple[Array | slice, ...]) -> Array:
        """Advanced indexing, `x[indices]`: integer arrays broadcast together, slices stay axes."""
        ...

    def scatter(
        self, x: Array, indices: tuple[Array, ...], updates: Array, reduction: str
    ) -> Array:
        """A copy of `x` with `updates` written at integer indices, one array per leading axis.

        Args:
            x: the target.
            indices: non-negative; they broadcast together.
            updates: shape of the broadcast indices, then the axes of `x` that are not indexed.
            reduction: `none` (indices are unique), `add`, `mul`, `min`, `max`.
        """
        ...

    def pad(self, x: Array, borders: Sequence[tuple[int, int]], value: Array | float) -> Array:
        """Add `value` around `x`: (before, after) per axis, each >= 0."""
        ...

    def einsum(self, equation: str, *operands: Array) -> Array:
        """Sum of products."""
        ...

    def top_k(self, x: Array, k: int, largest: bool) -> tuple[Array, Array]:
        """Values and int64 positions of the k largest or smallest along the last axis, sorted.

        Of equal elements the one with the smaller position comes first.
        """
        ...

    def loop(
        self, step: Callable[[Any, Any], tuple[Any, Any]], start: Any, xs: Any, length: int
    ) -> tuple[Any, Any]:
        """`jax.lax.scan`: carry a value along axis 0 of `xs`, stacking what each step gives.

        Args:
            step: (carry, slices of xs) -> (carry, tuple of results); carry and xs are tuples.
            start: the first carry.
            xs: arrays that share the extent `length` of axis 0.
            length: number of steps, >= 0.
        """
        ...
