from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TensorType(_message.Message):
    __slots__ = ("dtype", "shape")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class ParameterRef(_message.Message):
    __slots__ = ("name", "aliases", "digest", "blob_bytes", "type", "trainable")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BLOB_BYTES_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    digest: str
    blob_bytes: int
    type: TensorType
    trainable: bool
    def __init__(self, name: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., digest: _Optional[str] = ..., blob_bytes: _Optional[int] = ..., type: _Optional[_Union[TensorType, _Mapping]] = ..., trainable: _Optional[bool] = ...) -> None: ...

class ColumnRef(_message.Message):
    __slots__ = ("name", "split", "digest", "blob_bytes", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BLOB_BYTES_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    split: str
    digest: str
    blob_bytes: int
    type: TensorType
    def __init__(self, name: _Optional[str] = ..., split: _Optional[str] = ..., digest: _Optional[str] = ..., blob_bytes: _Optional[int] = ..., type: _Optional[_Union[TensorType, _Mapping]] = ...) -> None: ...

class OptimizerSpec(_message.Message):
    __slots__ = ("kind", "learning_rate", "beta1", "beta2", "epsilon", "weight_decay", "momentum", "nesterov")
    KIND_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    BETA1_FIELD_NUMBER: _ClassVar[int]
    BETA2_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    MOMENTUM_FIELD_NUMBER: _ClassVar[int]
    NESTEROV_FIELD_NUMBER: _ClassVar[int]
    kind: str
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    momentum: float
    nesterov: bool
    def __init__(self, kind: _Optional[str] = ..., learning_rate: _Optional[float] = ..., beta1: _Optional[float] = ..., beta2: _Optional[float] = ..., epsilon: _Optional[float] = ..., weight_decay: _Optional[float] = ..., momentum: _Optional[float] = ..., nesterov: _Optional[bool] = ...) -> None: ...

class ScheduleSpec(_message.Message):
    __slots__ = ("kind", "warmup_steps", "total_steps", "final_ratio")
    KIND_FIELD_NUMBER: _ClassVar[int]
    WARMUP_STEPS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    FINAL_RATIO_FIELD_NUMBER: _ClassVar[int]
    kind: str
    warmup_steps: int
    total_steps: int
    final_ratio: float
    def __init__(self, kind: _Optional[str] = ..., warmup_steps: _Optional[int] = ..., total_steps: _Optional[int] = ..., final_ratio: _Optional[float] = ...) -> None: ...

class TrainingSpec(_message.Message):
    __slots__ = ("steps", "batch_size", "microbatches", "seed", "optimizer", "schedule", "clip_norm", "precision", "recompute", "evaluate_every")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    MICROBATCHES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    CLIP_NORM_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTE_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_EVERY_FIELD_NUMBER: _ClassVar[int]
    steps: int
    batch_size: int
    microbatches: int
    seed: int
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    clip_norm: float
    precision: str
    recompute: bool
    evaluate_every: int
    def __init__(self, steps: _Optional[int] = ..., batch_size: _Optional[int] = ..., microbatches: _Optional[int] = ..., seed: _Optional[int] = ..., optimizer: _Optional[_Union[OptimizerSpec, _Mapping]] = ..., schedule: _Optional[_Union[ScheduleSpec, _Mapping]] = ..., clip_norm: _Optional[float] = ..., precision: _Optional[str] = ..., recompute: _Optional[bool] = ..., evaluate_every: _Optional[int] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("name", "graph_digest", "graph_bytes", "parameters", "columns", "training", "peers", "kind")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GRAPH_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GRAPH_BYTES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    name: str
    graph_digest: str
    graph_bytes: int
    parameters: _containers.RepeatedCompositeFieldContainer[ParameterRef]
    columns: _containers.RepeatedCompositeFieldContainer[ColumnRef]
    training: TrainingSpec
    peers: int
    kind: str
    def __init__(self, name: _Optional[str] = ..., graph_digest: _Optional[str] = ..., graph_bytes: _Optional[int] = ..., parameters: _Optional[_Iterable[_Union[ParameterRef, _Mapping]]] = ..., columns: _Optional[_Iterable[_Union[ColumnRef, _Mapping]]] = ..., training: _Optional[_Union[TrainingSpec, _Mapping]] = ..., peers: _Optional[int] = ..., kind: _Optional[str] = ...) -> None: ...

class BoundaryTensor(_message.Message):
    __slots__ = ("edge", "value", "kind", "source", "target", "type", "differentiable", "consumers", "contributions")
    EDGE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENTIABLE_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    edge: int
    value: str
    kind: str
    source: int
    target: int
    type: TensorType
    differentiable: bool
    consumers: _containers.RepeatedScalarFieldContainer[int]
    contributions: int
    def __init__(self, edge: _Optional[int] = ..., value: _Optional[str] = ..., kind: _Optional[str] = ..., source: _Optional[int] = ..., target: _Optional[int] = ..., type: _Optional[_Union[TensorType, _Mapping]] = ..., differentiable: _Optional[bool] = ..., consumers: _Optional[_Iterable[int]] = ..., contributions: _Optional[int] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("index", "nodes", "parameters", "data_inputs", "incoming", "outgoing", "has_loss", "results")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    DATA_INPUTS_FIELD_NUMBER: _ClassVar[int]
    INCOMING_FIELD_NUMBER: _ClassVar[int]
    OUTGOING_FIELD_NUMBER: _ClassVar[int]
    HAS_LOSS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    index: int
    nodes: _containers.RepeatedScalarFieldContainer[int]
    parameters: _containers.RepeatedScalarFieldContainer[str]
    data_inputs: _containers.RepeatedScalarFieldContainer[str]
    incoming: _containers.RepeatedCompositeFieldContainer[BoundaryTensor]
    outgoing: _containers.RepeatedCompositeFieldContainer[BoundaryTensor]
    has_loss: bool
    results: _containers.RepeatedCompositeFieldContainer[ResultTensor]
    def __init__(self, index: _Optional[int] = ..., nodes: _Optional[_Iterable[int]] = ..., parameters: _Optional[_Iterable[str]] = ..., data_inputs: _Optional[_Iterable[str]] = ..., incoming: _Optional[_Iterable[_Union[BoundaryTensor, _Mapping]]] = ..., outgoing: _Optional[_Iterable[_Union[BoundaryTensor, _Mapping]]] = ..., has_loss: _Optional[bool] = ..., results: _Optional[_Iterable[_Union[ResultTensor, _Mapping]]] = ...) -> None: ...

class ResultTensor(_message.Message):
    __slots__ = ("name", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: TensorType
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[TensorType, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("subject", "rule", "wanted", "had", "text", "subject_name", "node")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    HAD_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    subject: str
    rule: str
    wanted: float
    had: float
    text: str
    subject_name: str
    node: str
    def __init__(self, subject: _Optional[str] = ..., rule: _Optional[str] = ..., wanted: _Optional[float] = ..., had: _Optional[float] = ..., text: _Optional[str] = ..., subject_name: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...
