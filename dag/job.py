"""A job as data: what a submitter asks for. Frozen; the wire form is `homespun/v1/job.proto`.

Field names equal those of the protobuf messages, which is how `homespun.wire` converts them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ir.graph import INFER, TRAIN, TensorType

PREDICT = "predict"
"""The one split of an inference job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterRef:
    """One named tensor of the model's state, stored as a blob.

    Attributes:
        name: the original `state_dict` name; also the name of the graph input.
        aliases: other `state_dict` names of the very same tensor (tied weights).
        digest: BLAKE3 of the blob: a safetensors file that holds this one tensor under `name`.
        blob_bytes: size of that blob.
        type: dtype and shape.
        trainable: False for frozen parameters and buffers.
    """

    name: str
    aliases: tuple[str, ...]
    digest: str
    blob_bytes: int
    type: TensorType
    trainable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRef:
    """One column of a dataset split, stored as a blob.

    Attributes:
        name: the name of the graph's data input that it feeds.
        split: `train` or `validation`; of an inference job `predict`.
        digest: BLAKE3 of the blob: a safetensors file that holds one tensor under `name`.
        blob_bytes: size of that blob.
        type: dtype and shape of the whole column, rows first.
    """

    name: str
    split: str
    digest: str
    blob_bytes: int
    type: TensorType


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """Which optimizer, with every number. `kind`: `sgd`, `adam` or `adamw`.

    Semantics are those of `torch.optim` for the same names (Adam's `weight_decay` is L2, AdamW's is
    decoupled). Fields that a kind does not use are ignored.
    """

    kind: str
    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """Learning rate over steps: a factor on `OptimizerSpec.learning_rate`.

    `kind`: `constant`, `linear` (decay to `final_ratio`), `cosine` (decay to `final_ratio`). All
    three first rise linearly over `warmup_steps` (factor `(step + 1) / warmup_steps`).
    `total_steps` is where the decay ends; 0 means the job's number of steps.
    """

    kind: str = "constant"
    warmup_steps: int = 0
    total_steps: int = 0
    final_ratio: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """How to train; for inference, how the rows flow (see `inference_spec`).

    Attributes:
        steps: optimizer steps, >= 1. For inference the microbatches that all rows make.
        batch_size: samples per step, a multiple of `microbatches`.
        microbatches: slices of the batch that flow through the pipeline; the gradient of a step is
            the mean of theirs.
        seed: keys the sample order, dropout and every other draw.
        optimizer: the update rule.
        schedule: the learning rate over steps.
        clip_norm: largest global L2 norm of the gradient; 0 means no clipping.
        precision: `float32`, or `bfloat16` for autocast (parameters stay float32).
        recompute: drop activations after forward and compute them again for backward.
        evaluate_every: evaluate the validation split before step 0, after every so many steps, and
            at the end; 0 means never.
    """

    steps: int
    batch_size: int
    microbatches: int
    seed: int
    optimizer: OptimizerSpec
    schedule: ScheduleSpec = ScheduleSpec()
    clip_norm: float = 0.0
    precision: str = "float32"
    recompute: bool = False
    evaluate_every: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """Everything a job is.

    Attributes:
        name: for people; at most 100 printable characters.
        graph_digest: BLAKE3 of the ONNX bytes (no weights inside), exported at microbatch size.
        graph_bytes: size of that blob.
        parameters: the model's state, in `state_dict` order.
        columns: the dataset; all columns of a split have the same number of rows.
        training: how to train.
        peers: exact number of peers to use; 0 lets the planner choose.
        kind: `TRAIN`, or `INFER`: the rows of the split `predict` go through the model once, in
            order, and the graph's outputs are the result. Nothing is trained, whatever
            `ParameterRef.trainable` says.
    """

    name: str
    graph_digest: str
    graph_bytes: int
    parameters: tuple[ParameterRef, ...]
    columns: tuple[ColumnRef, ...]
    training: TrainingSpec
    peers: int = 0
    kind: str = TRAIN

    @property
    def trainable(self) -> frozenset[str]:
        """Names of the parameters that the optimizer updates; none for inference."""
        if self.kind == INFER:
            return frozenset()
        return frozenset(ref.name for ref in self.parameters if ref.trainable)

    @property
    def flow(self) -> int:
        """Microbatches that flow through the pipeline before it runs empty, >= 1."""
        return self.training.steps if self.kind == INFER else self.training.microbatches

    @property
    def samples(self) -> int:
        """Samples that the whole job works on: rows to predict, or batches times their size."""
        if self.kind == INFER:
            return self.rows(PREDICT)
        return self.training.steps * self.training.batch_size

    def rows(self, split: str) -> int:
        """Rows of a split of the dataset; 0 where it has none."""
        return next((ref.type.shape[0] for ref in self.columns if ref.split == split), 0)


def inference_spec(rows: int, batch_size: int, precision: str = "float32") -> TrainingSpec:
    """How the rows of an inference job flow: a step is one microbatch of `batch_size` rows.

    Args:
        rows: rows of the split `predict`, >= 1. The last microbatch is filled up by repeating the
            last row; what that gives is cut off again.
        batch_size: rows of a microbatch, >= 1.
        precision: as `TrainingSpec.precision`.
    """
    return TrainingSpec(
        steps=-(-rows // batch_size), batch_size=batch_size, microbatches=1, seed=0,
        optimizer=OptimizerSpec(kind="sgd", learning_rate=0.0), precision=precision)
