"""A pure function, compiled once for one set of shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


class Compiled:
    """A function that XLA compiles on its first use, or earlier when asked; never again.

    Args:
        function: pure, over pytrees of arrays.
        arguments: pytrees of arrays or of `jax.ShapeDtypeStruct`: what it will be called with.
        donated: numbers of the arguments whose memory the results may take over.
    """

    def __init__(
        self, function: Callable[..., Any], *arguments: Any, donated: tuple[int, ...] = ()
    ) -> None:
        self._jitted = jax.jit(function, donate_argnums=donated)
        self._arguments = arguments
        self._lowered: Any = None
        self._results: Any = None
        self._executable: Any = None

    @property
    def results(self) -> Any:
        """Shapes and dtypes of the results, as a pytree; traces the function."""
        if self._results is None:
            self._lowered = self._jitted.lower(*self._arguments)
            self._results = shapes_of(self._lowered.out_info)
        return self._results

    def compile(self) -> None:
        """Compile now, if that has not happened."""
        if self._executable is None:
            assert self.results is not None
            self._executable = self._lowered.compile()
            self._lowered = None

    def __call__(self, *arguments: Any) -> Any:
        """Run it."""
        self.compile()
        return self._executable(*arguments)


def shape_of(array: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an array, to compile with."""
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def shapes_of(tree: Any) -> Any:
    """`shape_of` for each array in a pytree."""
    return jax.tree.map(shape_of, tree)
