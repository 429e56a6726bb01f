"""Einsum equations: index letters, their extents, and the shape of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_EQUATION = 512
"""Characters; 52 letters exist, so a longer equation says nothing new."""


@dataclass(frozen=True, slots=True)
class EinsumShape:
    """What an equation means for given shapes.

    Attributes:
        extents: index -> extent; the axes of an ellipsis are `...0`, `...1`, from the left.
        result: indices of the output, in order.
    """

    extents: Mapping[str, int]
    result: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(self.extents[index] for index in self.result)


def parse_einsum(equation: str, shapes: Sequence[tuple[int, ...]]) -> EinsumShape:
    """Read an equation against the shapes of its operands.

    Letters a-z and A-Z, one `...` per term, explicit or implicit output (letters that appear once,
    alphabetically, after the ellipsis). Axes of an ellipsis broadcast, as does extent 1.

    Raises:
        ValueError: if the equation is malformed or contradicts the shapes.
    """
    if len(equation) > MAX_EQUATION:
        raise ValueError(f"equation of {len(equation)} characters; the limit is {MAX_EQUATION}")
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"equation '{equation}' has {len(terms)} terms for {len(shapes)} inputs")
    dotted = max(
        (len(shape) - len(term) + 3 for term, shape in zip(terms, shapes, strict=True)
         if "..." in term), default=0)
    extents: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        own = len(shape) - len(term) + 3 if "..." in term else 0
        indices = _indices(term, dotted, own)
        if len(indices) != len(shape):
            raise ValueError(f"term '{term}' does not fit shape {shape}")
        for index, extent in zip(indices, shape, strict=True):
            known = extents.setdefault(index, extent)
            if known == 1:
                extents[index] = extent
            elif extent not in (1, known):
                raise ValueError(f"index '{index}' has extents {known} and {extent}")
    result = _indices(right, dotted, dotted) if arrow else _implicit(left, dotted)
    if len(set(result)) != len(result) or not set(result) <= set(extents):
        raise ValueError(f"output '{right}' of '{equation}' repeats or invents an index")
    return EinsumShape(extents, result)


def _indices(term: str, dotted: int, own: int) -> tuple[str, ...]:
    """Indices of a term; `own` axes of its ellipsis, aligned to the right among `dotted`."""
    before, dots, after = term.partition("...")
    letters = before + after
    if letters and not (letters.isascii() and letters.isalpha()):
        raise ValueError(f"term '{term}' has characters that are no letters")
    middle = tuple(f"...{place}" for place in range(dotted - own, dotted)) if dots else ()
    return (*before, *middle, *after)


def _implicit(left: str, dotted: int) -> tuple[str, ...]:
    letters = left.replace(",", "").replace(".", "")
    once = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
    return (*(f"...{place}" for place in range(dotted)), *once)
