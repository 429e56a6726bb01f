from homespun.v1 import session_pb2 as _session_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListPeersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPeersResponse(_message.Message):
    __slots__ = ("peers",)
    PEERS_FIELD_NUMBER: _ClassVar[int]
    peers: _containers.RepeatedCompositeFieldContainer[PeerStatus]
    def __init__(self, peers: _Optional[_Iterable[_Union[PeerStatus, _Mapping]]] = ...) -> None: ...

class PeerStatus(_message.Message):
    __slots__ = ("peer_id", "name", "state", "hardware", "tensor_address", "software_version", "last_seen_unix_ms", "leases", "links", "availability", "is_drained", "drain_unix_ms", "standbys")
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
    def __init__(self, peer_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[str] = ..., hardware: _Optional[_Union[_session_pb2.Hardware, _Mapping]] = ..., tensor_address: _Optional[str] = ..., software_version: _Optional[str] = ..., last_seen_unix_ms: _Optional[int] = ..., leases: _Optional[_Iterable[_Union[_session_pb2.HeldLease, _Mapping]]] = ..., links: _Optional[_Iterable[_Union[_session_pb2.LinkMeasured, _Mapping]]] = ..., availability: _Optional[str] = ..., is_drained: _Optional[bool] = ..., drain_unix_ms: _Optional[int] = ..., standbys: _Optional[_Iterable[_Union[_session_pb2.HeldStandby, _Mapping]]] = ...) -> None: ...

class CreateKeyRequest(_message.Message):
    __slots__ = ("role", "reusable", "lifetime_ms", "reason")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REUSABLE_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    role: str
    reusable: bool
    lifetime_ms: int
    reason: str
    def __init__(self, role: _Optional[str] = ..., reusable: _Optional[bool] = ..., lifetime_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("key_id", "role", "reusable", "expires_unix_ms", "uses", "revoked")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REUSABLE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    role: str
    reusable: bool
    expires_unix_ms: int
    uses: int
    revoked: bool
    def __init__(self, key_id: _Optional[str] = ..., role: _Optional[str] = ..., reusable: _Optional[bool] = ..., expires_unix_ms: _Optional[int] = ..., uses: _Optional[int] = ..., revoked: _Optional[bool] = ...) -> None: ...

class RevokeKeyRequest(_message.Message):
    __slots__ = ("key_id", "reason")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    reason: str
    def __init__(self, key_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RevokeKeyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

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
