"""Global gradient-norm clipping over segments: the lead adds the norms, in one order for any cut.

The norm is that of `torch.nn.utils.clip_grad_norm_`: the root of the sum over parameters of squared
norms; the factor is `min(1, clip / (norm + 1e-6))`. Parameters are added in the job's order with an
exact sum (`math.fsum`), so the factor does not depend on which segment held which parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import fsum, isfinite, nan, sqrt

SquaredNorms = tuple[tuple[str, float], ...]

CLIP_EPSILON = 1e-6


def problem_with_norms(squared_norms: SquaredNorms) -> str:
    """What no segment may tell others of its gradients; "" for nothing."""
    return next(
        (f"the squared norm of the gradient of {name[:200]!r} is {norm}"
         for name, norm in squared_norms if not (isfinite(norm) and norm >= 0)), "")


def gradient_scale(squared_norms: Mapping[str, float], clip_norm: float) -> float:
    """Factor on every gradient of a step.

    Args:
        squared_norms: of every trainable parameter of the job; finite, >= 0.
        clip_norm: largest global norm, > 0.

    Returns:
        A factor in [0, 1]; NaN when the sum of the norms is not finite.
    """
    try:
        total = fsum(squared_norms.values())
    except OverflowError:
        return nan
    return min(1.0, clip_norm / (sqrt(total) + CLIP_EPSILON))


@dataclass(slots=True)
class NormGathering:
    """The lead's collection of norms, by step and segment."""

    segments: int
    by_step: dict[int, dict[int, SquaredNorms]] = field(default_factory=dict)

    def has(self, step: int, source: int) -> bool:
        """Whether a segment's norms of a step are in."""
        return source in self.by_step.get(step, {})

    def missing(self, step: int) -> int | None:
        """First segment whose norms of a step are not in; None when none of that step are."""
        gathered = self.by_step.get(step)
        if gathered is None:
            return None
        return next(index for index in range(self.segments) if index not in gathered)

    def add(self, step: int, source: int, norms: SquaredNorms) -> dict[str, float] | None:
        """Add one segment's norms; when all segments' are in, return them by parameter."""
        gathered = self.by_step.setdefault(step, {})
        gathered[source] = norms
        if len(gathered) < self.segments:
            return None
        del self.by_step[step]
        return {name: norm for index in sorted(gathered) for name, norm in gathered[index]}
