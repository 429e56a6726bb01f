"""A snapshot on disk: a safetensors file with a segment's state, which says whose it is and when.

It is written under another name and renamed when all of it is on the disk, so that a snapshot is
there as a whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from blake3 import blake3

from homespun.errors import Code, HomespunError
from homespun.tensor_file import TensorFileWriter, map_tensors, metadata_in
from ir.graph import TensorType
from peer.executor.base import Array
from peer.executor.messages import Load
from peer.executor.state import parameter_key, parameter_of

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
    _check(path, owner.metadata(position))
    return map_tensors(path)


def join_snapshots(
    paths: Iterable[Path], parameters: Iterable[str], position: int
) -> dict[str, Array]:
    """Put the state of some parameters together from snapshots of segments that had them.

    Which file is of what was decided by the digests that they were fetched by.

    Args:
        paths: the snapshots.
        parameters: whose state is wanted; the rest of the files is left alone.
        position: of all of them.

    Returns:
        The state by name, mapped, read-only: of a parameter that no file has, nothing.

    Raises:
        HomespunError: INVALID_ARGUMENT if one is of another position, or two have the same;
            DIGEST_MISMATCH if a file is malformed.
        OSError: if one cannot be read.
    """
    wanted = frozenset(parameters)
    state: dict[str, Array] = {}
    for path in paths:
        _check(path, {"position": str(position)})
        own = {name: array for name, array in map_tensors(path).items()
               if parameter_of(name) in wanted}
        twice = sorted(own.keys() & state.keys())
        if twice:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"The snapshot {path} has '{twice[0]}', and so has another one of the same "
                "segment's state. A parameter belongs to one segment.", tensor=twice[0])
        state |= own
    return state


def write_parameters(path: Path, snapshot: Path, position: int) -> None:
    """Write the parameters in a snapshot to a file, under their own names, as a result has them.

    Args:
        path: overwritten if it is there.
        snapshot: of one segment that trains, or has trained.
        position: of the snapshot.

    Raises:
        HomespunError: as `join_snapshots`.
        OSError: what the disk said.

    Cost: copies the parameters once, tensor by tensor.
    """
    _check(snapshot, {"position": str(position)})
    parameters = {parameter_of(name): array for name, array in map_tensors(snapshot).items()
                  if name == parameter_key(parameter_of(name))}
    writer = TensorFileWriter(path, {
        name: TensorType(array.dtype.name, array.shape) for name, array in parameters.items()})
    try:
        for name, array in parameters.items():
            writer.write_whole(name, array)
    finally:
        writer.close()


def _check(path: Path, wanted: Mapping[str, str]) -> None:
    """Refuse a file that says something else of itself."""
    found = metadata_in(path)
    wrong = [key for key, value in wanted.items() if found.get(key) != value]
    if wrong:
        key = wrong[0]
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"The snapshot {path} has {key} {found.get(key, 'unknown')}; expected {key} "
            f"{wanted[key]}. It must not be used here.", field=key)
