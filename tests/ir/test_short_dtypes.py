"""Elements of fewer than 8 bits in files, against the `onnx` package, and hostile ones."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from homespun.errors import Code, HomespunError
from ir.graph import FLOATS, ITEM_BYTES, STORED_FLOATS, STORED_INTEGERS
from ir.tensor_proto import ELEMENT_TYPES, decode_tensor, encode_tensor, numpy_dtype, raw_bytes

SHORT = sorted(STORED_FLOATS | STORED_INTEGERS)
PACKED = {"float4_e2m1fn": 4, "int4": 4, "uint4": 4, "int2": 2, "uint2": 2}


def every_code(dtype, count):
    """An array of `count` elements that runs through all bit patterns of the dtype."""
    bits = PACKED.get(dtype, 8)
    codes = np.arange(count, dtype=np.int64) % 2**bits
    if dtype in STORED_FLOATS:
        return codes.astype(np.uint8).view(numpy_dtype(dtype))
    return (codes - (2 ** (bits - 1) if dtype.startswith("int") else 0)).astype(numpy_dtype(dtype))


@pytest.mark.parametrize("dtype", SHORT)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 257])
def test_tensors_agree_with_onnx(dtype, count):
    array = every_code(dtype, count)
    ours = encode_tensor(array, "x")
    assert ours.raw_data == numpy_helper.from_array(array).raw_data
    assert len(ours.raw_data) == raw_bytes(dtype, count)
    for proto in (ours, numpy_helper.from_array(array)):
        found = decode_tensor(proto, "x", 1000)
        assert found.dtype == array.dtype
        assert found.nbytes == count * ITEM_BYTES[dtype]
        np.testing.assert_array_equal(found.view(np.uint8), array.view(np.uint8))


@pytest.mark.parametrize("dtype", SHORT)
def test_the_field_of_numbers_is_read_like_the_raw_one(dtype):
    array = every_code(dtype, 7)
    packed = np.frombuffer(encode_tensor(array, "x").raw_data, np.uint8)
    proto = onnx.TensorProto(
        dims=[7], data_type=ELEMENT_TYPES[dtype], int32_data=packed.astype(int).tolist())
    np.testing.assert_array_equal(
        decode_tensor(proto, "x", 1000).view(np.uint8), array.view(np.uint8))


@pytest.mark.parametrize("dtype", SHORT)
@pytest.mark.parametrize("field", ["raw_data", "int32_data"])
@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_lengths_are_refused(dtype, field, change):
    count = raw_bytes(dtype, 9) + change
    data = bytes(count) if field == "raw_data" else [0] * count
    proto = onnx.TensorProto(dims=[9], data_type=ELEMENT_TYPES[dtype], **{field: data})
    with pytest.raises(HomespunError, match="should have") as caught:
        decode_tensor(proto, "x", 1000)
    assert caught.value.code == Code.INVALID_GRAPH


def test_a_budget_counts_bytes_in_memory():
    proto = onnx.TensorProto(dims=[100], data_type=ELEMENT_TYPES["int2"], raw_data=bytes(25))
    with pytest.raises(HomespunError) as caught:
        decode_tensor(proto, "x", 99)
    assert caught.value.code == Code.LIMIT_EXCEEDED


def test_no_gradient_passes_through_short_floats():
    assert STORED_FLOATS.isdisjoint(FLOATS)
