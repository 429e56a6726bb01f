from homespun.v1 import job_pb2 as _job_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PeerMessage(_message.Message):
    __slots__ = ("register", "heartbeat", "report", "link_measured", "availability", "piece_stored")
    REGISTER_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    LINK_MEASURED_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    PIECE_STORED_FIELD_NUMBER: _ClassVar[int]
    register: Register
    heartbeat: Heartbeat
    report: Report
    link_measured: LinkMeasured
    availability: Availability
    piece_stored: PieceStored
    def __init__(self, register: _Optional[_Union[Register, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ..., link_measured: _Optional[_Union[LinkMeasured, _Mapping]] = ..., availability: _Optional[_Union[Availability, _Mapping]] = ..., piece_stored: _Optional[_Union[PieceStored, _Mapping]] = ...) -> None: ...

class Register(_message.Message):
    __slots__ = ("protocol_version", "software_version", "name", "tensor_address", "hardware", "leases", "first_report", "standbys", "snapshots", "availability", "joins_parts")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TENSOR_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    FIRST_REPORT_FIELD_NUMBER: _ClassVar[int]
    STANDBYS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    JOINS_PARTS_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    software_version: str
    name: str
    tensor_address: str
    hardware: Hardware
    leases: _containers.RepeatedCompositeFieldContainer[HeldLease]
    first_report: int
    standbys: _containers.RepeatedCompositeFieldContainer[HeldStandby]
    snapshots: _containers.RepeatedCompositeFieldContainer[HeldSnapshot]
    availability: Availability
    joins_parts: bool
    def __init__(self, protocol_version: _Optional[int] = ..., software_version: _Optional[str] = ..., name: _Optional[str] = ..., tensor_address: _Optional[str] = ..., hardware: _Optional[_Union[Hardware, _Mapping]] = ..., leases: _Optional[_Iterable[_Union[HeldLease, _Mapping]]] = ..., first_report: _Optional[int] = ..., standbys: _Optional[_Iterable[_Union[HeldStandby, _Mapping]]] = ..., snapshots: _Optional[_Iterable[_Union[HeldSnapshot, _Mapping]]] = ..., availability: _Optional[_Union[Availability, _Mapping]] = ..., joins_parts: _Optional[bool] = ...) -> None: ...

class Hardware(_message.Message):
    __slots__ = ("device", "device_name", "memory_bytes", "matmul_flops_per_s", "attention_flops_per_s", "memory_bytes_per_s", "executor", "platform", "threads", "support", "rates")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MATMUL_FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    SUPPORT_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    device: str
    device_name: str
    memory_bytes: int
    matmul_flops_per_s: float
    attention_flops_per_s: float
    memory_bytes_per_s: float
    executor: str
    platform: str
    threads: int
    support: ExecutorSupport
    rates: Rates
    def __init__(self, device: _Optional[str] = ..., device_name: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., matmul_flops_per_s: _Optional[float] = ..., attention_flops_per_s: _Optional[float] = ..., memory_bytes_per_s: _Optional[float] = ..., executor: _Optional[str] = ..., platform: _Optional[str] = ..., threads: _Optional[int] = ..., support: _Optional[_Union[ExecutorSupport, _Mapping]] = ..., rates: _Optional[_Union[Rates, _Mapping]] = ...) -> None: ...

class Rates(_message.Message):
    __slots__ = ("matmul_flops_per_s", "attention_flops_per_s", "memory_bytes_per_s", "convolution_flops_per_s", "narrow", "forward_overhead_s", "backward_overhead_s", "is_asynchronous", "corrections")
    MATMUL_FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    CONVOLUTION_FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    NARROW_FIELD_NUMBER: _ClassVar[int]
    FORWARD_OVERHEAD_S_FIELD_NUMBER: _ClassVar[int]
    BACKWARD_OVERHEAD_S_FIELD_NUMBER: _ClassVar[int]
    IS_ASYNCHRONOUS_FIELD_NUMBER: _ClassVar[int]
    CORRECTIONS_FIELD_NUMBER: _ClassVar[int]
    matmul_flops_per_s: float
    attention_flops_per_s: float
    memory_bytes_per_s: float
    convolution_flops_per_s: float
    narrow: _containers.RepeatedCompositeFieldContainer[DenseRates]
    forward_overhead_s: float
    backward_overhead_s: float
    is_asynchronous: bool
    corrections: _containers.RepeatedCompositeFieldContainer[Correction]
    def __init__(self, matmul_flops_per_s: _Optional[float] = ..., attention_flops_per_s: _Optional[float] = ..., memory_bytes_per_s: _Optional[float] = ..., convolution_flops_per_s: _Optional[float] = ..., narrow: _Optional[_Iterable[_Union[DenseRates, _Mapping]]] = ..., forward_overhead_s: _Optional[float] = ..., backward_overhead_s: _Optional[float] = ..., is_asynchronous: _Optional[bool] = ..., corrections: _Optional[_Iterable[_Union[Correction, _Mapping]]] = ...) -> None: ...

class DenseRates(_message.Message):
    __slots__ = ("dtype", "matmul_flops_per_s", "attention_flops_per_s", "convolution_flops_per_s")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    MATMUL_FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    CONVOLUTION_FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    matmul_flops_per_s: float
    attention_flops_per_s: float
    convolution_flops_per_s: float
    def __init__(self, dtype: _Optional[str] = ..., matmul_flops_per_s: _Optional[float] = ..., attention_flops_per_s: _Optional[float] = ..., convolution_flops_per_s: _Optional[float] = ...) -> None: ...

class Correction(_message.Message):
    __slots__ = ("direction", "op_class", "factor")
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    OP_CLASS_FIELD_NUMBER: _ClassVar[int]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    direction: str
    op_class: str
    factor: float
    def __init__(self, direction: _Optional[str] = ..., op_class: _Optional[str] = ..., factor: _Optional[float] = ...) -> None: ...

class ExecutorSupport(_message.Message):
    __slots__ = ("trainable", "opset_min", "opset_max", "operators")
    TRAINABLE_FIELD_NUMBER: _ClassVar[int]
    OPSET_MIN_FIELD_NUMBER: _ClassVar[int]
    OPSET_MAX_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    trainable: bool
    opset_min: int
    opset_max: int
    operators: _containers.RepeatedCompositeFieldContainer[OperatorSupport]
    def __init__(self, trainable: _Optional[bool] = ..., opset_min: _Optional[int] = ..., opset_max: _Optional[int] = ..., operators: _Optional[_Iterable[_Union[OperatorSupport, _Mapping]]] = ...) -> None: ...

class OperatorSupport(_message.Message):
    __slots__ = ("operators", "inputs", "outputs")
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    operators: _containers.RepeatedScalarFieldContainer[str]
    inputs: _containers.RepeatedCompositeFieldContainer[DtypeSet]
    outputs: _containers.RepeatedCompositeFieldContainer[DtypeSet]
    def __init__(self, operators: _Optional[_Iterable[str]] = ..., inputs: _Optional[_Iterable[_Union[DtypeSet, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[DtypeSet, _Mapping]]] = ...) -> None: ...

class DtypeSet(_message.Message):
    __slots__ = ("dtypes",)
    DTYPES_FIELD_NUMBER: _ClassVar[int]
    dtypes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, dtypes: _Optional[_Iterable[str]] = ...) -> None: ...

class HeldLease(_message.Message):
    __slots__ = ("job_id", "segment", "token", "phase")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    segment: int
    token: int
    phase: str
    def __init__(self, job_id: _Optional[str] = ..., segment: _Optional[int] = ..., token: _Optional[int] = ..., phase: _Optional[str] = ...) -> None: ...

class HeldStandby(_message.Message):
    __slots__ = ("job_id", "segment", "token", "level")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    segment: int
    token: int
    level: str
    def __init__(self, job_id: _Optional[str] = ..., segment: _Optional[int] = ..., token: _Optional[int] = ..., level: _Optional[str] = ...) -> None: ...

class HeldSnapshot(_message.Message):
    __slots__ = ("job_id", "segment", "position", "digest", "size_bytes", "shard", "data_shards")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    DATA_SHARDS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    segment: int
    position: int
    digest: str
    size_bytes: int
    shard: int
    data_shards: int
    def __init__(self, job_id: _Optional[str] = ..., segment: _Optional[int] = ..., position: _Optional[int] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., shard: _Optional[int] = ..., data_shards: _Optional[int] = ...) -> None: ...

class Availability(_message.Message):
    __slots__ = ("availability", "deadline_ms")
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    availability: str
    deadline_ms: int
    def __init__(self, availability: _Optional[str] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("progress", "traffic")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    progress: _containers.RepeatedCompositeFieldContainer[SegmentProgress]
    traffic: _containers.RepeatedCompositeFieldContainer[LinkTraffic]
    def __init__(self, progress: _Optional[_Iterable[_Union[SegmentProgress, _Mapping]]] = ..., traffic: _Optional[_Iterable[_Union[LinkTraffic, _Mapping]]] = ...) -> None: ...

class SegmentProgress(_message.Message):
    __slots__ = ("job_id", "segment", "step", "waiting_for", "waiting_ms")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    WAITING_MS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    segment: int
    step: int
    waiting_for: str
    waiting_ms: int
    def __init__(self, job_id: _Optional[str] = ..., segment: _Optional[int] = ..., step: _Optional[int] = ..., waiting_for: _Optional[str] = ..., waiting_ms: _Optional[int] = ...) -> None: ...

class LinkTraffic(_message.Message):
    __slots__ = ("job_id", "to_peer", "sent_bytes", "received_bytes", "goodput_bytes_per_s")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TO_PEER_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    GOODPUT_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    to_peer: str
    sent_bytes: int
    received_bytes: int
    goodput_bytes_per_s: float
    def __init__(self, job_id: _Optional[str] = ..., to_peer: _Optional[str] = ..., sent_bytes: _Optional[int] = ..., received_bytes: _Optional[int] = ..., goodput_bytes_per_s: _Optional[float] = ...) -> None: ...

class PieceStored(_message.Message):
    __slots__ = ("job_id", "serial", "position", "digest", "size_bytes", "problem")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    serial: int
    position: int
    digest: str
    size_bytes: int
    problem: str
    def __init__(self, job_id: _Optional[str] = ..., serial: _Optional[int] = ..., position: _Optional[int] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class LinkMeasured(_message.Message):
    __slots__ = ("to_peer", "latency_s", "bandwidth_bytes_per_s")
    TO_PEER_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    to_peer: str
    latency_s: float
    bandwidth_bytes_per_s: float
    def __init__(self, to_peer: _Optional[str] = ..., latency_s: _Optional[float] = ..., bandwidth_bytes_per_s: _Optional[float] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("number", "job_id", "segment", "token", "ready", "steps", "evaluation", "failed", "finished", "released", "snapshot", "neighbour_lost", "standby", "pace")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_LOST_FIELD_NUMBER: _ClassVar[int]
    STANDBY_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    number: int
    job_id: str
    segment: int
    token: int
    ready: SegmentReady
    steps: StepsDone
    evaluation: EvaluationDone
    failed: SegmentFailed
    finished: SegmentFinished
    released: SegmentReleased
    snapshot: SnapshotStored
    neighbour_lost: NeighbourLost
    standby: StandbyReady
    pace: SegmentPace
    def __init__(self, number: _Optional[int] = ..., job_id: _Optional[str] = ..., segment: _Optional[int] = ..., token: _Optional[int] = ..., ready: _Optional[_Union[SegmentReady, _Mapping]] = ..., steps: _Optional[_Union[StepsDone, _Mapping]] = ..., evaluation: _Optional[_Union[EvaluationDone, _Mapping]] = ..., failed: _Optional[_Union[SegmentFailed, _Mapping]] = ..., finished: _Optional[_Union[SegmentFinished, _Mapping]] = ..., released: _Optional[_Union[SegmentReleased, _Mapping]] = ..., snapshot: _Optional[_Union[SnapshotStored, _Mapping]] = ..., neighbour_lost: _Optional[_Union[NeighbourLost, _Mapping]] = ..., standby: _Optional[_Union[StandbyReady, _Mapping]] = ..., pace: _Optional[_Union[SegmentPace, _Mapping]] = ...) -> None: ...

class SegmentReady(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotStored(_message.Message):
    __slots__ = ("position", "digest", "size_bytes", "holder", "shard", "data_shards", "seconds", "giving_s")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    DATA_SHARDS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    GIVING_S_FIELD_NUMBER: _ClassVar[int]
    position: int
    digest: str
    size_bytes: int
    holder: str
    shard: int
    data_shards: int
    seconds: float
    giving_s: float
    def __init__(self, position: _Optional[int] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., holder: _Optional[str] = ..., shard: _Optional[int] = ..., data_shards: _Optional[int] = ..., seconds: _Optional[float] = ..., giving_s: _Optional[float] = ...) -> None: ...

class NeighbourLost(_message.Message):
    __slots__ = ("neighbour", "peer_id", "code", "message")
    NEIGHBOUR_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    neighbour: int
    peer_id: str
    code: str
    message: str
    def __init__(self, neighbour: _Optional[int] = ..., peer_id: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class StandbyReady(_message.Message):
    __slots__ = ("level", "problem")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    level: str
    problem: str
    def __init__(self, level: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class SegmentPace(_message.Message):
    __slots__ = ("microbatch_s", "microbatches")
    MICROBATCH_S_FIELD_NUMBER: _ClassVar[int]
    MICROBATCHES_FIELD_NUMBER: _ClassVar[int]
    microbatch_s: float
    microbatches: int
    def __init__(self, microbatch_s: _Optional[float] = ..., microbatches: _Optional[int] = ...) -> None: ...

class StepsDone(_message.Message):
    __slots__ = ("first_step", "count", "losses")
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    first_step: int
    count: int
    losses: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, first_step: _Optional[int] = ..., count: _Optional[int] = ..., losses: _Optional[_Iterable[float]] = ...) -> None: ...

class EvaluationDone(_message.Message):
    __slots__ = ("step", "loss")
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    step: int
    loss: float
    def __init__(self, step: _Optional[int] = ..., loss: _Optional[float] = ...) -> None: ...

class SegmentFailed(_message.Message):
    __slots__ = ("code", "message", "blamed_peer", "cause", "evidence", "remedy")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BLAMED_PEER_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    blamed_peer: str
    cause: str
    evidence: str
    remedy: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., blamed_peer: _Optional[str] = ..., cause: _Optional[str] = ..., evidence: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...

class SegmentFinished(_message.Message):
    __slots__ = ("result_digest", "result_bytes", "corrections")
    RESULT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RESULT_BYTES_FIELD_NUMBER: _ClassVar[int]
    CORRECTIONS_FIELD_NUMBER: _ClassVar[int]
    result_digest: str
    result_bytes: int
    corrections: _containers.RepeatedCompositeFieldContainer[Correction]
    def __init__(self, result_digest: _Optional[str] = ..., result_bytes: _Optional[int] = ..., corrections: _Optional[_Iterable[_Union[Correction, _Mapping]]] = ...) -> None: ...

class SegmentReleased(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BrokerMessage(_message.Message):
    __slots__ = ("welcome", "reports_durable", "assign", "start", "revoke", "measure_link", "goodbye", "stand_by", "snapshot_plan", "snapshot_complete", "no_work", "store_piece")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REPORTS_DURABLE_FIELD_NUMBER: _ClassVar[int]
    ASSIGN_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    MEASURE_LINK_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    STAND_BY_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_PLAN_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    NO_WORK_FIELD_NUMBER: _ClassVar[int]
    STORE_PIECE_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    reports_durable: ReportsDurable
    assign: AssignSegment
    start: StartJob
    revoke: RevokeSegment
    measure_link: MeasureLink
    goodbye: Goodbye
    stand_by: StandBy
    snapshot_plan: SnapshotPlan
    snapshot_complete: SnapshotComplete
    no_work: NoWork
    store_piece: StorePiece
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., reports_durable: _Optional[_Union[ReportsDurable, _Mapping]] = ..., assign: _Optional[_Union[AssignSegment, _Mapping]] = ..., start: _Optional[_Union[StartJob, _Mapping]] = ..., revoke: _Optional[_Union[RevokeSegment, _Mapping]] = ..., measure_link: _Optional[_Union[MeasureLink, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., stand_by: _Optional[_Union[StandBy, _Mapping]] = ..., snapshot_plan: _Optional[_Union[SnapshotPlan, _Mapping]] = ..., snapshot_complete: _Optional[_Union[SnapshotComplete, _Mapping]] = ..., no_work: _Optional[_Union[NoWork, _Mapping]] = ..., store_piece: _Optional[_Union[StorePiece, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol_version", "software_version", "heartbeat_interval_ms", "last_report")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_REPORT_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    software_version: str
    heartbeat_interval_ms: int
    last_report: int
    def __init__(self, protocol_version: _Optional[int] = ..., software_version: _Optional[str] = ..., heartbeat_interval_ms: _Optional[int] = ..., last_report: _Optional[int] = ...) -> None: ...

class ReportsDurable(_message.Message):
    __slots__ = ("through_number",)
    THROUGH_NUMBER_FIELD_NUMBER: _ClassVar[int]
    through_number: int
    def __init__(self, through_number: _Optional[int] = ...) -> None: ...

class AssignSegment(_message.Message):
    __slots__ = ("job_id", "token", "spec", "segment", "in_flight", "segments", "stall_timeout_ms", "position", "snapshot", "parts", "first_serial")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    STALL_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SERIAL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: int
    spec: _job_pb2.JobSpec
    segment: _job_pb2.Segment
    in_flight: int
    segments: int
    stall_timeout_ms: int
    position: int
    snapshot: SnapshotSource
    parts: _containers.RepeatedCompositeFieldContainer[SnapshotPart]
    first_serial: int
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[int] = ..., spec: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., segment: _Optional[_Union[_job_pb2.Segment, _Mapping]] = ..., in_flight: _Optional[int] = ..., segments: _Optional[int] = ..., stall_timeout_ms: _Optional[int] = ..., position: _Optional[int] = ..., snapshot: _Optional[_Union[SnapshotSource, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[SnapshotPart, _Mapping]]] = ..., first_serial: _Optional[int] = ...) -> None: ...

class SnapshotPart(_message.Message):
    __slots__ = ("serial", "source")
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    serial: int
    source: SnapshotSource
    def __init__(self, serial: _Optional[int] = ..., source: _Optional[_Union[SnapshotSource, _Mapping]] = ...) -> None: ...

class Holder(_message.Message):
    __slots__ = ("peer_id", "address", "shard")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    address: str
    shard: int
    def __init__(self, peer_id: _Optional[str] = ..., address: _Optional[str] = ..., shard: _Optional[int] = ...) -> None: ...

class SnapshotSource(_message.Message):
    __slots__ = ("digest", "size_bytes", "data_shards", "holders")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_SHARDS_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size_bytes: int
    data_shards: int
    holders: _containers.RepeatedCompositeFieldContainer[Holder]
    def __init__(self, digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., data_shards: _Optional[int] = ..., holders: _Optional[_Iterable[_Union[Holder, _Mapping]]] = ...) -> None: ...

class StandBy(_message.Message):
    __slots__ = ("job_id", "token", "spec", "segment", "in_flight", "segments", "stall_timeout_ms", "level", "source", "first_serial")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    STALL_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SERIAL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: int
    spec: _job_pb2.JobSpec
    segment: _job_pb2.Segment
    in_flight: int
    segments: int
    stall_timeout_ms: int
    level: str
    source: str
    first_serial: int
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[int] = ..., spec: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., segment: _Optional[_Union[_job_pb2.Segment, _Mapping]] = ..., in_flight: _Optional[int] = ..., segments: _Optional[int] = ..., stall_timeout_ms: _Optional[int] = ..., level: _Optional[str] = ..., source: _Optional[str] = ..., first_serial: _Optional[int] = ...) -> None: ...

class SnapshotPlan(_message.Message):
    __slots__ = ("job_id", "segment", "token", "interval", "holders", "data_shards")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    DATA_SHARDS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    segment: int
    token: int
    interval: int
    holders: _containers.RepeatedCompositeFieldContainer[Holder]
    data_shards: int
    def __init__(self, job_id: _Optional[str] = ..., segment: _Optional[int] = ..., token: _Optional[int] = ..., interval: _Optional[int] = ..., holders: _Optional[_Iterable[_Union[Holder, _Mapping]]] = ..., data_shards: _Optional[int] = ...) -> None: ...

class SnapshotComplete(_message.Message):
    __slots__ = ("job_id", "segment", "token", "position")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    segment: int
    token: int
    position: int
    def __init__(self, job_id: _Optional[str] = ..., segment: _Optional[int] = ..., token: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class StorePiece(_message.Message):
    __slots__ = ("job_id", "serial", "position", "source", "timeout_ms")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    serial: int
    position: int
    source: SnapshotSource
    timeout_ms: int
    def __init__(self, job_id: _Optional[str] = ..., serial: _Optional[int] = ..., position: _Optional[int] = ..., source: _Optional[_Union[SnapshotSource, _Mapping]] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class StartJob(_message.Message):
    __slots__ = ("job_id", "segment", "token", "members")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    segment: int
    token: int
    members: _containers.RepeatedCompositeFieldContainer[Neighbour]
    def __init__(self, job_id: _Optional[str] = ..., segment: _Optional[int] = ..., token: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Neighbour, _Mapping]]] = ...) -> None: ...

class Neighbour(_message.Message):
    __slots__ = ("segment", "peer_id", "token", "tensor_address", "position")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TENSOR_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    segment: int
    peer_id: str
    token: int
    tensor_address: str
    position: int
    def __init__(self, segment: _Optional[int] = ..., peer_id: _Optional[str] = ..., token: _Optional[int] = ..., tensor_address: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class RevokeSegment(_message.Message):
    __slots__ = ("job_id", "segment", "token", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    segment: int
    token: int
    reason: str
    def __init__(self, job_id: _Optional[str] = ..., segment: _Optional[int] = ..., token: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class MeasureLink(_message.Message):
    __slots__ = ("to_peer", "tensor_address", "probe_bytes")
    TO_PEER_FIELD_NUMBER: _ClassVar[int]
    TENSOR_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PROBE_BYTES_FIELD_NUMBER: _ClassVar[int]
    to_peer: str
    tensor_address: str
    probe_bytes: int
    def __init__(self, to_peer: _Optional[str] = ..., tensor_address: _Optional[str] = ..., probe_bytes: _Optional[int] = ...) -> None: ...

class NoWork(_message.Message):
    __slots__ = ("reasons",)
    REASONS_FIELD_NUMBER: _ClassVar[int]
    reasons: _containers.RepeatedCompositeFieldContainer[NoWorkReason]
    def __init__(self, reasons: _Optional[_Iterable[_Union[NoWorkReason, _Mapping]]] = ...) -> None: ...

class NoWorkReason(_message.Message):
    __slots__ = ("rule", "jobs", "text", "change")
    RULE_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    rule: str
    jobs: int
    text: str
    change: str
    def __init__(self, rule: _Optional[str] = ..., jobs: _Optional[int] = ..., text: _Optional[str] = ..., change: _Optional[str] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
