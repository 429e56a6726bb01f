"""Tensors in safetensors form: the only way tensors are stored or sent in files.

The library parses and checks the header (no overlaps, no gaps, lengths that match); here only the
element types are mapped, bfloat16 included, which numpy lacks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from homespun.errors import Code, HomespunError
from ir.graph import ITEM_BYTES, TensorType

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

_NAMES: Mapping[str, str] = {dtype.name: name for name, dtype in _DTYPES.items()}

_METADATA = "__metadata__"

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
        header, length = _read_header(path)
        entry = header[name]
        begin, _ = entry["data_offsets"]
        shape = tuple(entry["shape"])
        if 0 in shape:
            return np.empty(shape, _DTYPES[entry["dtype"]])
        return np.memmap(path, _DTYPES[entry["dtype"]], "r", 8 + length + begin, shape)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise HomespunError(
            Code.DIGEST_MISMATCH, f"tensor {name!r} cannot be read from {path}: {error}"
        ) from error


def map_tensors(path: Path) -> dict[str, Array]:
    """Map all tensors of a file into memory at once, read-only, without loading them.

    Raises:
        HomespunError: DIGEST_MISMATCH if the file is malformed.
    """
    try:
        header, length = _read_header(path)
        data: Array = np.memmap(path, np.uint8, "r")[8 + length:]
        return {name: _slice(data, entry) for name, entry in header.items() if name != _METADATA}
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _slice(data: Array, entry: Mapping[str, Any]) -> Array:
    """One tensor of the data part of a file; ValueError if it is not inside."""
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(data):
        raise ValueError(f"data at {begin} to {end} of {len(data)} bytes")
    return data[begin:end].view(_DTYPES[entry["dtype"]]).reshape(tuple(entry["shape"]))


def names_in(path: Path) -> tuple[str, ...]:
    """Names of the tensors in a file.

    Raises:
        HomespunError: DIGEST_MISMATCH if its header is malformed.
    """
    return tuple(name for name in _readable_header(path) if name != _METADATA)


def metadata_in(path: Path) -> dict[str, str]:
    """What a file says about itself as a whole; empty if it says nothing.

    Raises:
        HomespunError: DIGEST_MISMATCH if its header is malformed.
    """
    metadata = _readable_header(path).get(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _unreadable(path, ValueError("its metadata is not text by name"))
    return metadata


class TensorFileWriter:
    """Writes a safetensors file piece by piece, so that no whole tensor need be in memory.

    Types are known from the start, so each tensor has its place, and rows may come in any order.
    What is never written is zero. The same tensors always give the same bytes.
    """

    def __init__(
        self, path: Path, types: Mapping[str, TensorType],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Create the file at its full size (sparse where the file system can).

        Args:
            path: overwritten if it is there.
            types: of the tensors, by name.
            metadata: what the file says about itself as a whole, see `metadata_in`.
        """
        self._types = dict(types)
        self._begins: dict[str, int] = {}
        header: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
        end = 0
        # The largest elements first: then every tensor is aligned to its own element's size.
        for name in sorted(types, key=lambda name: (-ITEM_BYTES[types[name].dtype], name)):
            type_, begin = types[name], end
            end += type_.size_bytes
            self._begins[name] = begin
            header[name] = {
                "dtype": _NAMES[type_.dtype], "shape": type_.shape, "data_offsets": (begin, end)}
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._data = 8 + len(text)
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.truncate(self._data + end)

    def write(self, name: str, first: int, rows: Array) -> None:
        """Write rows (entries along axis 0) of a tensor, from row `first` on."""
        type_ = self._types[name]
        expected = (type_.dtype, type_.shape[1:])
        if (rows.dtype.name, rows.shape[1:]) != expected or first + len(rows) > type_.shape[0]:
            raise HomespunError(
                Code.INTERNAL,
                f"{rows.dtype.name}{list(rows.shape)} does not fit into {name!r}, {type_.dtype}"
                f"{list(type_.shape)}, at row {first}.")
        row_bytes = type_.size_bytes // type_.shape[0] if type_.shape[0] else 0
        self._put(self._begins[name] + first * row_bytes, rows)

    def write_whole(self, name: str, array: Array) -> None:
        """Write a tensor at once, a scalar too; no copy is made where it is C-contiguous."""
        type_ = self._types[name]
        if TensorType(array.dtype.name, array.shape) != type_:
            raise HomespunError(
                Code.INTERNAL,
                f"{array.dtype.name}{list(array.shape)} is no {name!r}, {type_.dtype}"
                f"{list(type_.shape)}.")
        self._put(self._begins[name], array)

    def flush(self) -> None:
        """Let those who read the file see what was written so far."""
        self._file.flush()

    def sync(self) -> None:
        """Wait until what was written so far is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _put(self, begin: int, array: Array) -> None:
        self._file.seek(self._data + begin)
        self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _readable_header(path: Path) -> dict[str, Any]:
    try:
        header, _ = _read_header(path)
        return header
    except (TypeError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> HomespunError:
    return HomespunError(
        Code.DIGEST_MISMATCH, f"{path} is not a readable safetensors file: {error}")


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a file and its length in bytes; ValueError if it is malformed."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > HEADER_BYTES_MAX:
            raise ValueError(f"header of {length} bytes, at most {HEADER_BYTES_MAX}")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("the header is no object")
    return header, length
