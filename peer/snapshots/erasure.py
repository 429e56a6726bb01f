"""Reed-Solomon shards of a file: any `data_shards` different ones give the file back.

Systematic: shard i < k is the i-th of k equal slices of the file, filled up with zeros. Any other
shard s is the sum over i of slice i times 1 / (s + i) in GF(256), a row of a Cauchy matrix: every
square submatrix of one is invertible, so no choice of k shards is worse than another. A shard
depends on the file, on k and on its number, not on how many there are.

A byte times a constant is a look-up. Tables for pairs of bytes (128 KiB each, within a CPU's second
cache) make numpy four times as fast as tables for bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from homespun.errors import Code, HomespunError
from peer.snapshots.record import file_bytes

STRIPE_BYTES = 1 << 18
"""Of each shard that is in memory at a time; even."""
_POLYNOMIAL = 0x11D

Bytes = npt.NDArray[np.uint8]
Pairs = npt.NDArray[np.uint16]


def _product_table() -> Bytes:
    """`table[a, b]`: product in GF(256)."""
    powers, logarithm, value = np.zeros(510, np.uint8), np.zeros(256, np.int64), 1
    for exponent in range(255):
        powers[exponent] = powers[exponent + 255] = value
        logarithm[value] = exponent
        value = value << 1 ^ (_POLYNOMIAL if value & 0x80 else 0)
    table = np.zeros((256, 256), np.uint8)
    table[1:, 1:] = powers[logarithm[1:, None] + logarithm[None, 1:]]
    return table


_PRODUCTS = _product_table()
_INVERSES: Bytes = np.argmax(_PRODUCTS == 1, axis=1).astype(np.uint8)


def write_shard(source: Path, data_shards: int, shard: int, target: Path) -> None:
    """Write one shard of a file.

    Args:
        source: the file.
        data_shards: k, in [1, 255].
        shard: its number, in [0, 255].
        target: overwritten; ceil(size / k) bytes.

    Raises:
        OSError: of the disk.

    Cost: a data shard copies its slice; any other reads the whole file.
    """
    length = file_bytes(source.stat().st_size, data_shards)
    row = _row(shard, data_shards)
    with source.open("rb") as file, target.open("wb") as out:
        for at in range(0, length, STRIPE_BYTES):
            count = min(STRIPE_BYTES, length - at)
            total = np.zeros(STRIPE_BYTES // 2, np.uint16)
            for index in np.flatnonzero(row):
                stripe = _stripe(file, int(index) * length + at, count)
                _add_product(total, int(row[index]), stripe)
            out.write(total.view(np.uint8)[:count].data)


def join_shards(shards: Mapping[int, Path], size_bytes: int, target: Path) -> None:
    """Write the file that shards give. That they belong together is for a digest to tell.

    Args:
        shards: number -> file; as many as there are data shards.
        size_bytes: of the whole file.
        target: overwritten.

    Raises:
        HomespunError: DIGEST_MISMATCH if a shard has another length than it must have.
        OSError: of the disk.
    """
    data_shards, numbers = len(shards), sorted(shards)
    length = file_bytes(size_bytes, data_shards)
    for number in numbers:
        if (found := shards[number].stat().st_size) != length:
            raise HomespunError(
                Code.DIGEST_MISMATCH, f"Shard {number} has {found} bytes, not {length}.")
    rows = _inverse(np.stack([_row(number, data_shards) for number in numbers]))
    with ExitStack() as stack:
        files = [stack.enter_context(shards[number].open("rb")) for number in numbers]
        out = stack.enter_context(target.open("wb"))
        for at in range(0, length, STRIPE_BYTES):
            _join_stripe(files, rows, at, length, size_bytes, out)
        out.truncate(size_bytes)


def _join_stripe(
    files: Sequence[BinaryIO], rows: Bytes, at: int, length: int, size_bytes: int, out: BinaryIO,
) -> None:
    count = min(STRIPE_BYTES, length - at)
    stripes = [_stripe(file, at, count) for file in files]
    for index, row in enumerate(rows):
        begin = index * length + at
        if begin >= size_bytes:
            return
        total = np.zeros(STRIPE_BYTES // 2, np.uint16)
        for used in np.flatnonzero(row):
            _add_product(total, int(row[used]), stripes[used])
        out.seek(begin)
        out.write(total.view(np.uint8)[:min(count, size_bytes - begin)].data)


def _stripe(file: BinaryIO, at: int, count: int) -> Pairs:
    """`count` bytes of a file; zeros after them, and after the file's end."""
    stripe = np.zeros(STRIPE_BYTES, np.uint8)
    file.seek(at)
    data = file.read(count)
    stripe[:len(data)] = np.frombuffer(data, np.uint8)
    return stripe.view(np.uint16)


def _add_product(total: Pairs, factor: int, stripe: Pairs) -> None:
    if factor != 1:
        stripe = np.take(_pair_table(factor), stripe, mode="clip")
    np.bitwise_xor(total, stripe, out=total)


@lru_cache(maxsize=256)
def _pair_table(factor: int) -> Pairs:
    """Products of `factor` with each pair of bytes, whichever of them comes first in memory."""
    single = _PRODUCTS[factor].astype(np.uint16)
    table: Pairs = (single[:, None] << 8 | single[None, :]).ravel()
    return table


def _row(shard: int, data_shards: int) -> Bytes:
    """What of each slice is in a shard."""
    row: Bytes = np.zeros(data_shards, np.uint8)
    if shard < data_shards:
        row[shard] = 1
    else:
        row[:] = _INVERSES[shard ^ np.arange(data_shards)]
    return row


def _inverse(matrix: Bytes) -> Bytes:
    """Inverse of a square matrix over GF(256), by elimination. Cost: cubic in its size."""
    size = len(matrix)
    work = np.concatenate([matrix, np.eye(size, dtype=np.uint8)], axis=1)
    for column in range(size):
        pivot = column + int(np.argmax(work[column:, column] != 0))
        work[[column, pivot]] = work[[pivot, column]]
        work[column] = _PRODUCTS[_INVERSES[work[column, column]], work[column]]
        factors = work[:, column].copy()
        factors[column] = 0
        work ^= _PRODUCTS[factors[:, None], work[column][None, :]]
    return work[:, size:]
