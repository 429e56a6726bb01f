"""What a framework raises, as an error of ours."""

from __future__ import annotations

import errno
import traceback

from homespun.errors import Code, HomespunError

REASON_CHARACTERS = 300


def device_failure(
    error: Exception, what: str, device: object, *, is_out_of_memory: bool, **details: object
) -> HomespunError:
    """OUT_OF_MEMORY or EXECUTOR_FAILED.

    Args:
        error: what was raised; the first line of its text becomes the reason.
        what: the work that failed, for the message.
        device: where.
        is_out_of_memory: whether the device or the host had too little memory.
        details: of the error.
    """
    text = str(error).strip().split("\n")[0][:REASON_CHARACTERS] or type(error).__name__
    if is_out_of_memory:
        return HomespunError(
            Code.OUT_OF_MEMORY, f"{what} needs more memory than {device} has left: {text}.",
            device=device, reason=text, **details)
    return HomespunError(
        Code.EXECUTOR_FAILED, f"{what} failed on {device}: {text}.",
        device=device, reason=text, **details)


def code_and_message(error: Exception) -> tuple[Code, str]:
    """Whatever was raised, as the code and the text of an answer; a defect's stack is printed."""
    if isinstance(error, HomespunError):
        return Code(error.code), error.message
    if isinstance(error, MemoryError):
        return Code.OUT_OF_MEMORY, "out of memory"
    if isinstance(error, OSError):
        is_full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        return Code.DISK_FULL if is_full else Code.EXECUTOR_FAILED, str(error)
    traceback.print_exception(error)
    return Code.EXECUTOR_FAILED, f"{type(error).__name__}: {error}"
