"""`homespun.train`: one call from a model and a dataset to the trained model.

It is `Client.train` with the names of `transformers.Trainer`. For other optimizers and schedules,
and to let go of a job while it runs, use that.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homespun.callbacks.base import Callback
from homespun.callbacks.delivery import Reporter, check_callbacks
from homespun.cli.output import note
from homespun.client import Client, connect
from homespun.dataset import Dataset, read_dataset
from homespun.errors import Code, HomespunError
from homespun.identity import directory as identity_directory
from homespun.local_client import local
from homespun.paths import CREDENTIALS_VARIABLE, credentials_directory
from homespun.status import JobMetrics
from homespun.training_arguments import TrainingArguments, check_arguments
from homespun.training_data import columns_of, model_columns
from homespun.watching import show

if TYPE_CHECKING:
    import torch

    from homespun.job import Job

_NOT_TAKEN_BACK = frozenset(
    {Code.CERTIFICATE_EXPIRED, Code.NOT_ALLOWED, Code.NOT_AUTHENTICATED})

WEIGHTS_FILE = "model.safetensors"
"""What `transformers` calls a model's weights, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOutput:
    """What a training gave, beside the trained model.

    Attributes:
        job_id: the job.
        global_step: optimizer steps done.
        training_loss: mean of the losses of all steps.
        eval_loss: the last validation loss; None without an `eval_dataset`.
        curves: every loss, by step.
        weights: file with the trained weights; None without `output_dir`.
    """

    job_id: str
    global_step: int
    training_loss: float
    eval_loss: float | None
    curves: JobMetrics
    weights: Path | None

    def __repr__(self) -> str:
        evaluated = "" if self.eval_loss is None else f", eval_loss={self.eval_loss:.4f}"
        return (f"TrainingOutput({self.job_id!r}, global_step={self.global_step}, "
                f"training_loss={self.training_loss:.4f}{evaluated})")


def train(
    model: torch.nn.Module,
    train_dataset: object,
    args: TrainingArguments | None = None,
    *,
    eval_dataset: object = None,
    loss: Callable[..., Any] | None = None,
    callbacks: Sequence[Callback] = (),
    client: Client | None = None,
    timeout_s: float | None = None,
) -> TrainingOutput:
    """Train a model on a network, wait for it, and put the trained weights into the model.

    Args:
        model: any module that `Client.train` takes; trained in place, as by `Trainer`. Parameters
            without `requires_grad` stay as they are.
        train_dataset: a dict of arrays or tensors, rows first; a `datasets.Dataset`; or a map-style
            `torch.utils.data.Dataset` of dicts or `(input, label)` tuples. All rows have one shape.
            Each is read once, so what a dataset draws at random is drawn once.
        args: how to train; None: the defaults of `TrainingArguments`.
        eval_dataset: the same columns with other rows.
        loss: as for `Client.train`. None: the model's own, as those of `transformers` compute it
            from `labels`; then columns that its forward does not take are left out.
        callbacks: told of losses, recoveries and the end; see `homespun.callbacks`.
        client: of the network to use. None: the broker that this machine has joined
            (`homespun join`); without one, a private network on this machine for this one call.
        timeout_s: give up waiting after this time; None: as long as it takes.

    Returns:
        The losses, and where the weights are.

    Raises:
        HomespunError: INVALID_ARGUMENT, before anything is sent, for data or arguments that do not
            fit; what the job failed with; and as `Client.train`. The model is then unchanged.
    """
    arguments = check_arguments(args)
    told = check_callbacks(callbacks)
    dataset = _dataset(train_dataset, eval_dataset, None if loss is not None else model)
    options = arguments.options(dataset.rows, evaluates=bool(dataset.validation))
    note(f"{dataset.rows} rows, {options['steps']} steps of {options['batch_size']} rows each.")
    with ExitStack() as stack:
        used = stack.enter_context(connect_or_local()) if client is None else client
        job = used.train(
            model, loss=loss, data=dataset.train, validation=dataset.validation, **options)
        report = stack.enter_context(Reporter(
            told, settings=arguments.to_dict(), logging_steps=arguments.logging_steps))
        try:
            status = show(job, timeout_s=timeout_s, also=report)
        except KeyboardInterrupt:
            if client is None and used.connection.is_private:
                note("The private network of this call ends now, and the job with it.")
            raise
        if (error := status.error()) is not None:
            raise error
        weights = _load_weights(model, job, arguments.output_dir)
        return _output(job, weights)


def connect_or_local(peers: int = 3) -> Client:
    """A client of the broker that this machine has joined, or else of a private network.

    Args:
        peers: of the private network, which ends when the client is closed.

    A broker that this machine joined once and that does not take it back is as good as none; one
    that cannot be reached is not, as it may only be off for an hour.

    Raises:
        HomespunError: as `homespun.connect` or `homespun.local`.
    """
    if os.environ.get(CREDENTIALS_VARIABLE):
        return connect()
    if not identity_directory.exists(credentials_directory()):
        note("This machine has joined no broker.")
        return local(peers=peers)
    try:
        return connect()
    except HomespunError as error:
        if error.code not in _NOT_TAKEN_BACK:
            raise
        note(f"The broker that this machine joined does not take it back: {error.message}")
    return local(peers=peers)


def _dataset(
    train_dataset: object, eval_dataset: object, with_own_loss: torch.nn.Module | None
) -> Dataset:
    splits = {"train_dataset": columns_of(train_dataset, "train_dataset")}
    if eval_dataset is not None:
        splits["eval_dataset"] = columns_of(eval_dataset, "eval_dataset")
    if with_own_loss is not None:
        for name, columns in splits.items():
            splits[name], others = model_columns(columns, with_own_loss, name)
            if others:
                note(f"{name}: left out {', '.join(others)}, which the model does not take.")
    return read_dataset(splits["train_dataset"], splits.get("eval_dataset"))


def _load_weights(
    model: torch.nn.Module, job: Job, output_dir: Path | str | None
) -> Path | None:
    """Put the trained weights into the model; where they are kept, if that was asked for."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder if output_dir is None else output_dir) / WEIGHTS_FILE
        model.load_state_dict(job.result(path).state_dict())
    return None if output_dir is None else path


def _output(job: Job, weights: Path | None) -> TrainingOutput:
    curves = job.curves()
    losses = [metric.loss for metric in curves.steps]
    return TrainingOutput(
        job_id=job.id, global_step=len(losses), training_loss=sum(losses) / len(losses),
        eval_loss=curves.evaluations[-1].loss if curves.evaluations else None, curves=curves,
        weights=weights)
