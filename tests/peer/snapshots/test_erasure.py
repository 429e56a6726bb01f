"""Any k shards give the file: random sizes, random losses, and the algebra behind it."""

import itertools
import random

import numpy as np
import pytest

from homespun.errors import Code, HomespunError
from peer.snapshots import erasure
from peer.snapshots.erasure import STRIPE_BYTES, join_shards, write_shard

SEEDS = range(12)


def shards_of(folder, data, data_shards, numbers):
    source = folder / "source"
    source.write_bytes(data)
    made = {}
    for number in numbers:
        made[number] = folder / f"shard-{number}"
        write_shard(source, data_shards, number, made[number])
    return made


def joined(folder, shards, size):
    join_shards(shards, size, folder / "joined")
    return (folder / "joined").read_bytes()


@pytest.mark.parametrize(("data_shards", "parity"), [(1, 2), (2, 1), (2, 2), (3, 2), (4, 2)])
@pytest.mark.parametrize("size", [0, 1, 2, 5, 1_000, 4_099])
def test_every_choice_of_shards_gives_the_file(tmp_path, data_shards, parity, size):
    data = random.Random(size).randbytes(size)
    shards = shards_of(tmp_path, data, data_shards, range(data_shards + parity))
    assert {path.stat().st_size for path in shards.values()} == {-(-size // data_shards)}
    for chosen in itertools.combinations(shards, data_shards):
        assert joined(tmp_path, {number: shards[number] for number in chosen}, size) == data


@pytest.mark.parametrize("seed", SEEDS)
def test_random_files_survive_random_losses(tmp_path, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    data_shards, size = rng.randint(1, 12), rng.choice([
        rng.randrange(100), rng.randrange(STRIPE_BYTES * 3), STRIPE_BYTES, 2 * STRIPE_BYTES + 1])
    data = rng.randbytes(size)
    numbers = rng.sample(range(256), data_shards)
    assert joined(tmp_path, shards_of(tmp_path, data, data_shards, numbers), size) == data


def test_data_shards_are_slices_of_the_file(tmp_path):
    data = bytes(range(1, 11))
    shards = shards_of(tmp_path, data, 4, range(4))
    assert b"".join(shards[number].read_bytes() for number in range(4)) == data + bytes(2)


def test_too_few_or_damaged_shards_do_not_give_the_file(tmp_path):
    data = random.Random(3).randbytes(900)
    shards = shards_of(tmp_path, data, 3, (1, 2, 4))
    shards[4].write_bytes(bytes(300))
    assert joined(tmp_path, shards, 900) != data
    shards[4].write_bytes(b"short")
    with pytest.raises(HomespunError) as caught:
        join_shards(shards, 900, tmp_path / "joined")
    assert caught.value.code is Code.DIGEST_MISMATCH


def test_products_are_those_of_a_field():
    """Against multiplication bit by bit, which shares nothing with the tables."""
    def product(a, b):
        total = 0
        while b:
            total ^= a if b & 1 else 0
            a = a << 1 ^ (0x11D if a & 0x80 else 0)
            b >>= 1
        return total

    rng = random.Random(5)
    for _ in range(2_000):
        a, b = rng.randrange(256), rng.randrange(256)
        assert erasure._PRODUCTS[a, b] == product(a, b)
    for a in range(1, 256):
        assert erasure._PRODUCTS[a, erasure._INVERSES[a]] == 1


def test_the_inverse_of_a_matrix_undoes_it():
    numbers = [7, 200, 3, 90, 11]
    matrix = np.stack([erasure._row(number, 5) for number in numbers])
    inverse = erasure._inverse(matrix)
    product = np.bitwise_xor.reduce(
        erasure._PRODUCTS[matrix[:, :, None], inverse[None, :, :]], axis=1)
    assert (product == np.eye(5)).all()
