"""Which samples a step trains on: a pure function of (seed, step), the same on every peer.

Each epoch visits every sample once in an order drawn from Philox4x64 (a counter-based generator)
keyed by (seed, epoch). Batches run on across the end of an epoch, so no sample is dropped.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def batch_rows(seed: int, step: int, batch_size: int, rows: int) -> npt.NDArray[np.int64]:
    """Rows of the training split that make up the batch of `step`.

    Args:
        seed: the job's seed, 0 <= seed < 2**64.
        step: number of the optimizer step, from 0.
        batch_size: samples per step, >= 1.
        rows: rows in the split, >= 1.

    Returns:
        int64 array, shape [batch_size]. Microbatch `m` of `M` is the slice
        `[m * batch_size // M : (m + 1) * batch_size // M]`.

    Cost: O(rows) per epoch touched.
    """
    first = step * batch_size
    positions = np.arange(first, first + batch_size, dtype=np.int64)
    epochs = positions // rows
    picked = np.empty(batch_size, dtype=np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        mask = epochs == epoch
        picked[mask] = _epoch_order(seed, epoch, rows)[positions[mask] % rows]
    return picked


def evaluation_rows(microbatch: int, microbatch_size: int) -> npt.NDArray[np.int64]:
    """Rows of the validation split for one microbatch: in order, without shuffling."""
    first = microbatch * microbatch_size
    return np.arange(first, first + microbatch_size, dtype=np.int64)


def evaluation_microbatches(rows: int, microbatch_size: int) -> int:
    """Number of whole microbatches in the validation split; a shorter remainder is left out."""
    return rows // microbatch_size


def inference_rows(
    microbatch: int, microbatch_size: int, rows: int
) -> npt.NDArray[np.int64]:
    """Rows of the split `predict` for one microbatch: in order; beyond the end the last row."""
    return np.minimum(evaluation_rows(microbatch, microbatch_size), rows - 1)


def _epoch_order(seed: int, epoch: int, rows: int) -> npt.NDArray[np.int64]:
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)))
    return generator.permutation(rows).astype(np.int64)
