"""Random draws: keyed, uniform, independent of each other."""

from itertools import product

import numpy as np
import pytest

from ir.semantics.draws import DrawKey, keep_mask, normal, uniform


def mask(seed=1, step=0, microbatch=0, node=0, shape=(1000,), ratio=0.5):
    return keep_mask(DrawKey(seed, step, microbatch, node), shape, ratio)


def test_same_key_same_mask():
    assert np.array_equal(mask(shape=(10, 100)).ravel(), mask(shape=(1000,)))


def test_longer_mask_begins_with_shorter():
    assert np.array_equal(mask(shape=(2001,))[:999], mask(shape=(999,)))


def test_golden_mask():
    """A change of the generator would break replay between versions."""
    kept = mask(seed=2**64 - 1, step=3, microbatch=2, node=5, shape=(16,))
    assert "".join("01"[int(bit)] for bit in kept) == "1101001010101110"


def test_keys_give_different_masks():
    masks = {mask(*key).tobytes() for key in product(range(3), repeat=4)}
    assert len(masks) == 81


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_share_of_kept(ratio):
    kept = mask(shape=(100_000,), ratio=ratio).mean()
    assert abs(kept - (1 - ratio)) < 0.01


def test_neighbouring_nodes_are_uncorrelated():
    first, second = (mask(node=node, shape=(100_000,)) for node in (7, 8))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


def test_uniform_and_normal_have_their_moments():
    key = DrawKey(3, 0, 0, 1)
    flat, bell = uniform(key, (200_000,)), normal(key, (200_000,))
    assert 0 < flat.min() < flat.max() < 1
    assert abs(flat.mean() - 0.5) < 0.005
    assert abs(flat.var() - 1 / 12) < 0.005
    assert abs(bell.mean()) < 0.01
    assert abs(bell.var() - 1) < 0.02
