"""What frameworks, drivers and systems say when something fails, and which cause that is.

Only phrases that stand for one thing are here; the first that is found decides, so what is more
specific comes first. They are facts about CUDA, cuBLAS, cuDNN, ROCm, Metal, torch, XLA, ONNX
Runtime, numpy, POSIX, Windows and gRPC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from homespun.causes import Cause

UPDATE_DRIVER = "Update the device's driver, or install a framework that fits it."
OTHER_GPU_USER = "End the other program that uses the device."


@dataclass(frozen=True, slots=True)
class FailureText:
    """A phrase, its cause, and a remedy where a better one than the cause's is known."""

    cause: Cause
    pattern: re.Pattern[str]
    remedy: str = ""


def _texts(cause: Cause, *phrases: str, remedy: str = "") -> FailureText:
    """Any of some phrases, which are regular expressions, in any letter case."""
    return FailureText(cause, re.compile("|".join(phrases), re.IGNORECASE), remedy)


TEXTS: tuple[FailureText, ...] = (
    _texts(
        Cause.DISK,
        r"no space left on device", r"not enough space on the disk", r"winerror 112\b",
        r"disk quota exceeded", r"errno (28|122)\b"),
    _texts(
        Cause.DISK,
        r"input/output error", r"read-only file system", r"structure needs cleaning",
        r"stale file handle", r"winerror (19|23|1117)\b", r"errno (5|30)\b",
        remedy="Check the disk that the peer's directory is on: it does not read or write."),
    _texts(
        Cause.JOB,
        r"device-side assert triggered", r"cudaErrorAssert\b", r"CUDA_ERROR_ASSERT\b",
        r"index out of range in self", r"indices element out of data bounds",
        r"index .{1,40} is out of bounds", r"target .{1,40} is out of bounds",
        r"shapes cannot be multiplied", r"must match the size of tensor",
        remedy="Look for an index in the data that is larger than the table it looks up, or shapes "
        "that do not fit."),
    _texts(
        Cause.DEVICE_FAULT,
        r"driver version is insufficient", r"no kernel image is available",
        r"CUDA_ERROR_NO_BINARY_FOR_GPU", r"driver/library version mismatch",
        r"unsupported toolchain", r"CUDNN_STATUS_(SUBLIBRARY_)?VERSION_MISMATCH",
        r"forward compatibility was attempted on non supported HW",
        r"found no nvidia driver", r"system has unsupported display driver",
        r"named symbol not found", remedy=UPDATE_DRIVER),
    _texts(
        Cause.DEVICE_FAULT,
        r"not compiled with cuda enabled", r"cannot open shared object file", r"dll load failed",
        r"undefined symbol", r"no module named", r"version .?GLIBC", r"CUDNN_STATUS_NOT_SUPPORTED",
        remedy="Install the framework anew, for this system and its device."),
    _texts(
        Cause.SOFTWARE, r"too many open files", r"errno 24\b",
        remedy="Raise the limit on open files of the user that runs the peer."),
    _texts(
        Cause.DEVICE_MEMORY,
        r"(cuda|hip|xpu|mps backend) out of memory", r"cuda error: out of memory",
        r"(CUDA|hip)_?Error_?(OUT_OF_MEMORY|OutOfMemory|MemoryAllocation)\b",
        r"(CUBLAS|CUDNN|CUSOLVER|CUFFT)_(STATUS_)?ALLOC_FAILED", r"DEVICE_ALLOCATION_FAILED",
        r"RESOURCE_EXHAUSTED", r"resource exhausted", r"OOM when allocating",
        r"out of memory while trying to allocate",
        r"failed to allocate memory for requested buffer", r"BFCArena"),
    _texts(
        Cause.DEVICE_MEMORY,
        r"DefaultCPUAllocator", r"bad_alloc", r"unable to allocate .{1,60} for an array",
        r"cannot allocate memory", r"paging file is too small", r"winerror (8|14|1450|1455)\b",
        r"not enough memory", r"errno 12\b", r"\bMemoryError\b",
        remedy="End other programs, or lend less memory of this machine: `peer join --memory`."),
    _texts(
        Cause.DEVICE_MEMORY, r"(CUBLAS|CUDNN)_STATUS_NOT_INITIALIZED",
        remedy="The library found no memory for itself on the device: end other programs that use "
        "it, or lend less of it."),
    _texts(
        Cause.DEVICE_FAULT,
        r"devices?(\(s\))? (is/)?are busy or unavailable", r"CUDA_ERROR_DEVICE_UNAVAILABLE",
        r"exclusive(-| )process", remedy=OTHER_GPU_USER),
    _texts(
        Cause.DEVICE_FAULT,
        r"the launch timed out and was terminated", r"(CUDA_ERROR_|cudaError)Launch_?Timeout\b",
        remedy="The system's display watchdog ended a kernel: use the device without a display, or "
        "lengthen the watchdog's time."),
    _texts(
        Cause.DEVICE_FAULT,
        r"uncorrectable (ecc|nvlink) error", r"ECC_?Uncorrectable", r"row remap", r"gpu is lost",
        r"fallen off the bus", r"unable to determine the device handle",
        r"\bXid\b", r"hardware error", r"DXGI_ERROR_DEVICE_(REMOVED|HUNG|RESET)",
        r"device removed",
        remedy="The device is failing or loses its power or connection: check both, and restart "
        "the machine."),
    _texts(
        Cause.DEVICE_FAULT,
        r"illegal memory access", r"illegal ?address", r"ILLEGAL_ADDRESS", r"misaligned address",
        r"illegal instruction was encountered", r"invalid program counter", r"hardware stack error",
        r"unspecified launch failure", r"(CUDA_ERROR_|cudaError)Launch_?Fail(ed|ure)\b",
        r"memory access fault by gpu", r"no cuda-capable device", r"CUDA_ERROR_NO_DEVICE",
        r"invalid device ordinal", r"(CUBLAS|CUDNN)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)",
        r"CUBLAS_STATUS_MAPPING_ERROR", r"cuda unknown error", r"cuda error: unknown error",
        r"CUDA_ERROR_(UNKNOWN|SYSTEM_NOT_READY|CONTEXT_IS_DESTROYED)",
        r"system not yet initialized"),
    _texts(
        Cause.CLOCK, r"certificate has expired", r"certificate .{0,40}not (yet )?valid",
        r"not valid yet"),
    _texts(
        Cause.NETWORK,
        r"connection (reset|refused|aborted|timed out)", r"forcibly closed by the remote host",
        r"no route to host", r"network is (unreachable|down)", r"host is down",
        r"failed to connect to all addresses", r"name or service not known", r"getaddrinfo failed",
        r"temporary failure in name resolution", r"dns resolution failed", r"socket closed",
        r"broken pipe", r"keepalive watchdog timeout", r"\bGOAWAY\b", r"stream removed",
        r"deadline exceeded", r"winerror (64|121|1005[0-46]|1006[0-5])\b",
        r"errno (32|10[0-4]|11[0-3])\b"),
)
