"""Tensors in safetensors form: the only way tensors are stored or sent in files.

The library parses and checks the header (no overlaps, no gaps, lengths that match); here only the
element types are mapped, bfloat16 included, which numpy lacks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt

from homespun.errors import Code, HomespunError

Array = npt.NDArray[np.generic]

_DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}

HEADER_BYTES_MAX = 16 * 2**20
"""Longest header accepted: about 100,000 tensors."""


def pack(tensors: Mapping[str, Array]) -> bytes:
    """Serialise named tensors; the same tensors always give the same bytes."""
    import safetensors

    # `views` keeps the memory alive that the specs point to.
    views = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype=view.dtype.name,
            shape=list(np.shape(tensors[name])),
            data_ptr=view.ctypes.data,
            data_len=view.nbytes,
        )
        for name, view in views.items()
    }
    return bytes(safetensors.serialize(specs))


def unpack(data: bytes, source: str) -> dict[str, Array]:
    """Read named tensors.

    Args:
        data: a whole safetensors file.
        source: what it is, for the error message.

    Raises:
        HomespunError: DIGEST_MISMATCH if it is no well-formed safetensors file.
    """
    import safetensors

    try:
        parts = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
        return {
            name: np.frombuffer(part["data"], _DTYPES[part["dtype"]]).reshape(part["shape"])
            for name, part in parts
        }
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise HomespunError(
            Code.DIGEST_MISMATCH, f"{source} is not a readable safetensors file: {error}"
        ) from error


def map_tensor(path: Path, name: str) -> Array:
    """Map one tensor of a file into memory, read-only, without loading it.

    Raises:
        HomespunError: DIGEST_MISMATCH if the file is malformed or lacks the tensor.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > HEADER_BYTES_MAX:
                raise ValueError(f"header of {length} bytes, at most {HEADER_BYTES_MAX}")
            entry = json.loads(file.read(length))[name]
        begin, _ = entry["data_offsets"]
        shape = tuple(entry["shape"])
        if 0 in shape:
            return np.empty(shape, _DTYPES[entry["dtype"]])
        return np.memmap(path, _DTYPES[entry["dtype"]], "r", 8 + length + begin, shape)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise HomespunError(
            Code.DIGEST_MISMATCH, f"tensor {name!r} cannot be read from {path}: {error}"
        ) from error
