"""Random draws keyed by (job seed, step, microbatch, node): the same on every executor and cut.

The generator is Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
which maps (key, counter) to random words without any state. We set

    key     = [seed, step]
    counter = [block, microbatch, node index, 1]

where `block` runs over the words of one draw. The last counter word keeps these draws apart from
those of the sample order (`homespun.sampling`), whose counters stay below 2**64. Draws are made on
the host, also for a device, so that they never depend on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, prod

import numpy as np
import numpy.typing as npt

_WORD = 2**64 - 1
_DRAW = 1


@dataclass(frozen=True, slots=True)
class DrawKey:
    """What a draw is keyed by.

    Attributes:
        seed: the job's seed.
        step: optimizer steps done before it, >= 0.
        microbatch: number in the phase, >= 0.
        node: index of the drawing node in the whole graph.
    """

    seed: int
    step: int
    microbatch: int
    node: int


def words(key: DrawKey, count: int) -> npt.NDArray[np.uint32]:
    """The first `count` 32-bit words of the key's stream, low half of each 64-bit word first."""
    generator = np.random.Philox(
        key=np.array([key.seed & _WORD, key.step], dtype=np.uint64),
        counter=np.array([0, key.microbatch, key.node, _DRAW], dtype=np.uint64))
    raw = generator.random_raw((count + 1) // 2)
    return np.asarray(raw).astype("<u8", copy=False).view("<u4")[:count]


def uniform(key: DrawKey, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Numbers in the open interval (0, 1), spaced 2**-32, one word each in row-major order."""
    drawn = words(key, prod(shape)).astype(np.float64)
    scaled: npt.NDArray[np.float64] = ((drawn + 0.5) * 2.0**-32).reshape(shape)
    return scaled


def normal(key: DrawKey, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Standard normal numbers, two words each (Box and Muller 1958)."""
    first, second = uniform(key, (2, prod(shape)))
    drawn: npt.NDArray[np.float64] = np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * pi * second)
    return drawn.reshape(shape)


def keep_mask(key: DrawKey, shape: tuple[int, ...], ratio: float) -> npt.NDArray[np.bool_]:
    """Which elements dropout keeps: each with probability `1 - ratio`, to within 2**-32.

    Args:
        key: of the draw.
        shape: shape of the mask.
        ratio: probability of dropping an element, 0 <= ratio <= 1.

    Returns:
        bool array. Element `i` in row-major order uses the `i`-th word of the stream.
    """
    count = prod(shape)
    threshold = min(round(ratio * 2**32), 2**32 - 1)
    if ratio >= 1.0:
        return np.zeros(shape, dtype=np.bool_)
    return (words(key, count) >= np.uint32(threshold)).reshape(shape)
