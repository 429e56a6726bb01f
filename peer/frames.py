"""The one frame format: tensors between peers, and between a daemon and its executor process.

A frame is a header of 64 bytes, eight bytes per axis of the shape, and the payload. The header is
packed here rather than by protobuf, whose `bytes` fields copy every tensor once more on each side
(docs/adr/0009-tensor-stream.md). Everything read here may come from a stranger: lengths are checked
before they are used, nothing is allocated, and malformed bytes are always INVALID_ARGUMENT.

```
 0  2s magic "HF"      8 u32 edge       24 u64 step        48 16s digest
 2  u8 version        12 u32 source     32 u64 sequence    64 u64 x ndim: shape
 3  u8 kind           16 u32 target     40 u64 payload bytes
 4  u8 mode           20 u32 microbatch
 5  u8 dtype, 6 u8 codec, 7 u8 ndim                        all little-endian
```
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from struct import Struct
from struct import error as StructError  # noqa: N812 (the module names it like a module)

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from homespun.errors import Code, HomespunError
from ir.graph import ITEM_BYTES
from ir.tensor_proto import numpy_dtype
from peer.core.phases import Mode

MAGIC = b"HF"
VERSION = 1
MAX_AXES = 16
DIGEST_BYTES = 16
FIXED_BYTES = 64
MAX_HEADER_BYTES = FIXED_BYTES + 8 * MAX_AXES
NO_DIGEST = bytes(DIGEST_BYTES)

_FIXED = Struct("<2s6B4I3Q16s")
_SHAPES = tuple(Struct(f"<{axes}Q") for axes in range(MAX_AXES + 1))
_MAX_TENSOR_BYTES = 2**60
"""Beyond this even an empty tensor's other extents overflow what array libraries can index."""

Payload = bytes | bytearray | memoryview


class Kind(StrEnum):
    """What a frame carries. The order is the wire number: only ever add at the end."""

    ACTIVATION = "activation"
    GRADIENT = "gradient"
    PARAMETER = "parameter"
    PARAMETER_GRADIENT = "parameter_gradient"
    NORMS = "norms"
    SCALE = "scale"
    ACKNOWLEDGE = "acknowledge"
    """Empty: the activation of an evaluation was consumed."""
    LINK_HELLO = "link_hello"
    LINK_ACK = "link_ack"
    LINK_CLOSE = "link_close"
    PROBE = "probe"
    CONTROL = "control"
    """Opaque bytes between a daemon and its executor process; never on a link."""


class Codec(StrEnum):
    """How the payload encodes the tensor. The order is the wire number."""

    RAW = "raw"
    """The dense elements, C order, little-endian."""


OPAQUE = ""
"""The dtype of a frame whose payload is not one tensor."""

_KINDS = tuple(Kind)
_MODES = (Mode.TRAIN, Mode.EVALUATE, Mode.INFER)
_CODECS = tuple(Codec)
_DTYPES = (
    OPAQUE, "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
    "uint64", "uint32", "uint16", "uint8", "bool",
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
    "float4_e2m1fn", "int4", "uint4", "int2", "uint2",
)
_KIND_NUMBER = {kind: number for number, kind in enumerate(_KINDS)}
_MODE_NUMBER = {mode: number for number, mode in enumerate(_MODES)}
_CODEC_NUMBER = {codec: number for number, codec in enumerate(_CODECS)}
_DTYPE_NUMBER = {dtype: number for number, dtype in enumerate(_DTYPES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One unit of the tensor stream: what it is, and its bytes.

    Attributes:
        kind: what it carries.
        mode: phase that it belongs to.
        edge: number of the boundary tensor; 0 where there is none.
        source: segment that it comes from (of a gradient: the consumer of the edge).
        target: segment that it goes to.
        step: optimizer steps done before it.
        microbatch: number in the phase; 0 where it is once per step.
        sequence: position in its direction of a link, from 1; 0 before the link numbered it.
        dtype: a key of `ir.graph.ITEM_BYTES`, or `OPAQUE` for bytes that are not one tensor.
        shape: extents; `()` is a scalar, or the shape of opaque bytes.
        codec: how the payload encodes the tensor.
        payload_bytes: length of the payload, also when the payload has not arrived yet.
        digest: first 16 bytes of the payload's BLAKE3; `NO_DIGEST` before it was computed.
        payload: the bytes; empty in what `decode_header` returns. Must not change while a link
            holds the frame.
    """

    kind: Kind
    mode: Mode = Mode.TRAIN
    edge: int = 0
    source: int = 0
    target: int = 0
    step: int = 0
    microbatch: int = 0
    sequence: int = 0
    dtype: str = OPAQUE
    shape: tuple[int, ...] = ()
    codec: Codec = Codec.RAW
    payload_bytes: int = 0
    digest: bytes = NO_DIGEST
    payload: Payload = b""

    def title(self) -> str:
        """A short name for messages: `activation of edge 3, step 7, microbatch 1`."""
        return f"{self.kind} of edge {self.edge}, step {self.step}, microbatch {self.microbatch}"


def opaque_frame(kind: Kind, payload: Payload = b"", **fields: object) -> Frame:
    """A frame of bytes that are not one tensor: norms, acknowledgements, link control."""
    return Frame(kind=kind, payload=payload, payload_bytes=len(payload), **fields)  # type: ignore[arg-type]


def tensor_frame(kind: Kind, array: npt.NDArray[np.generic], **fields: object) -> Frame:
    """A frame that carries `array` without copying it where it is C-contiguous.

    Args:
        kind: what it carries.
        array: at most 16 axes, of a dtype in `ITEM_BYTES`; not to be changed while a link holds it.
        fields: the other attributes of `Frame`: mode, edge, source, target, step, microbatch.

    Raises:
        HomespunError: INVALID_ARGUMENT when the dtype or the number of axes cannot be sent.
    """
    dtype = array.dtype.name
    if dtype not in ITEM_BYTES or array.ndim > MAX_AXES or array.dtype.byteorder == ">":
        raise _refuse(
            f"A tensor of dtype {array.dtype.str} with {array.ndim} axes cannot be sent; expected "
            f"one of {', '.join(ITEM_BYTES)}, little-endian, with at most {MAX_AXES} axes.")
    flat = np.ascontiguousarray(array).reshape(-1)
    payload = flat.view(np.uint8).data if flat.size else b""
    return Frame(
        kind=kind, dtype=dtype, shape=array.shape, payload=payload, payload_bytes=array.nbytes,
        **fields)  # type: ignore[arg-type]


def array_of(frame: Frame) -> npt.NDArray[np.generic]:
    """The tensor of a frame, as a view of its payload (read-only when the payload is).

    Raises:
        HomespunError: INVALID_ARGUMENT when the frame carries no raw tensor, or not all of it.
    """
    if frame.dtype == OPAQUE or frame.codec is not Codec.RAW:
        raise _refuse(f"The frame {frame.title()} carries no raw tensor.")
    if len(frame.payload) != prod(frame.shape) * ITEM_BYTES[frame.dtype]:
        raise _refuse(
            f"The frame {frame.title()} holds {len(frame.payload)} bytes; its shape "
            f"{frame.shape} of {frame.dtype} needs {prod(frame.shape) * ITEM_BYTES[frame.dtype]}.")
    return np.frombuffer(frame.payload, dtype=numpy_dtype(frame.dtype)).reshape(frame.shape)


def digest_of(payload: Payload) -> bytes:
    """First 16 bytes of BLAKE3; 0.1 s per GB on one core, and it releases the interpreter lock."""
    return blake3(payload).digest(DIGEST_BYTES)


def with_digest(frame: Frame) -> Frame:
    """The same frame, with the digest of its payload."""
    return dataclasses.replace(frame, digest=digest_of(frame.payload))


def encode_header(frame: Frame) -> bytes:
    """Pack everything but the payload: `64 + 8 * axes` bytes.

    Raises:
        HomespunError: INVALID_ARGUMENT when a field is out of its range.
    """
    try:
        fixed = _FIXED.pack(
            MAGIC, VERSION, _KIND_NUMBER[frame.kind], _MODE_NUMBER[frame.mode],
            _DTYPE_NUMBER[frame.dtype], _CODEC_NUMBER[frame.codec], len(frame.shape), frame.edge,
            frame.source, frame.target, frame.microbatch, frame.step, frame.sequence,
            frame.payload_bytes, frame.digest)
        shape = _SHAPES[len(frame.shape)].pack(*frame.shape)
    except (StructError, LookupError, TypeError, ValueError) as error:
        raise _refuse(
            f"The frame {frame.title()} does not fit its header: {error}. Counts are unsigned "
            f"32-bit or 64-bit numbers, with at most {MAX_AXES} axes.") from error
    if len(frame.digest) != DIGEST_BYTES:
        raise _refuse(f"A digest has {len(frame.digest)} bytes; expected {DIGEST_BYTES}.")
    return fixed + shape


def decode_header(buffer: Payload, max_payload_bytes: int) -> tuple[Frame, int]:
    """Read a header from the start of `buffer`; the rest of the buffer is not looked at.

    Args:
        buffer: at least the whole header.
        max_payload_bytes: the most that the caller accepts for any frame.

    Returns:
        The frame without its payload, and the size of its header in bytes.

    Raises:
        HomespunError: INVALID_ARGUMENT when it is no header of this version, or contradicts itself;
            LIMIT_EXCEEDED when the payload is announced as larger than `max_payload_bytes`.
    """
    if len(buffer) < FIXED_BYTES:
        raise _refuse(f"A header of {len(buffer)} bytes is shorter than {FIXED_BYTES}.")
    (magic, version, kind, mode, dtype, codec, axes, edge, source, target, microbatch, step,
     sequence, payload_bytes, digest) = _FIXED.unpack_from(buffer)
    if magic != MAGIC or version != VERSION:
        raise _refuse(
            f"Expected a frame of version {VERSION} ({MAGIC!r}), got {magic!r} version {version}.")
    if (kind >= len(_KINDS) or mode >= len(_MODES) or dtype >= len(_DTYPES)
            or codec >= len(_CODECS) or axes > MAX_AXES):
        raise _refuse(
            f"A header names kind {kind}, mode {mode}, dtype {dtype}, codec {codec} and {axes} "
            "axes; one of them is not known to this version.")
    header_bytes = FIXED_BYTES + 8 * axes
    if len(buffer) < header_bytes:
        raise _refuse(f"A header of {axes} axes needs {header_bytes} bytes, got {len(buffer)}.")
    shape = _SHAPES[axes].unpack_from(buffer, FIXED_BYTES)
    _check_length(_DTYPES[dtype], shape, _CODECS[codec], payload_bytes, max_payload_bytes)
    return Frame(
        kind=_KINDS[kind], mode=_MODES[mode], edge=edge, source=source, target=target, step=step,
        microbatch=microbatch, sequence=sequence, dtype=_DTYPES[dtype], shape=shape,
        codec=_CODECS[codec], payload_bytes=payload_bytes, digest=digest), header_bytes


def _check_length(
    dtype: str, shape: tuple[int, ...], codec: Codec, payload_bytes: int, max_payload_bytes: int
) -> None:
    """Compare the announced length with the shape and with the limit, before anybody allocates."""
    if dtype == OPAQUE:
        if shape:
            raise _refuse(f"Opaque bytes are announced with a shape of {len(shape)} axes.")
    elif prod(extent or 1 for extent in shape) * ITEM_BYTES[dtype] > _MAX_TENSOR_BYTES:
        raise _refuse(f"A tensor of shape {shape} is larger than any machine can index.")
    elif codec is Codec.RAW and payload_bytes != prod(shape) * ITEM_BYTES[dtype]:
        raise _refuse(
            f"A payload of {payload_bytes} bytes is announced for {dtype} of shape {shape}.")
    if payload_bytes > max_payload_bytes:
        raise HomespunError(
            Code.LIMIT_EXCEEDED,
            f"A payload of {payload_bytes} bytes is announced; at most {max_payload_bytes} bytes "
            "are accepted here.",
            wanted_bytes=payload_bytes, limit_bytes=max_payload_bytes)


def _refuse(message: str) -> HomespunError:
    return HomespunError(Code.INVALID_ARGUMENT, message)
