"""JAX as a backend of `ir.semantics`, for use inside a traced function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        target = jnp.asarray(x).at[indices]
        write = {"none": target.set, "add": target.add, "mul": target.multiply,
                 "min": target.min, "max": target.max}
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
