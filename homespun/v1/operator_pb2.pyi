from homespun.v1 import session_pb2 as _session_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListMembersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MembersPart(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[MemberStatus]
    def __init__(self, members: _Optional[_Iterable[_Union[MemberStatus, _Mapping]]] = ...) -> None: ...

class MemberStatus(_message.Message):
    __slots__ = ("member_id", "name", "label", "role", "state", "standing", "ban_reason", "joined_unix_ms", "last_seen_unix_ms", "certificate_expires_unix_ms", "unfinished_jobs", "key_id")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    BAN_REASON_FIELD_NUMBER: _ClassVar[int]
    JOINED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    UNFINISHED_JOBS_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    name: str
    label: str
    role: str
    state: str
    standing: str
    ban_reason: str
    joined_unix_ms: int
    last_seen_unix_ms: int
    certificate_expires_unix_ms: int
    unfinished_jobs: int
    key_id: str
    def __init__(self, member_id: _Optional[str] = ..., name: _Optional[str] = ..., label: _Optional[str] = ..., role: _Optional[str] = ..., state: _Optional[str] = ..., standing: _Optional[str] = ..., ban_reason: _Optional[str] = ..., joined_unix_ms: _Optional[int] = ..., last_seen_unix_ms: _Optional[int] = ..., certificate_expires_unix_ms: _Optional[int] = ..., unfinished_jobs: _Optional[int] = ..., key_id: _Optional[str] = ...) -> None: ...

class ForgetPeerRequest(_message.Message):
    __slots__ = ("peer", "reason")
    PEER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    peer: str
    reason: str
    def __init__(self, peer: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ForgetPeerResponse(_message.Message):
    __slots__ = ("peer_id",)
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    def __init__(self, peer_id: _Optional[str] = ...) -> None: ...

class ListPeersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPeersResponse(_message.Message):
    __slots__ = ("peers", "newcomers")
    PEERS_FIELD_NUMBER: _ClassVar[int]
    NEWCOMERS_FIELD_NUMBER: _ClassVar[int]
    peers: _containers.RepeatedCompositeFieldContainer[PeerStatus]
    newcomers: _containers.RepeatedCompositeFieldContainer[Newcomer]
    def __init__(self, peers: _Optional[_Iterable[_Union[PeerStatus, _Mapping]]] = ..., newcomers: _Optional[_Iterable[_Union[Newcomer, _Mapping]]] = ...) -> None: ...

class Newcomer(_message.Message):
    __slots__ = ("peer_id", "name", "key_id", "joined_unix_ms")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    JOINED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    name: str
    key_id: str
    joined_unix_ms: int
    def __init__(self, peer_id: _Optional[str] = ..., name: _Optional[str] = ..., key_id: _Optional[str] = ..., joined_unix_ms: _Optional[int] = ...) -> None: ...

class PeerStatus(_message.Message):
    __slots__ = ("peer_id", "name", "state", "hardware", "tensor_address", "software_version", "last_seen_unix_ms", "leases", "links", "availability", "is_drained", "drain_unix_ms", "standbys", "standing", "ban_reason", "label")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    IS_DRAINED_FIELD_NUMBER: _ClassVar[int]
    DRAIN_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    STANDBYS_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    BAN_REASON_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    name: str
    state: str
    hardware: _session_pb2.Hardware
    tensor_address: str
    software_version: str
    last_seen_unix_ms: int
    leases: _containers.RepeatedCompositeFieldContainer[_session_pb2.HeldLease]
    links: _containers.RepeatedCompositeFieldContainer[_session_pb2.LinkMeasured]
    availability: str
    is_drained: bool
    drain_unix_ms: int
    standbys: _containers.RepeatedCompositeFieldContainer[_session_pb2.HeldStandby]
    standing: str
    ban_reason: str
    label: str
    def __init__(self, peer_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[str] = ..., hardware: _Optional[_Union[_session_pb2.Hardware, _Mapping]] = ..., tensor_address: _Optional[str] = ..., software_version: _Optional[str] = ..., last_seen_unix_ms: _Optional[int] = ..., leases: _Optional[_Iterable[_Union[_session_pb2.HeldLease, _Mapping]]] = ..., links: _Optional[_Iterable[_Union[_session_pb2.LinkMeasured, _Mapping]]] = ..., availability: _Optional[str] = ..., is_drained: _Optional[bool] = ..., drain_unix_ms: _Optional[int] = ..., standbys: _Optional[_Iterable[_Union[_session_pb2.HeldStandby, _Mapping]]] = ..., standing: _Optional[str] = ..., ban_reason: _Optional[str] = ..., label: _Optional[str] = ...) -> None: ...

class CreateKeyRequest(_message.Message):
    __slots__ = ("role", "reusable", "lifetime_ms", "reason", "needs_admission")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REUSABLE_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NEEDS_ADMISSION_FIELD_NUMBER: _ClassVar[int]
    role: str
    reusable: bool
    lifetime_ms: int
    reason: str
    needs_admission: bool
    def __init__(self, role: _Optional[str] = ..., reusable: _Optional[bool] = ..., lifetime_ms: _Optional[int] = ..., reason: _Optional[str] = ..., needs_admission: _Optional[bool] = ...) -> None: ...

class CreateKeyResponse(_message.Message):
    __slots__ = ("key", "key_id", "expires_unix_ms")
    KEY_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    key: str
    key_id: str
    expires_unix_ms: int
    def __init__(self, key: _Optional[str] = ..., key_id: _Optional[str] = ..., expires_unix_ms: _Optional[int] = ...) -> None: ...

class ListKeysRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListKeysResponse(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[KeyStatus]
    def __init__(self, keys: _Optional[_Iterable[_Union[KeyStatus, _Mapping]]] = ...) -> None: ...

class KeyStatus(_message.Message):
    __slots__ = ("key_id", "role", "reusable", "expires_unix_ms", "uses", "revoked", "needs_admission")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REUSABLE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    NEEDS_ADMISSION_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    role: str
    reusable: bool
    expires_unix_ms: int
    uses: int
    revoked: bool
    needs_admission: bool
    def __init__(self, key_id: _Optional[str] = ..., role: _Optional[str] = ..., reusable: _Optional[bool] = ..., expires_unix_ms: _Optional[int] = ..., uses: _Optional[int] = ..., revoked: _Optional[bool] = ..., needs_admission: _Optional[bool] = ...) -> None: ...

class RevokeKeyRequest(_message.Message):
    __slots__ = ("key_id", "reason")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    reason: str
    def __init__(self, key_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RevokeKeyResponse(_message.Message):
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    def __init__(self, key_id: _Optional[str] = ...) -> None: ...

class DrainPeerRequest(_message.Message):
    __slots__ = ("peer", "deadline_ms", "undo", "reason")
    PEER_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    UNDO_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    peer: str
    deadline_ms: int
    undo: bool
    reason: str
    def __init__(self, peer: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., undo: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class DrainPeerResponse(_message.Message):
    __slots__ = ("peer",)
    PEER_FIELD_NUMBER: _ClassVar[int]
    peer: PeerStatus
    def __init__(self, peer: _Optional[_Union[PeerStatus, _Mapping]] = ...) -> None: ...

class GetBackupsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BackupsPart(_message.Message):
    __slots__ = ("segments",)
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[SegmentBackups]
    def __init__(self, segments: _Optional[_Iterable[_Union[SegmentBackups, _Mapping]]] = ...) -> None: ...

class SegmentBackups(_message.Message):
    __slots__ = ("job_id", "segment", "peer", "position", "position_unix_ms", "latest_position", "holders", "standbys", "gap")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    POSITION_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    LATEST_POSITION_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    STANDBYS_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    segment: int
    peer: BackupPeer
    position: int
    position_unix_ms: int
    latest_position: int
    holders: _containers.RepeatedCompositeFieldContainer[BackupPeer]
    standbys: _containers.RepeatedCompositeFieldContainer[BackupPeer]
    gap: str
    def __init__(self, job_id: _Optional[str] = ..., segment: _Optional[int] = ..., peer: _Optional[_Union[BackupPeer, _Mapping]] = ..., position: _Optional[int] = ..., position_unix_ms: _Optional[int] = ..., latest_position: _Optional[int] = ..., holders: _Optional[_Iterable[_Union[BackupPeer, _Mapping]]] = ..., standbys: _Optional[_Iterable[_Union[BackupPeer, _Mapping]]] = ..., gap: _Optional[str] = ...) -> None: ...

class BackupPeer(_message.Message):
    __slots__ = ("peer_id", "name", "level")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    name: str
    level: str
    def __init__(self, peer_id: _Optional[str] = ..., name: _Optional[str] = ..., level: _Optional[str] = ...) -> None: ...

class AdmitPeerRequest(_message.Message):
    __slots__ = ("peer", "reason")
    PEER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    peer: str
    reason: str
    def __init__(self, peer: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class AdmitPeerResponse(_message.Message):
    __slots__ = ("peer_id",)
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    def __init__(self, peer_id: _Optional[str] = ...) -> None: ...

class BanMemberRequest(_message.Message):
    __slots__ = ("member", "reason", "undo")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    UNDO_FIELD_NUMBER: _ClassVar[int]
    member: str
    reason: str
    undo: bool
    def __init__(self, member: _Optional[str] = ..., reason: _Optional[str] = ..., undo: _Optional[bool] = ...) -> None: ...

class BanMemberResponse(_message.Message):
    __slots__ = ("member_id",)
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    def __init__(self, member_id: _Optional[str] = ...) -> None: ...

class LabelPeerRequest(_message.Message):
    __slots__ = ("peer", "label", "reason")
    PEER_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    peer: str
    label: str
    reason: str
    def __init__(self, peer: _Optional[str] = ..., label: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class LabelPeerResponse(_message.Message):
    __slots__ = ("peer_id",)
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    def __init__(self, peer_id: _Optional[str] = ...) -> None: ...

class GetEventsRequest(_message.Message):
    __slots__ = ("subject", "kind", "text", "since_unix_ms", "limit", "follow")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SINCE_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    subject: str
    kind: str
    text: str
    since_unix_ms: int
    limit: int
    follow: bool
    def __init__(self, subject: _Optional[str] = ..., kind: _Optional[str] = ..., text: _Optional[str] = ..., since_unix_ms: _Optional[int] = ..., limit: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class EventsPart(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[EventLine]
    def __init__(self, lines: _Optional[_Iterable[_Union[EventLine, _Mapping]]] = ...) -> None: ...

class EventLine(_message.Message):
    __slots__ = ("number", "unix_ms", "subject", "kind", "text")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    number: int
    unix_ms: int
    subject: str
    kind: str
    text: str
    def __init__(self, number: _Optional[int] = ..., unix_ms: _Optional[int] = ..., subject: _Optional[str] = ..., kind: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class GetAuditRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class GetAuditResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditLine]
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditLine, _Mapping]]] = ...) -> None: ...

class AuditLine(_message.Message):
    __slots__ = ("number", "unix_ms", "by", "action", "subject", "details", "reason", "refusal")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    number: int
    unix_ms: int
    by: str
    action: str
    subject: str
    details: str
    reason: str
    refusal: str
    def __init__(self, number: _Optional[int] = ..., unix_ms: _Optional[int] = ..., by: _Optional[str] = ..., action: _Optional[str] = ..., subject: _Optional[str] = ..., details: _Optional[str] = ..., reason: _Optional[str] = ..., refusal: _Optional[str] = ...) -> None: ...

class GetTimelineRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class Timeline(_message.Message):
    __slots__ = ("job_id", "state", "submitted_unix_ms", "finished_unix_ms", "spans", "events")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    state: str
    submitted_unix_ms: int
    finished_unix_ms: int
    spans: _containers.RepeatedCompositeFieldContainer[TimelineSpan]
    events: _containers.RepeatedCompositeFieldContainer[EventLine]
    def __init__(self, job_id: _Optional[str] = ..., state: _Optional[str] = ..., submitted_unix_ms: _Optional[int] = ..., finished_unix_ms: _Optional[int] = ..., spans: _Optional[_Iterable[_Union[TimelineSpan, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[EventLine, _Mapping]]] = ...) -> None: ...

class TimelineSpan(_message.Message):
    __slots__ = ("segment", "peer_id", "peer_name", "token", "position", "assigned_unix_ms", "running_unix_ms", "ended_unix_ms", "end", "reason")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    segment: int
    peer_id: str
    peer_name: str
    token: int
    position: int
    assigned_unix_ms: int
    running_unix_ms: int
    ended_unix_ms: int
    end: str
    reason: str
    def __init__(self, segment: _Optional[int] = ..., peer_id: _Optional[str] = ..., peer_name: _Optional[str] = ..., token: _Optional[int] = ..., position: _Optional[int] = ..., assigned_unix_ms: _Optional[int] = ..., running_unix_ms: _Optional[int] = ..., ended_unix_ms: _Optional[int] = ..., end: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CopyJournalRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JournalPart(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class CreateConsoleLinkRequest(_message.Message):
    __slots__ = ("role", "lifetime_ms")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_MS_FIELD_NUMBER: _ClassVar[int]
    role: str
    lifetime_ms: int
    def __init__(self, role: _Optional[str] = ..., lifetime_ms: _Optional[int] = ...) -> None: ...

class CreateConsoleLinkResponse(_message.Message):
    __slots__ = ("url", "expires_unix_ms")
    URL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    url: str
    expires_unix_ms: int
    def __init__(self, url: _Optional[str] = ..., expires_unix_ms: _Optional[int] = ...) -> None: ...

class EndConsoleSessionRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class EndConsoleSessionResponse(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetPeerRequest(_message.Message):
    __slots__ = ("peer",)
    PEER_FIELD_NUMBER: _ClassVar[int]
    peer: str
    def __init__(self, peer: _Optional[str] = ...) -> None: ...

class PeerDetails(_message.Message):
    __slots__ = ("peer", "idle", "linked", "events")
    PEER_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    LINKED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    peer: PeerStatus
    idle: _containers.RepeatedScalarFieldContainer[str]
    linked: _containers.RepeatedCompositeFieldContainer[BackupPeer]
    events: _containers.RepeatedCompositeFieldContainer[EventLine]
    def __init__(self, peer: _Optional[_Union[PeerStatus, _Mapping]] = ..., idle: _Optional[_Iterable[str]] = ..., linked: _Optional[_Iterable[_Union[BackupPeer, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[EventLine, _Mapping]]] = ...) -> None: ...

class GetPlacementRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class PlacementPart(_message.Message):
    __slots__ = ("jobs", "free")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[PlacedJob]
    free: _containers.RepeatedCompositeFieldContainer[BackupPeer]
    def __init__(self, jobs: _Optional[_Iterable[_Union[PlacedJob, _Mapping]]] = ..., free: _Optional[_Iterable[_Union[BackupPeer, _Mapping]]] = ...) -> None: ...

class PlacedJob(_message.Message):
    __slots__ = ("job_id", "name", "state", "segments", "links")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    name: str
    state: str
    segments: _containers.RepeatedCompositeFieldContainer[PlacedSegment]
    links: _containers.RepeatedCompositeFieldContainer[PlacedLink]
    def __init__(self, job_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[PlacedSegment, _Mapping]]] = ..., links: _Optional[_Iterable[_Union[PlacedLink, _Mapping]]] = ...) -> None: ...

class PlacedSegment(_message.Message):
    __slots__ = ("segment", "peer", "phase", "token", "standbys", "gap")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    STANDBYS_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    segment: int
    peer: BackupPeer
    phase: str
    token: int
    standbys: _containers.RepeatedCompositeFieldContainer[BackupPeer]
    gap: str
    def __init__(self, segment: _Optional[int] = ..., peer: _Optional[_Union[BackupPeer, _Mapping]] = ..., phase: _Optional[str] = ..., token: _Optional[int] = ..., standbys: _Optional[_Iterable[_Union[BackupPeer, _Mapping]]] = ..., gap: _Optional[str] = ...) -> None: ...

class PlacedLink(_message.Message):
    __slots__ = ("source", "target", "source_peer", "target_peer", "microbatch_bytes", "latency_s", "bandwidth_bytes_per_s", "sent_bytes")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SOURCE_PEER_FIELD_NUMBER: _ClassVar[int]
    TARGET_PEER_FIELD_NUMBER: _ClassVar[int]
    MICROBATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    source: int
    target: int
    source_peer: BackupPeer
    target_peer: BackupPeer
    microbatch_bytes: int
    latency_s: float
    bandwidth_bytes_per_s: float
    sent_bytes: int
    def __init__(self, source: _Optional[int] = ..., target: _Optional[int] = ..., source_peer: _Optional[_Union[BackupPeer, _Mapping]] = ..., target_peer: _Optional[_Union[BackupPeer, _Mapping]] = ..., microbatch_bytes: _Optional[int] = ..., latency_s: _Optional[float] = ..., bandwidth_bytes_per_s: _Optional[float] = ..., sent_bytes: _Optional[int] = ...) -> None: ...
