"""ONNX tensors to numpy arrays and back, with every length checked before anything is allocated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx

from homespun.errors import Code, HomespunError
from ir.graph import ITEM_BYTES, TensorType
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
}
"""ONNX element type -> our name. Strings, complex numbers and packed types are not accepted."""
ELEMENT_TYPES: Mapping[str, int] = {name: number for number, name in DTYPES.items()}

_TYPED_FIELDS: Mapping[str, str] = {
    "float32": "float_data", "float64": "double_data", "int64": "int64_data",
    "uint32": "uint64_data", "uint64": "uint64_data",
}


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The numpy dtype of one of our dtype names; bfloat16 comes from `ml_dtypes`."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


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
    flat = _raw(tensor, dtype, wanted, where) if tensor.HasField("raw_data") else (
        _typed(tensor, dtype, prod(shape), where))
    array: Array = flat.reshape(shape)
    array.flags.writeable = False
    return array


def _raw(tensor: onnx.TensorProto, dtype: str, wanted: int, where: str) -> Array:
    if len(tensor.raw_data) != wanted:
        raise _invalid(f"{where} should have {wanted} bytes of data, has {len(tensor.raw_data)}.")
    if dtype == "bool":  # A bool that is neither 0 nor 1 would break numpy's own promises.
        return np.asarray(np.frombuffer(tensor.raw_data, np.uint8) != 0)
    return np.frombuffer(tensor.raw_data, numpy_dtype(dtype))


def _typed(tensor: onnx.TensorProto, dtype: str, elements: int, where: str) -> Array:
    # As a list: numpy checks the range of Python integers, but wraps those of a buffer.
    items = list(getattr(tensor, _TYPED_FIELDS.get(dtype, "int32_data")))
    if len(items) != elements:
        raise _invalid(f"{where} should have {elements} elements, has {len(items)}.")
    try:
        if dtype in ("float16", "bfloat16"):  # Kept as bit patterns.
            return np.array(items, np.uint16).view(numpy_dtype(dtype))
        return np.array(items, numpy_dtype(dtype))
    except (OverflowError, ValueError) as error:
        raise _invalid(f"{where} has elements that do not fit {dtype}.") from error


def encode_tensor(array: Array, name: str) -> onnx.TensorProto:
    """An ONNX tensor with raw data. The array's dtype must be one of `ITEM_BYTES`."""
    packed = np.ascontiguousarray(array).reshape(array.shape)
    return onnx.TensorProto(
        name=name,
        dims=packed.shape,
        data_type=ELEMENT_TYPES[packed.dtype.name],
        raw_data=packed.tobytes(),
    )


def array_type(array: Array) -> TensorType:
    """Element type and shape of an array."""
    return TensorType(array.dtype.name, tuple(array.shape))


def _invalid(message: str) -> HomespunError:
    return HomespunError(Code.INVALID_GRAPH, message)
