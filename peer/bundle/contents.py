"""What is in a bundle: gathered, bounded, and redacted before anybody sees it."""

from __future__ import annotations

import contextlib
import getpass
import json
import platform
import socket
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from io import BytesIO
from pathlib import Path

import psutil

from homespun.errors import HomespunError
from homespun.version import PROTOCOL_VERSION, SOFTWARE_VERSION
from peer import devices
from peer.bundle.redaction import Redaction
from peer.ledger import Ledger
from peer.preflight.finding import Finding
from peer.settings import PeerDirectory

FILE_BYTES_MAX = 1 << 20
"""Of each file its last part: what happened last tells most."""
MONTH_DAYS = 31
_COPIED = ("settings.json", "status.json", "wish.json", "hardware.json", "service.log")
_PACKAGES = frozenset({
    "grpcio", "homespun", "jax", "jaxlib", "msgspec", "numpy", "nvidia-ml-py", "onnx",
    "onnxruntime", "onnxruntime-gpu", "protobuf", "psutil", "safetensors", "torch"})


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files by name, as they will be written."""

    files: Mapping[str, bytes]

    def archive(self) -> bytes:
        """A zip of them; the same files give the same bytes."""
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(self.files):
                archive.writestr(zipfile.ZipInfo(name), self.files[name])
        return buffer.getvalue()


def gather(place: PeerDirectory, findings: Iterable[Finding], log: Path | None) -> Bundle:
    """Everything, redacted.

    Never read: the identity, whose key opens the network; blobs, snapshots and results, which are
    other people's.

    Args:
        place: the peer's directory.
        findings: of the checks.
        log: a file that the owner adds; None for none.
    """
    raw = {
        "system.json": _json(_system()),
        "checks.json": _json([asdict(each) for each in findings]),
        "ledger.json": _json(_ledger(place)),
        "files.json": _json(_listing(place))}
    for name in _COPIED:
        if (text := _tail(place.root / name)) is not None:
            raw[name] = text
    if log is not None and (text := _tail(log)) is not None:
        raw["log.txt"] = text
    redaction = Redaction(_own_names(place))
    return Bundle({name: redaction.of(text).encode() for name, text in raw.items()})


def _own_names(place: PeerDirectory) -> list[tuple[str, str]]:
    """What this machine and its owner are called."""
    names = [(str(Path.home()), "HOME"), (str(place.root), "PEER DIRECTORY"),
             (socket.gethostname(), "HOST"), (socket.gethostname().partition(".")[0], "HOST"),
             (platform.node(), "HOST")]
    with contextlib.suppress(OSError, KeyError):  # an account without a name has none to hide
        names.append((getpass.getuser(), "USER"))
    with contextlib.suppress(HomespunError):
        names.append((place.load_settings().name, "PEER NAME"))
    return [(text, word) for text, word in names if text not in ("", "/", "root", "localhost")]


def _system() -> dict[str, object]:
    packages = {
        name: each.version for each in distributions()
        if (name := str(each.metadata["Name"]).lower()) in _PACKAGES}
    return {
        "homespun": SOFTWARE_VERSION, "protocol": PROTOCOL_VERSION, "python": sys.version,
        "platform": platform.platform(), "processor": devices.device_name("cpu"),
        "cores": psutil.cpu_count(logical=False), "memory_bytes": psutil.virtual_memory().total,
        "gpus": devices.gpu_names(), "driver": devices.driver_version(), "packages": packages}


def _ledger(place: PeerDirectory) -> object:
    try:
        return [asdict(each) for each in Ledger(place.ledger).since("")[-MONTH_DAYS:]]
    except HomespunError as error:
        return error.message


def _listing(place: PeerDirectory) -> dict[str, dict[str, int]]:
    """How many files of how many bytes lie in each folder; no names, as digests tell of jobs."""
    listing = {}
    for folder in (place.blobs, place.results, place.snapshots):
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        listing[folder.name] = {"files": len(sizes), "bytes": sum(sizes)}
    return listing


def _tail(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - FILE_BYTES_MAX))
            return file.read(FILE_BYTES_MAX).decode(errors="replace")
    except OSError:
        return None


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
