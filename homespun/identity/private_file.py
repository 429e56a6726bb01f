"""Write files in one step, and keys so that nobody else can read them.

The only place that knows how file permissions differ between systems.
"""

from __future__ import annotations

import getpass
import os
import secrets
import subprocess
from pathlib import Path

from homespun.errors import Code, HomespunError

_WINDOWS = os.name == "nt"
_RESTRICT_TIMEOUT_S = 20.0


def write_atomically(path: Path, data: bytes, *, private: bool = False) -> None:
    """Replace the contents of `path` in one step.

    Args:
        path: the file; its directory must exist.
        data: the new contents.
        private: readable by the owner only, from the moment that the file exists.

    Raises:
        HomespunError: BAD_CONFIGURATION when it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write_new(partial, data, private=private)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise HomespunError(
            Code.BAD_CONFIGURATION, f"{path} cannot be written: {error.strerror or error}.",
            path=path) from error


def make_private_directory(path: Path) -> None:
    """Make a directory that only its owner may enter; one that exists is left as it is.

    Raises:
        HomespunError: BAD_CONFIGURATION when it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"The directory {path} cannot be made: {error.strerror or error}.",
            path=path) from error


def require_writable(directory: Path) -> None:
    """Make a directory if need be, and check that a file can be written into it.

    Raises:
        HomespunError: BAD_CONFIGURATION when it cannot.
    """
    make_private_directory(directory)
    probe = directory / ".probe"
    write_atomically(probe, b"")
    probe.unlink(missing_ok=True)


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """Read a small file.

    Raises:
        HomespunError: BAD_CONFIGURATION when it is missing, unreadable or larger than the limit.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise HomespunError(
            Code.BAD_CONFIGURATION, f"{path} cannot be read: {error.strerror or error}.",
            path=path) from error
    if len(data) > limit_bytes:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{path} is larger than {limit_bytes} bytes: it is not what it should be.", path=path)
    return data


def _write_new(path: Path, data: bytes, *, private: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o600 if private else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        if private and _WINDOWS:
            _restrict_to_owner(path)  # while it is still empty
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _restrict_to_owner(path: Path) -> None:
    """Windows ignores the mode: drop inherited rights and grant the current user alone."""
    command = ["icacls", str(path), "/inheritance:r", "/grant:r", f"{getpass.getuser()}:F"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_RESTRICT_TIMEOUT_S)
    except (subprocess.SubprocessError, OSError) as error:
        raise OSError(f"its permissions cannot be restricted with icacls: {error}") from error
