"""Random draws keyed by (job seed, step, microbatch, node), the same on every cut and device.

The generator is Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
which maps (key, counter) to random words without any state. We set

    key     = [seed, step]
    counter = [block, microbatch, node index, 1]

where `block` runs over the words of one draw. The last counter word keeps these draws apart from
those of the sample order (`homespun.sampling`), whose counters stay below 2**64. Draws are made on
the CPU, also for a CUDA device, so that a mask never depends on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from peer.executor.torch_executor.deferred import WeightGradient

_WORD = 2**64 - 1
_DRAW = 1


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


def keep_mask(state: RunState, node: int, shape: tuple[int, ...], ratio: float) -> Tensor:
    """Which elements dropout keeps: each with probability `1 - ratio`, to within 2**-32.

    Args:
        state: seed, step and microbatch of the draw.
        node: index of the drawing node in the whole graph.
        shape: shape of the mask.
        ratio: probability of dropping an element, 0 <= ratio <= 1.

    Returns:
        bool tensor on the CPU. Element `i` in row-major order uses the `i`-th 32-bit word of the
        stream, low half of each 64-bit word first.
    """
    count = prod(shape)
    generator = np.random.Philox(
        key=np.array([state.seed & _WORD, state.step], dtype=np.uint64),
        counter=np.array([0, state.microbatch, node, _DRAW], dtype=np.uint64))
    words = generator.random_raw((count + 1) // 2).astype("<u8", copy=False).view("<u4")[:count]
    threshold = min(round(ratio * 2**32), 2**32 - 1)
    kept = words >= np.uint32(threshold) if ratio < 1.0 else np.zeros(count, dtype=np.bool_)
    return torch.from_numpy(kept.reshape(shape))
