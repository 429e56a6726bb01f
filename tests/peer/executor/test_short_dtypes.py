"""Conversion to floats that are only stored, against `ml_dtypes` and the `onnx` package."""

import ml_dtypes
import numpy as np
import pytest
import torch
from onnx import numpy_helper

from ir.graph import STORED_FLOATS, STORED_INTEGERS
from ir.semantics.conversion import convert
from ir.tensor_proto import numpy_dtype
from peer.executor.torch_executor.backend import TorchBackend
from peer.executor.torch_executor.tensors import to_numpy, to_torch

CPU = torch.device("cpu")


def numbers():
    """Signs, infinities, ties between neighbours, numbers around every power of two."""
    draws = np.random.default_rng(7)
    powers = np.exp2(np.arange(-140, 128, dtype=np.float64))
    around = np.concatenate([powers * f for f in (1, 1.0625, 1.125, 1.1875, 1.25, 1.5, 1.75, 1.9)])
    values = np.concatenate([
        around, draws.standard_normal(4000) * 100, [0.0, np.inf, np.nan, 448, 464, 465, 6, 7.5]])
    return np.concatenate([values, -values]).astype(np.float32)


def converted(values, dtype, **options):
    result = convert(TorchBackend(CPU), to_torch(values, CPU), values.dtype.name, dtype, **options)
    return to_numpy(result, dtype)


@pytest.mark.parametrize("dtype", sorted(STORED_FLOATS - {"float8_e8m0fnu"}))
@pytest.mark.parametrize("saturate", [False, True])
def test_rounding_is_that_of_ml_dtypes(dtype, saturate):
    values, target = numbers(), numpy_dtype(dtype)
    limits = ml_dtypes.finfo(target)
    with np.errstate(invalid="ignore"):
        wanted = (np.clip(values, limits.min, limits.max) if saturate else values).astype(target)
    found = converted(values, dtype, saturate=saturate)
    np.testing.assert_array_equal(found.astype(np.float32), wanted.astype(np.float32))
    # The sign of a NaN means nothing, that of a zero does.
    signs = [np.signbit(a.astype(np.float32))[np.isfinite(wanted.astype(np.float32)) & np.isfinite(
        values)] for a in (found, wanted)]
    np.testing.assert_array_equal(*signs)


@pytest.mark.parametrize("rounding", ["up", "down", "nearest"])
@pytest.mark.parametrize("saturate", [False, True])
def test_powers_of_two_are_those_of_onnx(rounding, saturate):
    values = numbers()
    wanted = numpy_helper.to_float8e8m0(values, saturate, rounding)
    found = converted(values, "float8_e8m0fnu", saturate=saturate, rounding=rounding)
    np.testing.assert_array_equal(found.astype(np.float32), wanted.astype(np.float32))


@pytest.mark.parametrize("dtype", sorted(STORED_INTEGERS))
def test_integers_lose_their_high_bits(dtype):
    values = np.arange(-300, 300, dtype=np.int32)
    np.testing.assert_array_equal(
        converted(values, dtype).astype(int), values.astype(numpy_dtype(dtype)).astype(int))


@pytest.mark.parametrize("dtype", sorted(STORED_FLOATS | STORED_INTEGERS))
def test_values_come_back_from_torch_unchanged(dtype):
    values = converted(numbers()[:500], dtype)
    back = to_numpy(to_torch(values, CPU), dtype)
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back.view(np.uint8), values.view(np.uint8))
