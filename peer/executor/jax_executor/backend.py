"""JAX as a backend of `ir.semantics`, for use inside a traced function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from operator import and_
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ir.semantics.backend import Array
from ir.tensor_proto import numpy_dtype


class JaxBackend:
    """See `ir.semantics.backend.Backend`.

    Indices are not checked: reading beyond an axis gives NaN (the smallest integer, for integers),
    writing beyond it does nothing. A compiled function cannot stop half-way.
    """

    xp: Any = jnp

    def dtype(self, name: str) -> np.dtype[Any]:
        """The numpy dtype of that name, which JAX uses."""
        return numpy_dtype(name)

    def constant(self, array: npt.NDArray[np.generic]) -> Array:
        """The array itself: it becomes part of what is compiled."""
        return array

    def cast(self, x: Array, dtype: str) -> Array:
        """Convert the dtype."""
        return jnp.asarray(x).astype(self.dtype(dtype))

    def bitcast(self, x: Array, dtype: str) -> Array:
        """Read the bits anew."""
        return jax.lax.bitcast_convert_type(x, self.dtype(dtype))

    def detach(self, x: Array) -> Array:
        """Stop the gradient."""
        return jax.lax.stop_gradient(x)

    def erf(self, x: Array) -> Array:
        """Error function."""
        return jax.lax.erf(x)

    def take(self, x: Array, indices: tuple[Array | slice, ...]) -> Array:
        """Advanced indexing."""
        return jnp.asarray(x).at[indices].get(mode="fill")

    def scatter(
        self, x: Array, indices: tuple[Array, ...], updates: Array, reduction: str
    ) -> Array:
        """Write at indices, in a copy."""
        if reduction == "mul":
            return x * _products(x, indices, updates)
        target = jnp.asarray(x).at[indices]
        write = {"none": target.set, "add": target.add, "min": target.min, "max": target.max}
        return write[reduction](updates)

    def pad(self, x: Array, borders: Sequence[tuple[int, int]], value: Any) -> Array:
        """Constant border."""
        fill = jnp.asarray(value).astype(x.dtype)
        return jax.lax.pad(x, fill, [(before, after, 0) for before, after in borders])

    def einsum(self, equation: str, *operands: Array) -> Array:
        """Sum of products."""
        return jnp.einsum(equation, *operands)

    def top_k(self, x: Array, k: int, largest: bool) -> tuple[Array, Array]:
        """The first k of a stable sort."""
        order = jnp.argsort(x, axis=-1, stable=True, descending=largest)[..., :k]
        return jnp.take_along_axis(x, order, axis=-1), order.astype(np.int64)

    def loop(
        self, step: Callable[[Any, Any], tuple[Any, Any]], start: Any, xs: Any, length: int
    ) -> tuple[Any, Any]:
        """`jax.lax.scan`: the body is compiled once, however long the loop."""
        return jax.lax.scan(step, start, xs, length)


def _products(x: Array, indices: tuple[Array, ...], updates: Array) -> Array:
    """In the shape of `x`, the product of all updates of one place; 1 where there are none.

    JAX has no gradient of its own multiplying scatter where places repeat. Cost: that of sorting.
    """
    leading = x.shape[:len(indices)]
    places = jnp.ravel_multi_index(indices, leading, mode="clip")
    is_inside = reduce(and_, ((index >= 0) & (index < extent)
                              for index, extent in zip(indices, leading, strict=True)))
    flat = jnp.ravel(jnp.where(is_inside, places, prod(leading)))
    rows = jnp.reshape(updates, (flat.size, -1))
    order = jnp.argsort(flat, stable=True)
    flat, rows = flat[order], rows[order]
    differs = flat[1:] != flat[:-1]
    is_first, is_last = jnp.append(True, differs), jnp.append(differs, True)
    _, running = jax.lax.associative_scan(
        lambda a, b: (a[0] | b[0], jnp.where(b[0], b[1], a[1] * b[1])),
        (is_first[:, None], rows))
    ones = jnp.ones((prod(leading), rows.shape[1]), x.dtype)
    whole = ones.at[jnp.where(is_last, flat, prod(leading))].set(running, mode="drop")
    return jnp.reshape(whole, x.shape)
