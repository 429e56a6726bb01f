"""The checks of `peer check`, in the order in which a newcomer meets them."""

from __future__ import annotations

import platform
import shutil
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import psutil

from homespun.identity import directory as identity_directory
from homespun.identity.certificates import utc_now
from homespun.identity.enrol import load_valid
from homespun.identity.private_file import require_writable
from homespun.units import format_size
from peer import devices
from peer.executor.installed import check_installed, has_cuda, versions
from peer.hardware import CPU_MEMORY_SHARE, resolve_device
from peer.owner.core.allowance import decide
from peer.owner.core.wish import NO_WISH
from peer.owner.sensors.asking import NotReadable, ask
from peer.owner.sensors.machine import Machine
from peer.preflight.finding import Check, Finding, Verdict
from peer.preflight.network import speak_to_broker
from peer.settings import PeerDirectory, PeerSettings

DISK_WANTED_BYTES = 5 << 30
"""For blobs and snapshots of a small job, beside what is to stay free."""
PYTHON_WANTED = (3, 11)


@dataclass(frozen=True, slots=True)
class MachineChecks:
    """What is looked at.

    Attributes:
        place: the peer's directory.
        settings: as they are.
        is_running: whether the daemon has the port and the device.
    """

    place: PeerDirectory
    settings: PeerSettings
    is_running: bool

    def all(self) -> list[tuple[str, Check]]:
        """Every check with its id, in order."""
        return [
            ("python", self.python), ("directory", self.directory), ("disk", self.disk),
            ("identity", self.identity), ("clock", self.clock), ("broker", self.broker),
            ("executor", self.executor), ("device", self.device), ("memory", self.memory),
            ("port", self.port), ("limits", self.limits)]

    def python(self) -> Iterator[Finding]:
        """The interpreter."""
        is_fit = sys.version_info >= PYTHON_WANTED and struct.calcsize("P") == 8
        yield Finding(
            id="python", verdict=Verdict.OK if is_fit else Verdict.FAIL,
            actual=f"{platform.python_version()}, {struct.calcsize('P') * 8} bit, "
                   f"{platform.system()} {platform.machine()}",
            required="3.11 or newer, 64 bit", remedy="" if is_fit else "Install a newer Python.")

    def directory(self) -> Iterator[Finding]:
        """Whether the daemon can keep its things."""
        require_writable(self.place.root)
        yield Finding(
            id="directory", verdict=Verdict.OK, actual=f"{self.place.root} can be written",
            required="can be written")

    def disk(self) -> Iterator[Finding]:
        """Room for blobs and snapshots."""
        free = shutil.disk_usage(self.place.root).free
        wanted = self.settings.limits.free_disk_bytes + DISK_WANTED_BYTES
        yield _enough("disk", free, wanted, "Free space, or lower `peer set free-disk`.")

    def identity(self) -> Iterator[Finding]:
        """The certificate."""
        held = identity_directory.load(self.place.identity)
        is_over = held.has_expired(utc_now())
        yield Finding(
            id="identity", verdict=Verdict.WARN if is_over else Verdict.OK,
            actual=f"{held.id}, certificate until {held.expires_at:%Y-%m-%d %H:%M} UTC",
            required="valid; renewed by the running peer",
            remedy="`peer run` renews it, for as long as the broker allows." if is_over else "")

    def clock(self) -> Iterator[Finding]:
        """Whether the system sets its clock from the network, where it can be asked."""
        shown = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}"
        try:
            said = ask(("timedatectl", "show", "--property=NTPSynchronized", "--value")).strip()
        except NotReadable as reason:
            yield Finding(id="clock", verdict=Verdict.OK, required="right to a minute",
                          actual=f"{shown}; whether it is set from the network: {reason}")
            return
        is_set = said == "yes"
        yield Finding(
            id="clock", verdict=Verdict.OK if is_set else Verdict.WARN,
            actual=f"{shown}; set from the network: {said}", required="right to a minute",
            remedy="" if is_set else "timedatectl set-ntp true, or compare it with another clock.")

    def broker(self) -> Iterator[Finding]:
        """Whether the broker answers over the authenticated line."""
        held = load_valid(self.place.identity)  # as the peer would
        problem = speak_to_broker(held)
        yield Finding(
            id="broker", verdict=Verdict.FAIL if problem else Verdict.OK,
            actual=problem or f"{held.broker_address} answers", required="answers",
            remedy="`peer netcheck` says more." if problem else "")

    def executor(self) -> Iterator[Finding]:
        """The framework."""
        name = self.settings.executor
        check_installed(name)
        yield Finding(id="executor", verdict=Verdict.OK,
                      actual=f"{name} ({versions(name) or 'nothing to install'})",
                      required="installed")

    def device(self) -> Iterator[Finding]:
        """What is computed on, and whether something faster lies idle."""
        found = resolve_device(self.settings.device, self.settings.executor)
        gpus = devices.gpu_names()
        is_unused = found == "cpu" and bool(gpus) and self.settings.device == "auto"
        if found != "cpu" and int(found.partition(":")[2]) >= len(gpus):
            yield Finding(
                id="device", verdict=Verdict.FAIL, actual=f"{len(gpus)} GPUs with a driver",
                required=found, remedy="Install the driver, or: peer set device auto")
            return
        yield Finding(
            id="device", verdict=Verdict.WARN if is_unused else Verdict.OK,
            actual=f"{found}: {devices.device_name(found)}" + (
                f"; {gpus[0]} is not used" if is_unused else ""),
            required="the fastest that there is",
            remedy=f"Install a build of {self.settings.executor} for NVIDIA GPUs." if is_unused
                   and not has_cuda(self.settings.executor) else "")

    def memory(self) -> Iterator[Finding]:
        """Whether what is lent is there."""
        device = resolve_device(self.settings.device, self.settings.executor)
        total = (psutil.virtual_memory().total if device == "cpu"
                 else devices.device_memory_bytes(device))
        lent = self.settings.memory_bytes or round(total * CPU_MEMORY_SHARE)
        yield _enough("memory", total, lent, "Lend less: peer set memory SIZE", "in all, ", "lent")

    def port(self) -> Iterator[Finding]:
        """Whether the daemon can listen."""
        host, port = self.settings.listen_host, self.settings.listen_port
        if self.is_running:
            yield Finding(id="port", verdict=Verdict.OK, actual="the running peer listens",
                          required="free")
            return
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                yield Finding(
                    id="port", verdict=Verdict.FAIL, actual=f"{host} {port}: {error.strerror}",
                    required="free", remedy="peer set port free, or end what has it.")
                return
        yield Finding(id="port", verdict=Verdict.OK, actual=f"{host} {port or 'any'} is free",
                      required="free")

    def limits(self) -> Iterator[Finding]:
        """What the owner's limits say now, and which of them cannot be kept here."""
        device = resolve_device(self.settings.device, self.settings.executor)
        readings = Machine(device, self.place.root, list).read(self.settings.limits)
        allowance, _ = decide(self.settings.limits, NO_WISH, readings)
        for reason in allowance.reasons:
            yield Finding(id=f"limits.{reason.kind}", verdict=Verdict.WARN, actual=reason.text,
                          required="nothing against lending", remedy=reason.change)
        for text in allowance.without_effect:
            name, _, problem = text.partition(": ")
            yield Finding(id=f"limits.{name}", verdict=Verdict.WARN, actual=problem,
                          required="can be read", remedy=f"Without it {name} has no effect here.")
        if not allowance.reasons and not allowance.without_effect:
            yield Finding(id="limits", verdict=Verdict.OK, actual="all can be kept, none forbids",
                          required="nothing against lending")


def _enough(
    name: str, actual: int, wanted: int, remedy: str, before: str = "", what: str = "wanted"
) -> Finding:
    is_enough = actual >= wanted
    return Finding(
        id=name, verdict=Verdict.OK if is_enough else Verdict.FAIL,
        actual=f"{before}{format_size(actual)}" + ("" if before else " free"),
        required=f"{format_size(wanted)} {what}", remedy="" if is_enough else remedy)
