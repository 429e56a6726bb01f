"""What a job made, in one safetensors file: parameters under their original names, or outputs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dag.job import ParameterRef
from homespun.blobs.store import BlobStore
from homespun.blobs.transfer import download
from homespun.cli.output import printable
from homespun.errors import Code, HomespunError
from homespun.paths import cache_directory
from homespun.tensor_file import (
    Array,
    TensorFileWriter,
    map_tensor,
    names_in,
    pack,
    unpack,
)
from homespun.units import format_size
from homespun.v1 import jobs_pb2
from homespun.wire import from_message
from ir.graph import INFER, TRAIN, TensorType

if TYPE_CHECKING:
    from homespun.connection import Connection


COPY_BYTES = 1 << 24
"""Of a tensor, how much is copied at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result:
    """The trained parameters of a job, or what it predicted.

    Attributes:
        job_id: the job.
        path: a safetensors file with every tensor of the model's `state_dict` under each of its
            names (a tied weight is written once per name, so that any tool loads it strictly); of
            an inference job, with every output of the model.
        aliases: other name -> first name of the tensor that it shares.
        kind: of the job: `train` or `infer`.
        step: of a partial result, how many updates its parameters have had; None for a whole one.
    """

    job_id: str
    path: Path
    aliases: Mapping[str, str]
    kind: str = TRAIN
    step: int | None = None

    def __repr__(self) -> str:
        return printable(f"Result({self.job_id}: {self._told()})")

    def _repr_html_(self) -> str:
        from homespun import markup

        return markup.card(f"Result of {self.job_id}", markup.line(self._told()))

    def _told(self) -> str:
        what = "outputs" if self.kind == INFER else "trained parameters"
        if self.step is not None:
            what = f"parameters of step {self.step}"
        if not self.path.is_file():
            return f"{what} were in {self.path}, which is gone"
        return f"{what} in {self.path}, {format_size(self.path.stat().st_size)}"

    def outputs(self) -> dict[str, Array]:
        """The outputs of an inference job; see `Job.outputs`.

        Raises:
            HomespunError: CONFLICT for a training job.
        """
        self._check_kind(INFER, "state_dict()")
        found = unpack(self.path.read_bytes(), str(self.path))
        return {name: found[name] for name in sorted(found, key=lambda name: (len(name), name))}

    def state_dict(self) -> dict[str, Any]:
        """Torch tensors for `model.load_state_dict`; names of one tied weight share one tensor.

        Raises:
            HomespunError: CONFLICT for an inference job.
        """
        self._check_kind(TRAIN, "outputs()")
        from safetensors.torch import load_file

        state: dict[str, Any] = load_file(self.path)
        for alias, name in self.aliases.items():
            state[alias] = state[name]
        return state

    def _check_kind(self, kind: str, other: str) -> None:
        if self.kind != kind:
            raise HomespunError(
                Code.CONFLICT,
                f"Job {self.job_id} is of the kind {self.kind!r}; its result is {other}.")


def result_path(path: Path | str | None, job_id: str) -> Path:
    """The file that a result is written to: `path`, or `<job id>.safetensors` in a directory."""
    chosen = Path.cwd() if path is None else Path(path)
    is_directory = chosen.is_dir() or (path is not None and str(path).endswith(("/", os.sep)))
    return chosen / f"{job_id}.safetensors" if is_directory else chosen


def fetch_result(
    connection: Connection, job_id: str, path: Path, *, partial: bool = False
) -> Result:
    """Download the parts of a result, check that they are the whole model, and write one file.

    Args:
        connection: to the broker.
        job_id: whose result.
        path: of the file.
        partial: the job has no result; fetch what it leaves.

    Raises:
        HomespunError: as `Job.result`; DIGEST_MISMATCH when the parts do not make up the model.
    """
    request = jobs_pb2.GetResultRequest(job_id=job_id, partial=partial)
    reply = connection.call("GetResult", request)
    references = [from_message(message, ParameterRef) for message in reply.parameters]
    folder = _folder(connection, job_id)
    store = BlobStore(folder)
    trained: dict[str, Array] = {}
    for part in reply.parts:
        trained |= _fetch(connection, store, part.digest, part.blob_bytes)
    for reference in references:
        if reference.name not in trained:
            # No segment used it, so nothing trained it: it is still what the submitter sent.
            trained |= _fetch(connection, store, reference.digest, reference.blob_bytes)
    tensors = _by_every_name(job_id, trained, references)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, lambda partial: partial.write_bytes(pack(tensors)))
    shutil.rmtree(folder, ignore_errors=True)
    aliases = {alias: reference.name for reference in references for alias in reference.aliases}
    return Result(
        job_id=job_id, path=path, aliases=aliases, step=reply.position if partial else None)


def fetch_outputs(connection: Connection, job_id: str, path: Path) -> Result:
    """Download the parts of an inference job's result and put them into one file.

    Raises:
        HomespunError: as `fetch_result`; DIGEST_MISMATCH when the parts lack an output.
    """
    reply = connection.call("GetResult", jobs_pb2.GetResultRequest(job_id=job_id))
    folder = _folder(connection, job_id)
    store = BlobStore(folder)
    parts = [download(connection.blobs, p.digest, p.blob_bytes, store) for p in reply.parts]
    tensors = {name: map_tensor(part, name) for part in parts for name in names_in(part)}
    if tensors.keys() != {output.name for output in reply.outputs}:
        raise HomespunError(
            Code.DIGEST_MISMATCH,
            f"The result of job {job_id} has the outputs {sorted(tensors)}; the broker says "
            f"{sorted(output.name for output in reply.outputs)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, lambda partial: _merge(partial, tensors))
    tensors.clear()  # Mapped files cannot be removed everywhere.
    shutil.rmtree(folder, ignore_errors=True)
    return Result(job_id=job_id, path=path, aliases={}, kind=INFER)


def _folder(connection: Connection, job_id: str) -> Path:
    """Where parts are kept on their way; ids of jobs repeat from network to network."""
    return cache_directory() / "results" / connection.owner_id / job_id


def _merge(path: Path, tensors: Mapping[str, Array]) -> None:
    """Copy tensors into one file, some rows at a time."""
    types = {name: TensorType(array.dtype.name, array.shape) for name, array in tensors.items()}
    writer = TensorFileWriter(path, types)
    try:
        for name, array in tensors.items():
            rows = max(1, COPY_BYTES * len(array) // max(1, array.nbytes))
            for first in range(0, len(array), rows):
                writer.write(name, first, array[first:first + rows])
    finally:
        writer.close()


def _fetch(connection: Connection, store: BlobStore, digest: str, size: int) -> dict[str, Array]:
    blob = download(connection.blobs, digest, size, store)
    return unpack(blob.read_bytes(), f"result blob {digest}")


def _by_every_name(
    job_id: str, trained: Mapping[str, Array], references: Sequence[ParameterRef]
) -> dict[str, Array]:
    unknown = trained.keys() - {reference.name for reference in references}
    if unknown:
        raise HomespunError(
            Code.DIGEST_MISMATCH,
            f"The result of job {job_id} has {sorted(unknown)[0]!r}, which is no parameter of it.")
    tensors: dict[str, Array] = {}
    for reference in references:
        array = trained[reference.name]
        if TensorType(array.dtype.name, array.shape) != reference.type:
            raise HomespunError(
                Code.DIGEST_MISMATCH,
                f"Parameter {reference.name!r} of job {job_id} came back as {array.dtype.name}"
                f"{list(array.shape)}; it was {reference.type.dtype}{list(reference.type.shape)}.")
        for name in (reference.name, *reference.aliases):
            tensors[name] = array
    return tensors


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write through a neighbour, so that a full disk leaves no half file under the name."""
    partial = path.with_name(f".{path.name}.part")
    try:
        write(partial)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
