"""ONNX tensors to numpy arrays and back, with every length checked before anything is allocated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx

from homespun.errors import Code, HomespunError
from ir.graph import ITEM_BYTES, STORED_FLOATS, TensorType
from ir.limits import CONSTANTS_BYTES, DIMENSION, RANK

Array = npt.NDArray[np.generic]

DTYPES: Mapping[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT64: "uint64",
    onnx.TensorProto.UINT32: "uint32",
    onnx.TensorProto.UINT16: "uint16",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.BOOL: "bool",
    onnx.TensorProto.FLOAT8E4M3FN: "float8_e4m3fn",
    onnx.TensorProto.FLOAT8E5M2: "float8_e5m2",
    onnx.TensorProto.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    onnx.TensorProto.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
    onnx.TensorProto.FLOAT8E8M0: "float8_e8m0fnu",
    onnx.TensorProto.FLOAT4E2M1: "float4_e2m1fn",
    onnx.TensorProto.INT4: "int4",
    onnx.TensorProto.UINT4: "uint4",
    onnx.TensorProto.INT2: "int2",
    onnx.TensorProto.UINT2: "uint2",
}
"""ONNX element type -> our name. Strings and complex numbers are not accepted."""
ELEMENT_TYPES: Mapping[str, int] = {name: number for number, name in DTYPES.items()}

_PACKED_BITS: Mapping[str, int] = {
    "float4_e2m1fn": 4, "int4": 4, "uint4": 4, "int2": 2, "uint2": 2}
"""dtype -> bits per element in a file, where several share a byte, the first in the low bits
(onnx.proto3, `TensorProto.raw_data` and `int32_data`)."""

_TYPED_FIELDS: Mapping[str, str] = {
    "float32": "float_data", "float64": "double_data", "int64": "int64_data",
    "uint32": "uint64_data", "uint64": "uint64_data",
}


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The numpy dtype of one of our dtype names; what numpy lacks comes from `ml_dtypes`."""
    return np.dtype(getattr(ml_dtypes, name, name))


def checked_dtype(element_type: int, where: str) -> str:
    """Our name of an ONNX element type.

    Raises:
        HomespunError: UNSUPPORTED_OP for types that no executor has.
    """
    name = DTYPES.get(element_type)
    if name is None:
        known = onnx.TensorProto.DataType.values()
        shown = onnx.TensorProto.DataType.Name(element_type) if element_type in known else "unknown"
        raise HomespunError(
            Code.UNSUPPORTED_OP,
            f"{where} has element type {shown} ({element_type}); "
            f"accepted are {', '.join(ITEM_BYTES)}.",
            element_type=element_type,
        )
    return name


def checked_shape(extents: Sequence[int], where: str) -> tuple[int, ...]:
    """A shape within the limits.

    Raises:
        HomespunError: LIMIT_EXCEEDED or INVALID_GRAPH.
    """
    if len(extents) > RANK:
        raise HomespunError(
            Code.LIMIT_EXCEEDED, f"{where} has {len(extents)} axes; at most {RANK} are accepted.",
            limit="RANK", had=len(extents), allowed=RANK,
        )
    for extent in extents:
        if not 0 <= extent <= DIMENSION:
            raise HomespunError(
                Code.INVALID_GRAPH if extent < 0 else Code.LIMIT_EXCEEDED,
                f"{where} has an axis of extent {extent}; accepted are 0 to {DIMENSION}.",
                limit="DIMENSION", had=extent, allowed=DIMENSION,
            )
    return tuple(extents)


def decode_tensor(tensor: onnx.TensorProto, where: str, budget_bytes: int) -> Array:
    """The read-only array of an embedded tensor.

    Args:
        tensor: untrusted.
        where: for messages, such as `constant 'x'`.
        budget_bytes: most bytes that the dense tensor may have.

    Raises:
        HomespunError: INVALID_GRAPH, UNSUPPORTED_OP or LIMIT_EXCEEDED.
    """
    if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise _invalid(f"{where} keeps its data in another file; graphs are self-contained.")
    if tensor.HasField("segment"):
        raise _invalid(f"{where} is split into segments.")
    dtype = checked_dtype(tensor.data_type, where)
    shape = checked_shape(tensor.dims, where)
    wanted = prod(shape) * ITEM_BYTES[dtype]
    if wanted > budget_bytes:
        raise HomespunError(
            Code.LIMIT_EXCEEDED,
            f"{where} has {wanted} bytes, which brings all constants over {CONSTANTS_BYTES} bytes. "
            "Make it a parameter or a buffer of the model.",
            limit="CONSTANTS_BYTES", had=wanted, allowed=CONSTANTS_BYTES,
        )
    is_raw, elements = tensor.HasField("raw_data"), prod(shape)
    flat = decode_raw(tensor.raw_data, dtype, elements, where) if is_raw else (
        _typed(tensor, dtype, elements, where))
    array: Array = flat.reshape(shape)
    array.flags.writeable = False
    return array


def raw_bytes(dtype: str, elements: int) -> int:
    """Bytes that a file needs for so many elements: fewer than in memory if it packs them."""
    return -(-elements * _PACKED_BITS.get(dtype, 8 * ITEM_BYTES[dtype]) // 8)


def decode_raw(data: bytes, dtype: str, elements: int, where: str) -> Array:
    """A row of elements from the bytes of a file.

    Raises:
        HomespunError: INVALID_GRAPH if there are more or fewer bytes than the elements need.
    """
    wanted = raw_bytes(dtype, elements)
    if len(data) != wanted:
        raise _invalid(f"{where} should have {wanted} bytes of data, has {len(data)}.")
    if dtype in _PACKED_BITS:
        return _unpacked(np.frombuffer(data, np.uint8), dtype, elements)
    if dtype == "bool":  # A bool that is neither 0 nor 1 would break numpy's own promises.
        return np.asarray(np.frombuffer(data, np.uint8) != 0)
    return np.frombuffer(data, numpy_dtype(dtype))


def _typed(tensor: onnx.TensorProto, dtype: str, elements: int, where: str) -> Array:
    # As a list: numpy checks the range of Python integers, but wraps those of a buffer.
    items = list(getattr(tensor, _TYPED_FIELDS.get(dtype, "int32_data")))
    wanted = raw_bytes(dtype, elements) if dtype in _PACKED_BITS else elements
    if len(items) != wanted:
        raise _invalid(f"{where} should have {wanted} items of data, has {len(items)}.")
    try:
        if dtype in _PACKED_BITS:
            return _unpacked(np.array(items, np.uint8), dtype, elements)
        if dtype in ("float16", "bfloat16"):  # Kept as bit patterns.
            return np.array(items, np.uint16).view(numpy_dtype(dtype))
        if dtype in STORED_FLOATS:
            return np.array(items, np.uint8).view(numpy_dtype(dtype))
        return np.array(items, numpy_dtype(dtype))
    except (OverflowError, ValueError) as error:
        raise _invalid(f"{where} has elements that do not fit {dtype}.") from error


def _unpacked(packed: npt.NDArray[np.uint8], dtype: str, elements: int) -> Array:
    """One element per byte, from bytes that hold several."""
    bits = _PACKED_BITS[dtype]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = ((packed[:, None] >> shifts) & np.uint8(2**bits - 1)).reshape(-1)[:elements]
    if dtype.startswith("int"):  # Two's complement of that many bits.
        signed = codes.astype(np.int8)
        return np.where(signed < 2 ** (bits - 1), signed, signed - 2**bits).astype(
            numpy_dtype(dtype))
    return codes.view(numpy_dtype(dtype)) if dtype in STORED_FLOATS else codes.astype(
        numpy_dtype(dtype))


def _packed(flat: Array, dtype: str) -> bytes:
    """The bytes of a file for a row of elements, several in each byte; the rest is zero."""
    bits = _PACKED_BITS[dtype]
    codes = flat.view(np.uint8) if dtype in STORED_FLOATS else flat.astype(np.int8).view(np.uint8)
    count = 8 // bits
    rows = np.zeros((-(-len(codes) // count), count), np.uint8)
    rows.reshape(-1)[:len(codes)] = codes & np.uint8(2**bits - 1)
    shifted = rows << np.arange(0, 8, bits, dtype=np.uint8)
    return bytes(np.bitwise_or.reduce(shifted, axis=1, dtype=np.uint8).tobytes())


def encode_tensor(array: Array, name: str) -> onnx.TensorProto:
    """An ONNX tensor with raw data. The array's dtype must be one of `ITEM_BYTES`."""
    dense, dtype = np.ascontiguousarray(array).reshape(array.shape), array.dtype.name
    data = _packed(dense.reshape(-1), dtype) if dtype in _PACKED_BITS else dense.tobytes()
    return onnx.TensorProto(
        name=name, dims=dense.shape, data_type=ELEMENT_TYPES[dtype], raw_data=data)


def array_type(array: Array) -> TensorType:
    """Element type and shape of an array."""
    return TensorType(array.dtype.name, tuple(array.shape))


def _invalid(message: str) -> HomespunError:
    return HomespunError(Code.INVALID_GRAPH, message)
