from homespun.v1 import job_pb2 as _job_pb2
from homespun.v1 import operator_pb2 as _operator_pb2
from homespun.v1 import session_pb2 as _session_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitRequest(_message.Message):
    __slots__ = ("spec", "request_id", "protocol_version")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    spec: _job_pb2.JobSpec
    request_id: str
    protocol_version: int
    def __init__(self, spec: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., request_id: _Optional[str] = ..., protocol_version: _Optional[int] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[JobStatus]
    def __init__(self, jobs: _Optional[_Iterable[_Union[JobStatus, _Mapping]]] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job_id", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    reason: str
    def __init__(self, job_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class GetResultRequest(_message.Message):
    __slots__ = ("job_id", "partial")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    partial: bool
    def __init__(self, job_id: _Optional[str] = ..., partial: _Optional[bool] = ...) -> None: ...

class GetMetricsRequest(_message.Message):
    __slots__ = ("job_id", "from_step")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_STEP_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    from_step: int
    def __init__(self, job_id: _Optional[str] = ..., from_step: _Optional[int] = ...) -> None: ...

class JobStatus(_message.Message):
    __slots__ = ("job_id", "name", "owner_id", "state", "steps_done", "steps_total", "last_loss", "has_loss", "last_loss_step", "first_loss", "error_code", "error_message", "submitted_unix_ms", "finished_unix_ms", "segments", "idle", "algorithm", "predicted_step_s", "batch_size", "samples_done", "last_validation_loss", "has_validation_loss", "kind", "samples_total", "growth", "recuts", "owner_name", "partial")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEPS_DONE_FIELD_NUMBER: _ClassVar[int]
    STEPS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    LAST_LOSS_FIELD_NUMBER: _ClassVar[int]
    HAS_LOSS_FIELD_NUMBER: _ClassVar[int]
    LAST_LOSS_STEP_FIELD_NUMBER: _ClassVar[int]
    FIRST_LOSS_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_STEP_S_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_DONE_FIELD_NUMBER: _ClassVar[int]
    LAST_VALIDATION_LOSS_FIELD_NUMBER: _ClassVar[int]
    HAS_VALIDATION_LOSS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    GROWTH_FIELD_NUMBER: _ClassVar[int]
    RECUTS_FIELD_NUMBER: _ClassVar[int]
    OWNER_NAME_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    name: str
    owner_id: str
    state: str
    steps_done: int
    steps_total: int
    last_loss: float
    has_loss: bool
    last_loss_step: int
    first_loss: float
    error_code: str
    error_message: str
    submitted_unix_ms: int
    finished_unix_ms: int
    segments: _containers.RepeatedCompositeFieldContainer[SegmentStatus]
    idle: _containers.RepeatedCompositeFieldContainer[_job_pb2.Refusal]
    algorithm: str
    predicted_step_s: float
    batch_size: int
    samples_done: int
    last_validation_loss: float
    has_validation_loss: bool
    kind: str
    samples_total: int
    growth: str
    recuts: _containers.RepeatedCompositeFieldContainer[Recut]
    owner_name: str
    partial: PartialResult
    def __init__(self, job_id: _Optional[str] = ..., name: _Optional[str] = ..., owner_id: _Optional[str] = ..., state: _Optional[str] = ..., steps_done: _Optional[int] = ..., steps_total: _Optional[int] = ..., last_loss: _Optional[float] = ..., has_loss: _Optional[bool] = ..., last_loss_step: _Optional[int] = ..., first_loss: _Optional[float] = ..., error_code: _Optional[str] = ..., error_message: _Optional[str] = ..., submitted_unix_ms: _Optional[int] = ..., finished_unix_ms: _Optional[int] = ..., segments: _Optional[_Iterable[_Union[SegmentStatus, _Mapping]]] = ..., idle: _Optional[_Iterable[_Union[_job_pb2.Refusal, _Mapping]]] = ..., algorithm: _Optional[str] = ..., predicted_step_s: _Optional[float] = ..., batch_size: _Optional[int] = ..., samples_done: _Optional[int] = ..., last_validation_loss: _Optional[float] = ..., has_validation_loss: _Optional[bool] = ..., kind: _Optional[str] = ..., samples_total: _Optional[int] = ..., growth: _Optional[str] = ..., recuts: _Optional[_Iterable[_Union[Recut, _Mapping]]] = ..., owner_name: _Optional[str] = ..., partial: _Optional[_Union[PartialResult, _Mapping]] = ...) -> None: ...

class PartialResult(_message.Message):
    __slots__ = ("position", "pieces", "stored", "until_unix_ms", "missing")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    UNTIL_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    position: int
    pieces: int
    stored: int
    until_unix_ms: int
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, position: _Optional[int] = ..., pieces: _Optional[int] = ..., stored: _Optional[int] = ..., until_unix_ms: _Optional[int] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...

class Recut(_message.Message):
    __slots__ = ("position", "segments_before", "segments_after", "before_s", "after_s", "stop_s", "saved_s", "payback_s", "unix_ms")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_AFTER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_S_FIELD_NUMBER: _ClassVar[int]
    AFTER_S_FIELD_NUMBER: _ClassVar[int]
    STOP_S_FIELD_NUMBER: _ClassVar[int]
    SAVED_S_FIELD_NUMBER: _ClassVar[int]
    PAYBACK_S_FIELD_NUMBER: _ClassVar[int]
    UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    position: int
    segments_before: int
    segments_after: int
    before_s: float
    after_s: float
    stop_s: float
    saved_s: float
    payback_s: float
    unix_ms: int
    def __init__(self, position: _Optional[int] = ..., segments_before: _Optional[int] = ..., segments_after: _Optional[int] = ..., before_s: _Optional[float] = ..., after_s: _Optional[float] = ..., stop_s: _Optional[float] = ..., saved_s: _Optional[float] = ..., payback_s: _Optional[float] = ..., unix_ms: _Optional[int] = ...) -> None: ...

class SegmentStatus(_message.Message):
    __slots__ = ("segment", "peer_id", "peer_name", "token", "phase", "step", "waiting_for", "waiting_ms", "nodes", "parameter_bytes", "memory_bytes", "links")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    WAITING_MS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    segment: int
    peer_id: str
    peer_name: str
    token: int
    phase: str
    step: int
    waiting_for: str
    waiting_ms: int
    nodes: int
    parameter_bytes: int
    memory_bytes: int
    links: _containers.RepeatedCompositeFieldContainer[LinkStatus]
    def __init__(self, segment: _Optional[int] = ..., peer_id: _Optional[str] = ..., peer_name: _Optional[str] = ..., token: _Optional[int] = ..., phase: _Optional[str] = ..., step: _Optional[int] = ..., waiting_for: _Optional[str] = ..., waiting_ms: _Optional[int] = ..., nodes: _Optional[int] = ..., parameter_bytes: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., links: _Optional[_Iterable[_Union[LinkStatus, _Mapping]]] = ...) -> None: ...

class LinkStatus(_message.Message):
    __slots__ = ("to_peer", "sent_bytes")
    TO_PEER_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    to_peer: str
    sent_bytes: int
    def __init__(self, to_peer: _Optional[str] = ..., sent_bytes: _Optional[int] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("job_id", "from_step")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_STEP_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    from_step: int
    def __init__(self, job_id: _Optional[str] = ..., from_step: _Optional[int] = ...) -> None: ...

class JobUpdate(_message.Message):
    __slots__ = ("status", "steps", "evaluations")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    status: JobStatus
    steps: _containers.RepeatedCompositeFieldContainer[StepMetric]
    evaluations: _containers.RepeatedCompositeFieldContainer[EvaluationMetric]
    def __init__(self, status: _Optional[_Union[JobStatus, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[StepMetric, _Mapping]]] = ..., evaluations: _Optional[_Iterable[_Union[EvaluationMetric, _Mapping]]] = ...) -> None: ...

class StepMetric(_message.Message):
    __slots__ = ("step", "loss", "unix_ms")
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    step: int
    loss: float
    unix_ms: int
    def __init__(self, step: _Optional[int] = ..., loss: _Optional[float] = ..., unix_ms: _Optional[int] = ...) -> None: ...

class EvaluationMetric(_message.Message):
    __slots__ = ("step", "loss", "unix_ms")
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    step: int
    loss: float
    unix_ms: int
    def __init__(self, step: _Optional[int] = ..., loss: _Optional[float] = ..., unix_ms: _Optional[int] = ...) -> None: ...

class JobMetrics(_message.Message):
    __slots__ = ("steps", "evaluations")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[StepMetric]
    evaluations: _containers.RepeatedCompositeFieldContainer[EvaluationMetric]
    def __init__(self, steps: _Optional[_Iterable[_Union[StepMetric, _Mapping]]] = ..., evaluations: _Optional[_Iterable[_Union[EvaluationMetric, _Mapping]]] = ...) -> None: ...

class JobResult(_message.Message):
    __slots__ = ("job_id", "parts", "parameters", "outputs", "position")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    parts: _containers.RepeatedCompositeFieldContainer[ResultPart]
    parameters: _containers.RepeatedCompositeFieldContainer[_job_pb2.ParameterRef]
    outputs: _containers.RepeatedCompositeFieldContainer[_job_pb2.ResultTensor]
    position: int
    def __init__(self, job_id: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[ResultPart, _Mapping]]] = ..., parameters: _Optional[_Iterable[_Union[_job_pb2.ParameterRef, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[_job_pb2.ResultTensor, _Mapping]]] = ..., position: _Optional[int] = ...) -> None: ...

class ResultPart(_message.Message):
    __slots__ = ("segment", "digest", "blob_bytes")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BLOB_BYTES_FIELD_NUMBER: _ClassVar[int]
    segment: int
    digest: str
    blob_bytes: int
    def __init__(self, segment: _Optional[int] = ..., digest: _Optional[str] = ..., blob_bytes: _Optional[int] = ...) -> None: ...

class GetFleetRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FleetPart(_message.Message):
    __slots__ = ("supports", "peers", "links")
    SUPPORTS_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    supports: _containers.RepeatedCompositeFieldContainer[_session_pb2.ExecutorSupport]
    peers: _containers.RepeatedCompositeFieldContainer[FleetPeer]
    links: _containers.RepeatedCompositeFieldContainer[FleetLink]
    def __init__(self, supports: _Optional[_Iterable[_Union[_session_pb2.ExecutorSupport, _Mapping]]] = ..., peers: _Optional[_Iterable[_Union[FleetPeer, _Mapping]]] = ..., links: _Optional[_Iterable[_Union[FleetLink, _Mapping]]] = ...) -> None: ...

class FleetPeer(_message.Message):
    __slots__ = ("peer_id", "name", "is_free", "device_name", "memory_bytes", "executor", "rates", "support")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    IS_FREE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    SUPPORT_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    name: str
    is_free: bool
    device_name: str
    memory_bytes: int
    executor: str
    rates: _session_pb2.Rates
    support: int
    def __init__(self, peer_id: _Optional[str] = ..., name: _Optional[str] = ..., is_free: _Optional[bool] = ..., device_name: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., executor: _Optional[str] = ..., rates: _Optional[_Union[_session_pb2.Rates, _Mapping]] = ..., support: _Optional[int] = ...) -> None: ...

class FleetLink(_message.Message):
    __slots__ = ("source", "target", "latency_s", "bandwidth_bytes_per_s")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    latency_s: float
    bandwidth_bytes_per_s: float
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., latency_s: _Optional[float] = ..., bandwidth_bytes_per_s: _Optional[float] = ...) -> None: ...

class ExplainPlacementRequest(_message.Message):
    __slots__ = ("job_id", "segment")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    segment: int
    def __init__(self, job_id: _Optional[str] = ..., segment: _Optional[int] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("job_id", "state", "reason", "algorithm", "step_s", "offers", "bounds", "segments", "idle")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    STEP_S_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    state: str
    reason: str
    algorithm: str
    step_s: float
    offers: _containers.RepeatedCompositeFieldContainer[Offer]
    bounds: _containers.RepeatedCompositeFieldContainer[Bound]
    segments: _containers.RepeatedCompositeFieldContainer[SegmentExplanation]
    idle: _containers.RepeatedCompositeFieldContainer[_job_pb2.Refusal]
    def __init__(self, job_id: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., algorithm: _Optional[str] = ..., step_s: _Optional[float] = ..., offers: _Optional[_Iterable[_Union[Offer, _Mapping]]] = ..., bounds: _Optional[_Iterable[_Union[Bound, _Mapping]]] = ..., segments: _Optional[_Iterable[_Union[SegmentExplanation, _Mapping]]] = ..., idle: _Optional[_Iterable[_Union[_job_pb2.Refusal, _Mapping]]] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("algorithm", "has_plan", "step_s", "reason")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    HAS_PLAN_FIELD_NUMBER: _ClassVar[int]
    STEP_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    algorithm: str
    has_plan: bool
    step_s: float
    reason: str
    def __init__(self, algorithm: _Optional[str] = ..., has_plan: _Optional[bool] = ..., step_s: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class Bound(_message.Message):
    __slots__ = ("rule", "segment", "text")
    RULE_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    rule: str
    segment: int
    text: str
    def __init__(self, rule: _Optional[str] = ..., segment: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class SegmentExplanation(_message.Message):
    __slots__ = ("segment", "peer_id", "peer_name", "phase", "rule", "why", "planned_peer_id", "planned_peer_name", "nodes", "memory_bytes", "memory_lent_bytes", "in_flight", "predicted_s", "measured_s", "alternatives", "more_alternatives")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_NAME_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    PLANNED_PEER_ID_FIELD_NUMBER: _ClassVar[int]
    PLANNED_PEER_NAME_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_S_FIELD_NUMBER: _ClassVar[int]
    MEASURED_S_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    MORE_ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    segment: int
    peer_id: str
    peer_name: str
    phase: str
    rule: str
    why: str
    planned_peer_id: str
    planned_peer_name: str
    nodes: int
    memory_bytes: int
    memory_lent_bytes: int
    in_flight: int
    predicted_s: float
    measured_s: float
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternative]
    more_alternatives: int
    def __init__(self, segment: _Optional[int] = ..., peer_id: _Optional[str] = ..., peer_name: _Optional[str] = ..., phase: _Optional[str] = ..., rule: _Optional[str] = ..., why: _Optional[str] = ..., planned_peer_id: _Optional[str] = ..., planned_peer_name: _Optional[str] = ..., nodes: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., memory_lent_bytes: _Optional[int] = ..., in_flight: _Optional[int] = ..., predicted_s: _Optional[float] = ..., measured_s: _Optional[float] = ..., alternatives: _Optional[_Iterable[_Union[Alternative, _Mapping]]] = ..., more_alternatives: _Optional[int] = ...) -> None: ...

class Alternative(_message.Message):
    __slots__ = ("peer_id", "peer_name", "microbatch_s", "level", "rule", "text")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_NAME_FIELD_NUMBER: _ClassVar[int]
    MICROBATCH_S_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    peer_name: str
    microbatch_s: float
    level: str
    rule: str
    text: str
    def __init__(self, peer_id: _Optional[str] = ..., peer_name: _Optional[str] = ..., microbatch_s: _Optional[float] = ..., level: _Optional[str] = ..., rule: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...
