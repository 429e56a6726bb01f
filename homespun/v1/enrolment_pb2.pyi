from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetRootRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRootResponse(_message.Message):
    __slots__ = ("root_pem", "issuing_pem", "network_id")
    ROOT_PEM_FIELD_NUMBER: _ClassVar[int]
    ISSUING_PEM_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    root_pem: bytes
    issuing_pem: bytes
    network_id: str
    def __init__(self, root_pem: _Optional[bytes] = ..., issuing_pem: _Optional[bytes] = ..., network_id: _Optional[str] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("key_id", "secret", "csr_pem", "name", "protocol_version", "wanted_role")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    CSR_PEM_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    WANTED_ROLE_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    secret: bytes
    csr_pem: bytes
    name: str
    protocol_version: int
    wanted_role: str
    def __init__(self, key_id: _Optional[str] = ..., secret: _Optional[bytes] = ..., csr_pem: _Optional[bytes] = ..., name: _Optional[str] = ..., protocol_version: _Optional[int] = ..., wanted_role: _Optional[str] = ...) -> None: ...

class EnrolResponse(_message.Message):
    __slots__ = ("id", "role", "certificate_chain_pem", "expires_unix_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_CHAIN_PEM_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    role: str
    certificate_chain_pem: bytes
    expires_unix_ms: int
    def __init__(self, id: _Optional[str] = ..., role: _Optional[str] = ..., certificate_chain_pem: _Optional[bytes] = ..., expires_unix_ms: _Optional[int] = ...) -> None: ...

class RenewExpiredRequest(_message.Message):
    __slots__ = ("certificate_pem", "csr_pem", "protocol_version")
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    CSR_PEM_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: bytes
    csr_pem: bytes
    protocol_version: int
    def __init__(self, certificate_pem: _Optional[bytes] = ..., csr_pem: _Optional[bytes] = ..., protocol_version: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr_pem",)
    CSR_PEM_FIELD_NUMBER: _ClassVar[int]
    csr_pem: bytes
    def __init__(self, csr_pem: _Optional[bytes] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("certificate_chain_pem", "expires_unix_ms")
    CERTIFICATE_CHAIN_PEM_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    certificate_chain_pem: bytes
    expires_unix_ms: int
    def __init__(self, certificate_chain_pem: _Optional[bytes] = ..., expires_unix_ms: _Optional[int] = ...) -> None: ...
