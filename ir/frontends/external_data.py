"""Read tensors that an ONNX file keeps in files beside it. Only on the submitter's machine."""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx

from homespun.errors import Code, HomespunError
from ir.graph import ITEM_BYTES
from ir.tensor_proto import (
    Array,
    checked_dtype,
    checked_shape,
    decode_raw,
    decode_tensor,
    raw_bytes,
)


def read_tensor(tensor: onnx.TensorProto, folder: Path | None) -> Array:
    """The array of a tensor, wherever its bytes are.

    Args:
        tensor: of a file that somebody else may have written.
        folder: where the model lies; None if it came as bytes and has no folder.

    Raises:
        HomespunError: INVALID_GRAPH for a file outside `folder`, missing or too short, or for
            contradicting sizes; UNSUPPORTED_OP for element types that no executor has.
    """
    where = f"Initializer {tensor.name[:80]!r}"
    dtype = checked_dtype(tensor.data_type, where)
    shape = checked_shape(tensor.dims, where)
    elements = prod(shape)
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return decode_tensor(tensor, where, elements * ITEM_BYTES[dtype])
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _inside(entries.get("location", ""), folder, where)
    data = _slice(path, entries, raw_bytes(dtype, elements), where)
    return decode_raw(data, dtype, elements, where).reshape(shape)


def _inside(location: str, folder: Path | None, where: str) -> Path:
    """The file that a tensor names, if it really lies in the model's folder."""
    if folder is None:
        raise _invalid(f"{where} is in another file ({location[:80]!r}), but the model came as "
                       "bytes; give the path of the model instead.")
    root = folder.resolve()
    try:
        path = (root / location).resolve()  # Follows links: what counts is where the bytes are.
    except (OSError, ValueError) as error:
        raise _invalid(f"{where} names the file {location[:80]!r}: {error}.") from error
    if not path.is_relative_to(root):
        raise _invalid(f"{where} names the file {location[:80]!r}, outside the model's folder.")
    if not path.is_file():
        raise _invalid(f"{where} names the file {location[:80]!r}, which is not there.")
    return path


def _slice(path: Path, entries: dict[str, str], wanted: int, where: str) -> bytes:
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(wanted)))
    except ValueError as error:
        raise _invalid(f"{where} has an offset or length that is no number.") from error
    size = path.stat().st_size
    if offset < 0 or length != wanted or offset + wanted > size:
        raise _invalid(f"{where} needs {wanted} bytes at offset {offset} of {path.name!r} (length "
                       f"{length}), which has {size}.")
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(wanted)


def _invalid(message: str) -> HomespunError:
    return HomespunError(Code.INVALID_GRAPH, message)
