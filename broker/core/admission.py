"""Is a job's description one that could be run? Pure checks over the spec, cheapest first.

Each check is a generator of problems; the first problem found is the answer. Messages name the
field as `JobSpec` spells it, say what it has and what was expected.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from math import isfinite

from broker.core import limits
from dag.job import (
    PREDICT,
    ColumnRef,
    JobSpec,
    OptimizerSpec,
    ParameterRef,
    ScheduleSpec,
    TrainingSpec,
    inference_spec,
)
from homespun.errors import Code
from homespun.ids import is_digest
from ir.graph import INFER, ITEM_BYTES, TRAIN, TensorType

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = ("float32", "bfloat16")
SPLITS = {TRAIN: ("train", "validation"), INFER: (PREDICT,)}
"""The splits that a job of each kind may have; it must have the first."""

Problems = Iterator[str]


def problem_with(spec: JobSpec) -> tuple[Code, str] | None:
    """Say what is wrong with a job's description.

    Returns:
        LIMIT_EXCEEDED or INVALID_JOB with a message that names the field; None if nothing is.

    Cost: linear in parameters and columns.
    """
    for message in _over_limits(spec):
        return Code.LIMIT_EXCEEDED, message
    for message in chain(
        _general(spec),
        _parameters(spec),
        _columns(spec),
        _names_apart(spec),
        _training(spec.training),
        _optimizer(spec.training.optimizer),
        _schedule(spec.training.schedule),
        _evaluation(spec),
        _inference(spec),
    ):
        return Code.INVALID_JOB, message
    return None


def _over_limits(spec: JobSpec) -> Problems:
    training = spec.training
    counts = (
        ("graph_bytes", spec.graph_bytes, limits.MAX_GRAPH_BYTES),
        ("parameters", len(spec.parameters), limits.MAX_PARAMETERS),
        ("columns", len(spec.columns), limits.MAX_COLUMNS),
        ("peers", spec.peers, limits.MAX_SEGMENTS),
        ("training.steps", training.steps, limits.MAX_STEPS),
        ("training.batch_size", training.batch_size, limits.MAX_BATCH),
        ("training.microbatches", training.microbatches, limits.MAX_MICROBATCHES),
    )
    for field, value, most in counts:
        if value > most:
            yield f"{field} is {value}; at most {most}."
    tensors: tuple[ParameterRef | ColumnRef, ...] = (*spec.parameters, *spec.columns)
    for number, tensor in enumerate(tensors):
        if tensor.blob_bytes > limits.MAX_BLOB_BYTES:
            yield (f"Tensor {number}, {tensor.name[:100]!r}: blob_bytes is {tensor.blob_bytes}; "
                   f"at most {limits.MAX_BLOB_BYTES}.")


def _general(spec: JobSpec) -> Problems:
    if len(spec.name) > limits.MAX_NAME or not spec.name.isprintable():
        yield f"name must have at most {limits.MAX_NAME} printable characters."
    if not is_digest(spec.graph_digest):
        yield f"graph_digest must be 64 hexadecimal characters, not {spec.graph_digest[:80]!r}."
    if spec.graph_bytes < 1:
        yield f"graph_bytes is {spec.graph_bytes}; expected at least 1."
    if spec.peers < 0:
        yield f"peers is {spec.peers}; expected a number of peers, or 0 for any."
    if spec.kind not in SPLITS:
        yield f"kind is {spec.kind[:80]!r}; expected one of {', '.join(SPLITS)}."


def _parameters(spec: JobSpec) -> Problems:
    seen: set[str] = set()
    for number, ref in enumerate(spec.parameters):
        where = f"parameters[{number}]"
        for name in (ref.name, *ref.aliases):
            yield from _name(where, name)
            if name in seen:
                yield f"{where}: the name {name!r} occurs twice."
            seen.add(name)
        yield from _tensor(f"{where} ({ref.name!r})", ref.type, ref.digest, ref.blob_bytes)
    if spec.kind == TRAIN and not spec.trainable:
        yield "parameters: none of them is trainable, so there is nothing to train."


def _columns(spec: JobSpec) -> Problems:
    seen: set[tuple[str, str]] = set()
    rows: dict[str, int] = {}
    splits = SPLITS[spec.kind]
    for number, ref in enumerate(spec.columns):
        where = f"columns[{number}]"
        yield from _name(where, ref.name)
        if ref.split not in splits:
            yield f"{where}.split is {ref.split[:80]!r}; expected one of {', '.join(splits)}."
        if (ref.split, ref.name) in seen:
            yield f"{where}: the column {ref.name!r} of {ref.split!r} occurs twice."
        seen.add((ref.split, ref.name))
        yield from _tensor(f"{where} ({ref.name!r})", ref.type, ref.digest, ref.blob_bytes)
        if not ref.type.shape or ref.type.shape[0] < 1:
            yield f"{where} ({ref.name!r}): a column needs at least one row, rows first."
        elif rows.setdefault(ref.split, ref.type.shape[0]) != ref.type.shape[0]:
            yield (f"{where} ({ref.name!r}) has {ref.type.shape[0]} rows, but other columns of "
                   f"{ref.split!r} have {rows[ref.split]}.")
    if splits[0] not in rows:
        yield f"columns: there is no column of the split {splits[0]!r}."
    train = {name for split, name in seen if split == "train"}
    for split, name in sorted(seen):
        if split == "validation" and name not in train:
            yield f"columns: {name!r} is in the split 'validation' but not in 'train'."


def _names_apart(spec: JobSpec) -> Problems:
    columns = {ref.name for ref in spec.columns}
    for ref in spec.parameters:
        if ref.name in columns:
            yield f"{ref.name!r} names both a parameter and a column."


def _name(where: str, name: str) -> Problems:
    if not 0 < len(name) <= limits.MAX_TENSOR_NAME or not name.isprintable():
        yield (f"{where}: a name must have 1 to {limits.MAX_TENSOR_NAME} printable characters; "
               f"got {name[:80]!r}.")


def _tensor(where: str, tensor: TensorType, digest: str, blob_bytes: int) -> Problems:
    if not is_digest(digest):
        yield f"{where}: digest must be 64 hexadecimal characters, not {digest[:80]!r}."
    if tensor.dtype not in ITEM_BYTES:
        yield f"{where}: dtype {tensor.dtype[:80]!r} is not one of {', '.join(ITEM_BYTES)}."
        return
    if len(tensor.shape) > limits.MAX_RANK:
        yield f"{where}: {len(tensor.shape)} axes; at most {limits.MAX_RANK}."
        return
    if any(extent < 0 for extent in tensor.shape):
        yield f"{where}: shape {tensor.shape} has a negative extent."
    elif blob_bytes < tensor.size_bytes:
        yield (f"{where}: blob_bytes is {blob_bytes}, too few for {tensor.dtype} "
               f"{tensor.shape}, which takes {tensor.size_bytes}.")


def _training(training: TrainingSpec) -> Problems:
    if training.steps < 1:
        yield f"training.steps is {training.steps}; expected at least 1."
    if training.batch_size < 1:
        yield f"training.batch_size is {training.batch_size}; expected at least 1."
    if training.microbatches < 1:
        yield f"training.microbatches is {training.microbatches}; expected at least 1."
    elif training.batch_size % training.microbatches:
        yield (f"training.batch_size {training.batch_size} is no multiple of "
               f"training.microbatches {training.microbatches}.")
    if not 0 <= training.seed < 2**64:
        yield f"training.seed is {training.seed}; expected 0 <= seed < 2**64."
    if training.precision not in PRECISIONS:
        yield (f"training.precision is {training.precision[:80]!r}; "
               f"expected one of {', '.join(PRECISIONS)}.")
    yield from _number("training.clip_norm", training.clip_norm, 0.0)


def _optimizer(optimizer: OptimizerSpec) -> Problems:
    if optimizer.kind not in OPTIMIZERS:
        yield (f"training.optimizer.kind is {optimizer.kind[:80]!r}; "
               f"expected one of {', '.join(OPTIMIZERS)}.")
    for name in ("learning_rate", "epsilon", "weight_decay", "momentum"):
        yield from _number(f"training.optimizer.{name}", getattr(optimizer, name), 0.0)
    for name in ("beta1", "beta2"):
        value = getattr(optimizer, name)
        if not 0.0 <= value < 1.0:
            yield f"training.optimizer.{name} is {value}; expected 0 <= {name} < 1."
    if optimizer.kind == "sgd" and optimizer.nesterov and optimizer.momentum <= 0:
        yield "training.optimizer.nesterov needs a momentum above 0."


def _schedule(schedule: ScheduleSpec) -> Problems:
    if schedule.kind not in SCHEDULES:
        yield (f"training.schedule.kind is {schedule.kind[:80]!r}; "
               f"expected one of {', '.join(SCHEDULES)}.")
    for name in ("warmup_steps", "total_steps"):
        value = getattr(schedule, name)
        if not 0 <= value <= limits.MAX_STEPS:
            yield f"training.schedule.{name} is {value}; expected 0 to {limits.MAX_STEPS}."
    if not 0.0 <= schedule.final_ratio <= 1.0:
        yield (f"training.schedule.final_ratio is {schedule.final_ratio}; "
               "expected 0 <= final_ratio <= 1.")


def _evaluation(spec: JobSpec) -> Problems:
    every = spec.training.evaluate_every
    if every < 0:
        yield f"training.evaluate_every is {every}; expected at least 1, or 0 for never."
    if every <= 0:
        return
    rows = min((ref.type.shape[0] for ref in spec.columns if ref.split == "validation"), default=0)
    names = {ref.name for ref in spec.columns if ref.split == "validation"}
    missing = sorted({ref.name for ref in spec.columns} - names)
    size = spec.training.batch_size // spec.training.microbatches
    if missing:
        yield (f"training.evaluate_every is {every}, but the split 'validation' lacks "
               f"{', '.join(missing[:5])}.")
    if rows < size:
        yield (f"training.evaluate_every is {every}, but 'validation' has {rows} rows, fewer "
               f"than one microbatch of {size}.")


def _inference(spec: JobSpec) -> Problems:
    """Numbers that inference does not use must be those of `inference_spec`."""
    if spec.kind != INFER:
        return
    training, rows = spec.training, spec.rows(PREDICT)
    wanted = inference_spec(rows, training.batch_size, training.precision)
    for name in ("steps", "microbatches", "clip_norm", "recompute", "evaluate_every"):
        had, expected = getattr(training, name), getattr(wanted, name)
        if had != expected:
            yield (f"training.{name} is {had}; an inference job over {rows} rows, "
                   f"{training.batch_size} at a time, has {expected}.")


def _number(field: str, value: float, least: float) -> Problems:
    if not isfinite(value) or value < least:
        yield f"{field} is {value}; expected a finite number of at least {least:g}."
