from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SnapshotKey(_message.Message):
    __slots__ = ("job_id", "segment", "position", "shard", "data_shards")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    DATA_SHARDS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    segment: int
    position: int
    shard: int
    data_shards: int
    def __init__(self, job_id: _Optional[str] = ..., segment: _Optional[int] = ..., position: _Optional[int] = ..., shard: _Optional[int] = ..., data_shards: _Optional[int] = ...) -> None: ...

class FromSnapshotSender(_message.Message):
    __slots__ = ("offer", "chunk", "waiting")
    OFFER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    offer: SnapshotOffer
    chunk: SnapshotChunk
    waiting: SnapshotWaiting
    def __init__(self, offer: _Optional[_Union[SnapshotOffer, _Mapping]] = ..., chunk: _Optional[_Union[SnapshotChunk, _Mapping]] = ..., waiting: _Optional[_Union[SnapshotWaiting, _Mapping]] = ...) -> None: ...

class SnapshotOffer(_message.Message):
    __slots__ = ("key", "digest", "size_bytes", "content_digest", "content_bytes", "chunk_digests", "complete_position")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_POSITION_FIELD_NUMBER: _ClassVar[int]
    key: SnapshotKey
    digest: str
    size_bytes: int
    content_digest: str
    content_bytes: int
    chunk_digests: bytes
    complete_position: int
    def __init__(self, key: _Optional[_Union[SnapshotKey, _Mapping]] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., content_digest: _Optional[str] = ..., content_bytes: _Optional[int] = ..., chunk_digests: _Optional[bytes] = ..., complete_position: _Optional[int] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("index", "data", "offset")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    index: int
    data: bytes
    offset: int
    def __init__(self, index: _Optional[int] = ..., data: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class FromSnapshotReceiver(_message.Message):
    __slots__ = ("request", "wanted", "working", "kept")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    WORKING_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    request: SnapshotRequest
    wanted: SnapshotWanted
    working: SnapshotWorking
    kept: SnapshotKept
    def __init__(self, request: _Optional[_Union[SnapshotRequest, _Mapping]] = ..., wanted: _Optional[_Union[SnapshotWanted, _Mapping]] = ..., working: _Optional[_Union[SnapshotWorking, _Mapping]] = ..., kept: _Optional[_Union[SnapshotKept, _Mapping]] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ("key", "digest")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    key: SnapshotKey
    digest: str
    def __init__(self, key: _Optional[_Union[SnapshotKey, _Mapping]] = ..., digest: _Optional[str] = ...) -> None: ...

class SnapshotWanted(_message.Message):
    __slots__ = ("chunks", "takes_parts")
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    TAKES_PARTS_FIELD_NUMBER: _ClassVar[int]
    chunks: bytes
    takes_parts: bool
    def __init__(self, chunks: _Optional[bytes] = ..., takes_parts: _Optional[bool] = ...) -> None: ...

class SnapshotWaiting(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotWorking(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotKept(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
