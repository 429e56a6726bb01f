"""Which microbatch is running, for the runners of random operators and of weight products."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ir.semantics.draws import DrawKey

if TYPE_CHECKING:
    from peer.executor.torch_executor.deferred import WeightGradient


@dataclass(slots=True)
class RunState:
    """Which microbatch is running; the runners of random operators and weight products use it.

    Attributes:
        seed: the job's seed.
        training: False while evaluating: dropout is off.
        step: optimizer steps done before it.
        microbatch: number in the phase.
        deferred: weight gradients that the running backward leaves for later, in its order.
    """

    seed: int
    training: bool = False
    step: int = 0
    microbatch: int = 0
    deferred: list[WeightGradient] = field(default_factory=list)

    def key(self, node: int) -> DrawKey:
        """What a node's draw is keyed by now."""
        return DrawKey(self.seed, self.step, self.microbatch, node)
