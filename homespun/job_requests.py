"""What a user may ask to be done with a model, from Python: checked and imported here.

What then happens to it is the affair of whoever is asked: the client submits it, the planner only
says what would run where.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from homespun.column_binding import bind_columns, read_model, rows_of
from homespun.dataset import Dataset, read_columns, read_dataset
from homespun.optimizers import Optimizer, Schedule
from homespun.submission import (
    Notify,
    TrainingOptions,
    Wish,
    inference_wish,
    training_spec,
    training_wish,
)

if TYPE_CHECKING:
    import torch

    from homespun.column_binding import Readable
    from ir.frontends.imported import Imported

DEFAULT_INFERENCE_ROWS = 32
"""Rows at a time where the caller names no number: enough to keep matrix products busy."""

Answer = TypeVar("Answer")


class JobRequests(ABC, Generic[Answer]):
    """The ways to ask for a job; each ends in `_submit`."""

    def __init__(self, notify: Notify | None = None) -> None:
        """Begin.

        Args:
            notify: told in one sentence what is going on.
        """
        self._notify: Notify = notify or (lambda text: None)

    def train(
        self,
        model: torch.nn.Module,
        *,
        data: Mapping[str, Any],
        optimizer: Optimizer,
        steps: int,
        batch_size: int,
        loss: Callable[..., Any] | None = None,
        validation: Mapping[str, Any] | None = None,
        microbatches: int | None = None,
        schedule: Schedule | None = None,
        clip_norm: float = 0.0,
        precision: str = "float32",
        recompute: bool = False,
        evaluate_every: int | None = None,
        seed: int = 0,
        peers: int | None = None,
        name: str = "",
    ) -> Answer:
        """Export a model here, store it and its data in the broker, and submit a training job.

        The model itself is not changed; `Job.result` gives the trained parameters.

        Args:
            model: its parameters are the start; those without `requires_grad` stay frozen.
            data: column name -> numpy array or torch tensor, rows first; or split (`train`,
                `validation`) -> such a dict.
            optimizer: `homespun.AdamW`, `Adam` or `SGD`.
            steps: optimizer steps, >= 1.
            batch_size: samples per step, >= 1.
            loss: `(model, batch) -> scalar` where `batch` maps column names to tensors; or a loss
                such as `nn.CrossEntropyLoss()` or a function of `torch.nn.functional`, called as
                `loss(model(*columns[:-1]), columns[-1])`. The mean over the samples. None: the
                model's own, as those of `transformers` have one: the model is called with the
                columns as keyword arguments, and its output has a `loss`.
            validation: columns of the validation split, when `data` holds columns.
            microbatches: slices of the batch that flow through the pipeline; `batch_size` must be
                a multiple. None: the largest divisor up to 4.
            schedule: `homespun.Constant`, `Linear` or `Cosine`; None: constant.
            clip_norm: largest global L2 norm of the gradient; 0: no clipping.
            precision: `float32`, or `bfloat16` for autocast.
            recompute: compute activations again for backward instead of keeping them.
            evaluate_every: evaluate the validation split before the first step, after every so
                many steps, and at the end; 0: never. None: first and last, if there is a split.
            seed: keys sample order, dropout and every other draw, 0 <= seed < 2**64.
            peers: exact number of peers; None: the planner chooses.
            name: for people, at most 100 printable characters.

        Returns:
            The job, submitted. If this raises, no job was made.

        Raises:
            HomespunError: INVALID_ARGUMENT, EXPORT_FAILED, UNSUPPORTED_OP before anything is sent;
                LIMIT_EXCEEDED, DISK_FULL, OVERLOADED by the broker; UNREACHABLE, TIMED_OUT.
        """
        options = TrainingOptions(
            optimizer=optimizer, steps=steps, batch_size=batch_size, microbatches=microbatches,
            schedule=schedule, clip_norm=clip_norm, precision=precision, recompute=recompute,
            evaluate_every=evaluate_every, seed=seed, peers=peers, name=name)
        dataset = read_dataset(data, validation)
        wish = training_wish(options, dataset)
        from ir.frontends.torch_module import import_module

        self._notify("Exporting the model.")
        sample = dataset.sample(batch_size // wish.training.microbatches)
        return self._submit(import_module(model, loss, sample), dataset, wish)

    def submit_graph(
        self,
        graph: Readable,
        *,
        data: Mapping[str, Any],
        optimizer: Optimizer,
        steps: int,
        batch_size: int,
        validation: Mapping[str, Any] | None = None,
        loss_output: str | None = None,
        loss: str | None = None,
        target: str = "target",
        **options: Any,
    ) -> Answer:
        """Submit an ONNX graph that any framework wrote, with a loss of its own or one of ours.

        Args:
            graph: ONNX bytes or file: inputs are the data columns, initializers are the parameters.
                Or what a front end gave, such as `ir.frontends.jax_function`. Open axes are bound
                from the columns; axis 0 is the microbatch, and where it is a number, that many
                samples are taken at a time.
            data: as for `train`.
            optimizer: as for `train`.
            steps: as for `train`.
            batch_size: as for `train`.
            validation: as for `train`.
            loss_output: name of the output that is the scalar loss, or with `loss` the one that
                holds the predictions; None: the first one.
            loss: a loss to append to the output: `cross_entropy` (logits),
                `negative_log_likelihood` (probabilities), `binary_cross_entropy` (logits), `mse` or
                `mae`; None: the graph has its own.
            target: column that an appended loss compares with.
            options: the other arguments of `train`; `microbatches` follows from the graph's size,
                if that is a number.

        Raises:
            HomespunError: INVALID_GRAPH, UNSUPPORTED_OP, and as `train`.
        """
        asked = TrainingOptions(
            optimizer=optimizer, steps=steps, batch_size=batch_size, **options)
        dataset = read_dataset(data, validation)
        training_spec(asked, dataset)  # refuse what is wrong before a large file is read
        model = read_model(graph, loss_output, loss, target)
        rows = rows_of(model)
        if asked.microbatches is None and rows and batch_size % rows == 0:
            asked = replace(asked, microbatches=batch_size // rows)
        wish = training_wish(asked, dataset)
        imported = bind_columns(
            model, dataset.train, batch_size // wish.training.microbatches)
        return self._submit(imported, dataset, wish)

    def infer(
        self,
        model: torch.nn.Module | Readable,
        data: Mapping[str, Any],
        *,
        batch_size: int | None = None,
        precision: str = "float32",
        peers: int | None = None,
        name: str = "",
    ) -> Answer:
        """Run a model over all rows of a dataset, once; `Job.outputs` gives what comes out.

        Args:
            model: a torch module, traced in evaluation mode; it returns a tensor, or a tuple or
                dict of tensors. Or ONNX bytes or file, or what a front end gave; open axes are
                bound from the columns.
            data: column name -> numpy array or torch tensor, rows first. Columns that are named
                like all parameters of a module's `forward` are given by name, others in order.
            batch_size: rows that go through the model at a time, >= 1. The last rows may be fewer.
                None: what an ONNX graph was exported at; where that is open 32, or all rows if
                they are fewer.
            precision: `float32`, or `bfloat16` for autocast.
            peers: exact number of peers; None: the planner chooses.
            name: for people, at most 100 printable characters.

        Returns:
            The job, submitted. Its outputs are named as in the ONNX graph; of a module `output_0`,
            `output_1`, ..., or the keys of the dict that it returns.

        Raises:
            HomespunError: as `train`.
        """
        dataset = read_columns(data)
        size = min(DEFAULT_INFERENCE_ROWS, dataset.rows) if batch_size is None else batch_size
        # Refuse what is wrong before a large model is read.
        wish = inference_wish(dataset, size, precision, name, peers)
        if not callable(model):
            graph = read_model(model)
            if batch_size is None:
                size = rows_of(graph) or size
                wish = inference_wish(dataset, size, precision, name, peers)
            imported = bind_columns(graph, dataset.columns, size)
        else:
            from ir.frontends.torch_module import import_inference

            self._notify("Exporting the model.")
            imported = import_inference(model, dataset.sample(size))
        return self._submit(imported, dataset, wish)

    @abstractmethod
    def _submit(self, imported: Imported, dataset: Dataset, wish: Wish) -> Answer:
        """Do with the job what is to be done."""
