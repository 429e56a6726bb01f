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
    __slots__ = ("peer_id", "name", "state", "hardware", "tensor_address", "software_version", "last_seen_unix_ms", "leases", "links")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    name: str
    state: str
    hardware: _session_pb2.Hardware
    tensor_address: str
    software_version: str
    last_seen_unix_ms: int
    leases: _containers.RepeatedCompositeFieldContainer[_session_pb2.HeldLease]
    links: _containers.RepeatedCompositeFieldContainer[_session_pb2.LinkMeasured]
    def __init__(self, peer_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[str] = ..., hardware: _Optional[_Union[_session_pb2.Hardware, _Mapping]] = ..., tensor_address: _Optional[str] = ..., software_version: _Optional[str] = ..., last_seen_unix_ms: _Optional[int] = ..., leases: _Optional[_Iterable[_Union[_session_pb2.HeldLease, _Mapping]]] = ..., links: _Optional[_Iterable[_Union[_session_pb2.LinkMeasured, _Mapping]]] = ...) -> None: ...

class CreateKeyRequest(_message.Message):
    __slots__ = ("role", "reusable", "lifetime_ms")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REUSABLE_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_MS_FIELD_NUMBER: _ClassVar[int]
    role: str
    reusable: bool
    lifetime_ms: int
    def __init__(self, role: _Optional[str] = ..., reusable: _Optional[bool] = ..., lifetime_ms: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    def __init__(self, key_id: _Optional[str] = ...) -> None: ...

class RevokeKeyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
