"""How `homespun.train` trains: the names and meanings of `transformers.TrainingArguments`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from homespun.errors import Code, HomespunError
from homespun.optimizers import SGD, AdamW, Constant, Cosine, Linear, Optimizer, Schedule

OPTIMIZERS = ("adamw_torch", "sgd")
SCHEDULES: Mapping[str, type[Constant] | type[Linear]] = {
    "linear": Linear, "cosine": Cosine, "constant": Constant, "constant_with_warmup": Constant}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingArguments:
    """How to train. Names mean what they mean in `transformers`, on one device, except where said.

    One step trains on `total_train_batch_size` rows, which is `per_device_train_batch_size` times
    `gradient_accumulation_steps`, however many peers take part: they share the model, not the
    batch, so more peers change the time and not the result.

    Attributes:
        learning_rate: the highest one, >= 0.
        num_train_epochs: passes over the training rows, > 0; the last batch of a pass runs on into
            the next one, so that no row is left out and every batch is full.
        max_steps: steps in place of `num_train_epochs`; -1: as many as those make.
        per_device_train_batch_size: rows that a device works on at a time, at most, >= 1.
        gradient_accumulation_steps: how many of those make up one step, >= 1. The loss is the mean
            of theirs. With 1 the rows of a step are cut further, so that peers work at once.
        optim: `adamw_torch` or `sgd`.
        weight_decay: >= 0; of every trained parameter (`transformers` spares biases and norms).
        adam_beta1: decay of AdamW's mean, in [0, 1).
        adam_beta2: decay of AdamW's mean square, in [0, 1).
        adam_epsilon: added to AdamW's denominator, >= 0.
        max_grad_norm: largest global L2 norm of the gradient; 0: no clipping.
        lr_scheduler_type: `linear`, `cosine`, `constant` or `constant_with_warmup`.
        warmup_steps: steps of linear rise; below 1 a share of all steps. The first step has
            1 / `warmup_steps` of the learning rate, not 0.
        eval_steps: evaluate before the first step, after every so many, and at the end; None: only
            first and last. Without an `eval_dataset` there is nothing to evaluate.
        logging_steps: callbacks get the mean loss of every so many steps, >= 1.
        seed: keys sample order, dropout and every other draw, 0 <= seed < 2**64.
        bf16: compute in bfloat16 where autocast does.
        gradient_checkpointing: compute activations again for backward instead of keeping them.
        run_name: the job's name, for people.
        output_dir: folder that gets `model.safetensors`; None: the weights only go into the model.
        peers: exact number of peers; None: the planner chooses. Not in `transformers`.

    Raises:
        HomespunError: INVALID_ARGUMENT for a value out of its range.
    """

    learning_rate: float = 5e-5
    num_train_epochs: float = 3.0
    max_steps: int = -1
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    optim: str = "adamw_torch"
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    lr_scheduler_type: str = "linear"
    warmup_steps: float = 0
    eval_steps: int | None = None
    logging_steps: int = 1
    seed: int = 42
    bf16: bool = False
    gradient_checkpointing: bool = False
    run_name: str = ""
    output_dir: Path | str | None = None
    peers: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant; the optimizer and the job check the rest."""
        for name in ("per_device_train_batch_size", "gradient_accumulation_steps",
                     "logging_steps"):
            if not _is_whole(getattr(self, name), 1):
                raise self._wrong(name, "a whole number >= 1")
        if self.eval_steps is not None and not _is_whole(self.eval_steps, 1):
            raise self._wrong("eval_steps", "a whole number >= 1, or None")
        if self.max_steps != -1 and not _is_whole(self.max_steps, 1):
            raise self._wrong("max_steps", "a whole number >= 1, or -1 for num_train_epochs")
        if not _is_number(self.num_train_epochs) or self.num_train_epochs <= 0:
            raise self._wrong("num_train_epochs", "a number > 0")
        self._check_choices()
        self._optimizer()

    def _check_choices(self) -> None:
        if self.optim not in OPTIMIZERS:
            raise self._wrong("optim", f"one of {', '.join(OPTIMIZERS)}; Client.train takes others")
        if self.lr_scheduler_type not in SCHEDULES:
            raise self._wrong("lr_scheduler_type", f"one of {', '.join(SCHEDULES)}")
        warmup = self.warmup_steps
        if not _is_number(warmup) or warmup < 0 or (warmup >= 1 and warmup != int(warmup)):
            raise self._wrong("warmup_steps", "a whole number of steps, or a share of them below 1")
        if warmup and self.lr_scheduler_type == "constant":
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                "TrainingArguments: lr_scheduler_type 'constant' has no warm-up; use "
                "'constant_with_warmup', or leave warmup_steps out.", argument="warmup_steps")

    @property
    def total_train_batch_size(self) -> int:
        """Rows of one step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    def steps(self, rows: int) -> int:
        """Steps of a training on so many rows."""
        if self.max_steps != -1:
            return self.max_steps
        return math.ceil(self.num_train_epochs * rows / self.total_train_batch_size)

    def options(self, rows: int, *, evaluates: bool) -> dict[str, Any]:
        """The same as arguments of `Client.train`.

        Args:
            rows: of the training dataset, >= 1.
            evaluates: whether there is an evaluation dataset.

        Raises:
            HomespunError: INVALID_ARGUMENT for `eval_steps` without one.
        """
        if self.eval_steps is not None and not evaluates:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                "TrainingArguments: eval_steps needs an eval_dataset; give one, or leave it out.",
                argument="eval_steps")
        steps = self.steps(rows)
        accumulated = self.gradient_accumulation_steps
        return {
            "optimizer": self._optimizer(), "schedule": self._schedule(steps), "steps": steps,
            "batch_size": self.total_train_batch_size,
            "microbatches": accumulated if accumulated > 1 else None,
            "clip_norm": self.max_grad_norm, "seed": self.seed,
            "precision": "bfloat16" if self.bf16 else "float32",
            "recompute": self.gradient_checkpointing,
            "evaluate_every": (self.eval_steps or steps) if evaluates else 0,
            "name": self.run_name, "peers": self.peers,
        }

    def to_dict(self) -> dict[str, Any]:
        """The arguments by name, as plain values."""
        values = asdict(self)
        return {**values, "output_dir": values["output_dir"] and str(values["output_dir"])}

    def _optimizer(self) -> Optimizer:
        if self.optim == "sgd":
            return SGD(lr=self.learning_rate, weight_decay=self.weight_decay)
        return AdamW(
            lr=self.learning_rate, betas=(self.adam_beta1, self.adam_beta2),
            eps=self.adam_epsilon, weight_decay=self.weight_decay)

    def _schedule(self, steps: int) -> Schedule:
        warmup = self.warmup_steps
        whole = int(warmup) if warmup >= 1 else math.ceil(steps * warmup)
        return SCHEDULES[self.lr_scheduler_type](warmup_steps=whole)

    def _wrong(self, name: str, expected: str) -> HomespunError:
        return HomespunError(
            Code.INVALID_ARGUMENT,
            f"TrainingArguments: {name} must be {expected}; it is {getattr(self, name)!r}.",
            argument=name)


def check_arguments(given: object) -> TrainingArguments:
    """The arguments, or the default ones for None.

    Raises:
        HomespunError: INVALID_ARGUMENT for anything else.
    """
    if given is None:
        return TrainingArguments()
    if not isinstance(given, TrainingArguments):
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"args must be homespun.TrainingArguments; it is a {type(given).__module__}."
            f"{type(given).__qualname__}. Write the fields that you use once more, as "
            "homespun.TrainingArguments(...): they have the same names.", argument="args")
    return given


def _is_number(value: object) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and math.isfinite(value))


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
