"""From checked values to a job in the broker: blobs first, then the description that names them.

A submission that fails midway leaves nothing but blobs, and the same blobs are not sent twice.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dag.job import ColumnRef, JobSpec, ParameterRef, TrainingSpec, inference_spec
from homespun.blobs.store import digest_of
from homespun.blobs.transfer import upload
from homespun.connection import Connection
from homespun.dataset import Dataset, type_of
from homespun.errors import Code, HomespunError
from homespun.optimizers import Constant, Optimizer, Schedule
from homespun.tensor_file import Array, pack
from homespun.units import format_duration, format_size
from homespun.v1 import job_pb2, jobs_pb2
from homespun.version import PROTOCOL_VERSION
from homespun.wire import to_message
from ir.frontends.imported import Imported, ImportedParameter
from ir.graph import INFER, TRAIN

PRECISIONS = ("float32", "bfloat16")
DEFAULT_MICROBATCHES = 4
MAX_NAME_CHARACTERS = 100
MAX_COUNT = 1 << 40
MAX_SEED = (1 << 64) - 1

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """What a user may say about the training, as passed to `Client.train`; see there."""

    optimizer: Optimizer
    steps: int
    batch_size: int
    microbatches: int | None = None
    schedule: Schedule | None = None
    clip_norm: float = 0.0
    precision: str = "float32"
    recompute: bool = False
    evaluate_every: int | None = None
    seed: int = 0
    peers: int | None = None
    name: str = ""


def training_spec(options: TrainingOptions, dataset: Dataset) -> TrainingSpec:
    """Check the options against each other and the dataset, and fill in what was left open.

    Raises:
        HomespunError: INVALID_ARGUMENT, naming the option.
    """
    _check_count("steps", options.steps, 1)
    _check_count("batch_size", options.batch_size, 1)
    if not hasattr(options.optimizer, "to_spec"):
        raise _refused("optimizer", "homespun.AdamW(...), Adam(...) or SGD(...)", options.optimizer)
    if options.schedule is not None and not hasattr(options.schedule, "to_spec"):
        raise _refused("schedule", "homespun.Constant, Linear or Cosine", options.schedule)
    if options.precision not in PRECISIONS:
        raise _refused("precision", f"one of {', '.join(PRECISIONS)}", options.precision)
    clip_norm = options.clip_norm
    if isinstance(clip_norm, bool) or not isinstance(clip_norm, int | float) or not (
            0 <= clip_norm < float("inf")):
        raise _refused("clip_norm", "a finite number >= 0 (0: no clipping)", clip_norm)
    _check_count("seed", options.seed, 0, MAX_SEED)
    _checked_name(options.name)
    _peers(options.peers)
    microbatches = _microbatches(options)
    return TrainingSpec(
        steps=options.steps, batch_size=options.batch_size, microbatches=microbatches,
        seed=options.seed, optimizer=options.optimizer.to_spec(),
        schedule=(options.schedule or Constant()).to_spec(), clip_norm=float(clip_norm),
        precision=options.precision, recompute=bool(options.recompute),
        evaluate_every=_evaluate_every(options, dataset, options.batch_size // microbatches),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a job is besides its graph and data. Fields as of `dag.job.JobSpec`."""

    kind: str
    training: TrainingSpec
    name: str
    peers: int


def training_wish(options: TrainingOptions, dataset: Dataset) -> Wish:
    """A training job as wished for; raises as `training_spec`."""
    return Wish(
        kind=TRAIN, training=training_spec(options, dataset), name=_checked_name(options.name),
        peers=_peers(options.peers))


def inference_wish(
    dataset: Dataset, batch_size: int, precision: str, name: str, peers: int | None
) -> Wish:
    """An inference job as wished for, over all rows of a dataset.

    Raises:
        HomespunError: INVALID_ARGUMENT, naming the option.
    """
    _check_count("batch_size", batch_size, 1)
    if precision not in PRECISIONS:
        raise _refused("precision", f"one of {', '.join(PRECISIONS)}", precision)
    return Wish(
        kind=INFER, training=inference_spec(dataset.rows, batch_size, precision),
        name=_checked_name(name), peers=_peers(peers))


def submit(
    connection: Connection, imported: Imported, dataset: Dataset, wish: Wish, notify: Notify
) -> str:
    """Upload what the broker lacks, submit, and return the job's id.

    Raises:
        HomespunError: UNSUPPORTED_OP or INVALID_GRAPH, before anything is sent; INVALID_ARGUMENT
            when dataset and graph do not fit each other; what the broker refused the job with;
            UNREACHABLE.
    """
    from ir.admission import check_admission

    check_admission(imported.graph, wish.kind)  # what the broker would refuse need not be sent
    _check_columns(imported, dataset, wish.training.batch_size // wish.training.microbatches)
    sender = _Sender(connection, notify)
    spec = JobSpec(
        name=wish.name,
        graph_digest=sender.send(imported.graph_bytes),
        graph_bytes=len(imported.graph_bytes),
        parameters=tuple(_parameter_ref(p, sender) for p in needed_parameters(imported, wish)),
        columns=tuple(_column_refs(dataset, imported.graph.inputs, sender)),
        training=wish.training,
        peers=wish.peers,
        kind=wish.kind,
    )
    sender.summarise()
    request = jobs_pb2.SubmitRequest(
        spec=to_message(spec, job_pb2.JobSpec),
        # The same id in every retry: however often the answer is lost, there is one job.
        request_id=uuid.uuid4().hex,
        protocol_version=PROTOCOL_VERSION,
    )
    job_id: str = connection.call("Submit", request).job_id
    return job_id


class _Sender:
    """Sends blobs one after the other and counts."""

    def __init__(self, connection: Connection, notify: Notify) -> None:
        self._connection = connection
        self._notify = notify
        self._blobs = 0
        self._bytes = 0
        self._began_s = time.monotonic()

    def send(self, data: bytes) -> str:
        """Store one blob in the broker and return its digest."""
        digest = digest_of(data)
        upload(self._connection.blobs, digest, data)
        self._blobs += 1
        self._bytes += len(data)
        return digest

    def summarise(self) -> None:
        took = format_duration(time.monotonic() - self._began_s)
        self._notify(f"Stored {self._blobs} blobs, {format_size(self._bytes)}, in {took}.")


def needed_parameters(imported: Imported, wish: Wish) -> Iterable[ImportedParameter]:
    """The whole state is part of a training result; to run a model takes what its graph reads."""
    if wish.kind == TRAIN:
        return imported.parameters
    read = frozenset(imported.graph.parameters)
    return (parameter for parameter in imported.parameters if parameter.name in read)


def _parameter_ref(parameter: ImportedParameter, sender: _Sender) -> ParameterRef:
    data = pack({parameter.name: parameter.value})
    return ParameterRef(
        name=parameter.name, aliases=parameter.aliases, digest=sender.send(data),
        blob_bytes=len(data), type=type_of(parameter.value), trainable=parameter.trainable,
    )


def _column_refs(
    dataset: Dataset, names: Iterable[str], sender: _Sender
) -> Iterable[ColumnRef]:
    for split, columns in dataset.splits().items():
        for name in names:
            data = pack({name: columns[name]})
            yield ColumnRef(name=name, split=split, digest=sender.send(data),
                            blob_bytes=len(data), type=type_of(columns[name]))


def _check_columns(imported: Imported, dataset: Dataset, microbatch_size: int) -> None:
    graph = imported.graph
    if missing := [name for name in graph.inputs if name not in dataset.columns]:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"The model needs a column {missing[0]!r}; the dataset has "
            f"{', '.join(sorted(dataset.columns))}.", column=missing[0])
    for name in graph.inputs:
        column, wanted = dataset.columns[name], graph.types[name]
        if (column.dtype.name, column.shape[1:]) != (wanted.dtype, wanted.shape[1:]):
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"Column {name!r} is {_row(column)} per row; the graph takes "
                f"{wanted.dtype}{list(wanted.shape[1:])}.", column=name)
        if wanted.shape[:1] != (microbatch_size,):
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"The graph takes {list(wanted.shape[:1])} samples of {name!r} at a time, but "
                f"a microbatch has {microbatch_size}. Export it at that size.",
                column=name)


def _row(column: Array) -> str:
    return f"{column.dtype.name}{list(column.shape[1:])}"


def _microbatches(options: TrainingOptions) -> int:
    wanted = options.microbatches
    if wanted is None:
        return next(count for count in range(DEFAULT_MICROBATCHES, 0, -1)
                    if options.batch_size % count == 0)
    _check_count("microbatches", wanted, 1)
    if options.batch_size % wanted:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"batch_size ({options.batch_size}) must be a multiple of microbatches ({wanted}).")
    return wanted


def _evaluate_every(options: TrainingOptions, dataset: Dataset, microbatch_size: int) -> int:
    rows = len(next(iter(dataset.validation.values()))) if dataset.validation else 0
    if options.evaluate_every is None:
        return options.steps if rows >= microbatch_size else 0
    _check_count("evaluate_every", options.evaluate_every, 0)
    if options.evaluate_every and rows < microbatch_size:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"evaluate_every needs a validation split of at least one microbatch "
            f"({microbatch_size} rows); it has {rows}.")
    return options.evaluate_every


def _peers(peers: int | None) -> int:
    if peers is None:
        return 0
    _check_count("peers", peers, 0, 10_000)
    return peers


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS or (
            name and not name.isprintable()):
        raise _refused("name", f"at most {MAX_NAME_CHARACTERS} printable characters", name)
    return name


def _check_count(name: str, value: object, least: int, most: int = MAX_COUNT) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _refused(name, f"a whole number from {least} to {most}", value)


def _refused(name: str, expected: str, value: object) -> HomespunError:
    return HomespunError(
        Code.INVALID_ARGUMENT, f"{name} must be {expected}; it is {value!r}.", argument=name)
