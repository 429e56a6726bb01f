"""A snapshot on disk: a safetensors file with a segment's state, which says whose it is and when.

It is written under another name and renamed when all of it is on the disk, so that a snapshot is
there as a whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from blake3 import blake3

from homespun.errors import Code, HomespunError
from homespun.tensor_file import TensorFileWriter, map_tensors, metadata_in
from ir.graph import TensorType
from peer.executor.base import Array
from peer.executor.messages import Load

PARTIAL_SUFFIX = ".part"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose state a snapshot has.

    Attributes:
        segment: its index.
        program: digest of all that the segment's results follow from, besides data and weights.
    """

    segment: int
    program: str

    def metadata(self, position: int) -> dict[str, str]:
        """What the file says about itself."""
        return {"segment": str(self.segment), "program": self.program, "position": str(position)}


def owner_of(request: Load, graph: bytes) -> Owner:
    """Whose the snapshots of a loaded segment are: the same for all who load this segment."""
    program = (request.segment, request.training, request.trainable, request.kind, request.rows)
    digest = blake3(graph).update(msgspec.json.encode(program)).hexdigest()
    return Owner(segment=request.segment.index, program=digest)


def write_snapshot(
    path: Path, owner: Owner, position: int, tensors: Mapping[str, Array]
) -> int:
    """Write a snapshot; no tensor is copied once more.

    Args:
        path: overwritten if it is there.
        owner: whose it is.
        position: when it was.
        tensors: the state.

    Returns:
        Size of the file in bytes.

    Raises:
        OSError: what the disk said; nothing is left of the file.
    """
    types = {name: TensorType(array.dtype.name, array.shape) for name, array in tensors.items()}
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        writer = TensorFileWriter(partial, types, owner.metadata(position))
        try:
            for name, array in tensors.items():
                writer.write_whole(name, array)
            writer.sync()
        finally:
            writer.close()
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return path.stat().st_size


def read_snapshot(path: Path, owner: Owner, position: int) -> dict[str, Array]:
    """Map a snapshot into memory, read-only.

    Raises:
        HomespunError: INVALID_ARGUMENT if it is another's, or of another position;
            DIGEST_MISMATCH if the file is malformed.
        OSError: if it cannot be read.
    """
    wanted, found = owner.metadata(position), metadata_in(path)
    wrong = [key for key, value in wanted.items() if found.get(key) != value]
    if wrong:
        key = wrong[0]
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"The snapshot {path} has {key} {found.get(key, 'unknown')}; expected {key} "
            f"{wanted[key]}. It must not be used here.", field=key)
    return map_tensors(path)
