"""What one row of the universality table is."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from dag.job import OptimizerSpec
from homespun.errors import Code

Loss = Callable[[torch.nn.Module, Mapping[str, torch.Tensor]], torch.Tensor]

ADAMW = OptimizerSpec(kind="adamw", learning_rate=1e-3, weight_decay=0.01)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model as its user holds it.

    Attributes:
        model: random weights, dropout 0 (native and ours draw from different generators).
        loss: `loss(model, batch)`, the mean over the microbatch; `batch` maps columns to tensors.
            None: the model's own.
        columns: name -> rows; at least `harness.BATCH` of them, the same number in each.
        inference: what the model reads without a loss, by argument; None: not compared.
    """

    model: torch.nn.Module
    columns: Mapping[str, np.ndarray]
    loss: Loss | None = None
    inference: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a model cannot be imported: the error's code and a part of its message."""

    code: Code
    text: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model of the table.

    Attributes:
        name: what people call it; unique.
        family: heading in the table.
        source: the class, such as `transformers.ViTForImageClassification`, or what it is made of.
        build: makes the case; torch's generator was seeded before. It imports what it needs, so
            that the catalogue itself is quick to read.
        tolerance: bound on every relative error, in float32.
        optimizer: how both sides update.
        branches: False for a plain chain of layers, where nothing can skip a segment.
        refusal: set for a model that cannot be imported.
        memory_off: why the predicted memory is off by more than a quarter; most entries have none.
        uncounted: why torch counts other operations in the native module than the graph has.
        notes: what a reader should know, such as the reason of a tolerance.
    """

    name: str
    family: str
    source: str
    build: Callable[[], Case]
    tolerance: float = 1e-4
    optimizer: OptimizerSpec = ADAMW
    branches: bool = True
    refusal: Refusal | None = None
    memory_off: str = ""
    uncounted: str = ""
    notes: str = ""

    @property
    def slug(self) -> str:
        """Name of its file of results."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the harness found about one entry. Errors are relative.

    Attributes:
        parameters: elements of the trainable parameters.
        nodes: operator calls of the graph.
        operators: different operators among them.
        updates: buffers that training changes by the graph (running statistics).
        boundary_tensors: tensors that cross between the three segments.
        skips: how many of them pass over a segment.
        fan_out: most boundary tensors from one segment to another.
        loss_error: largest over the steps.
        gradient_error: largest over the parameters, first step.
        state_error: largest over the updated buffers, after the last step.
        evaluation_error: of the loss in evaluation mode, after the last step.
        same_bits: whether one segment gave the losses and the state of three.
        inference_error: largest of an output without a loss.
        import_seconds: processor time of the import, one thread.
        training_memory: predicted over measured peak of the whole model as one segment.
        inference_memory: the same for a forward that keeps nothing.
        flops: predicted over counted operations of one forward with the loss, of our executor.
        native_flops: the same of the native module.
    """

    parameters: int
    nodes: int
    operators: int
    updates: int
    boundary_tensors: int
    skips: int
    fan_out: int
    loss_error: float
    gradient_error: float
    state_error: float
    evaluation_error: float
    same_bits: bool
    inference_error: float
    import_seconds: float
    training_memory: float
    inference_memory: float
    flops: float
    native_flops: float
