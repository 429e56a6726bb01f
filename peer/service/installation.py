"""Telling a system's service manager: install, uninstall, look. What differs is in one place."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from homespun.errors import Code, HomespunError
from peer.service.definition import (
    LABEL,
    NAME,
    Definition,
    launchd_path,
    systemd_path,
    task_path,
)
from peer.service.texts import launchd_plist, systemd_unit, windows_task

COMMAND_TIMEOUT_S = 90.0

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a system needs to be told, before anything is told.

    Attributes:
        path: of the definition.
        text: of the definition.
        encoding: that the manager reads.
        install, uninstall: commands, in order; the file is written before the first of install
            and removed after the first of uninstall.
        look: exit code 0 and what it prints say that the service runs.
        hint: what people should know; "" for nothing.
    """

    path: Path
    text: str
    encoding: str
    install: tuple[Command, ...]
    uninstall: tuple[Command, ...]
    look: Command
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command of the system ended."""

    exit_code: int
    said: str


Runner = Callable[[Command], Ran]


def definition_for(directory: Path, is_system: bool, grace_s: float) -> Definition:
    """The peer of a directory, run by the interpreter that runs now."""
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return Definition(
        python=PurePath(sys.executable), directory=directory.resolve(), is_system=is_system,
        user=user, grace_s=grace_s)


def plan_for(definition: Definition, system: str, home: Path, user_id: int) -> Plan:
    """What to tell a system.

    Args:
        definition: the service.
        system: as `sys.platform` says.
        home: the owner's.
        user_id: the owner's number, where there is one.

    Raises:
        HomespunError: CONFLICT on a system whose manager is not known.
    """
    if system == "darwin":
        return _launchd(definition, home, user_id)
    if system == "win32":
        return _windows(definition)
    if system == "linux":
        return _systemd(definition, home)
    raise HomespunError(
        Code.CONFLICT, f"How services are run on {system} is not known: start `peer run` by what "
        "your system has.")


def install(plan: Plan, run: Runner) -> None:
    """Write the definition and start the service, over an older one too.

    Raises:
        HomespunError: NOT_ALLOWED when it may not be written; CONFLICT when the manager refuses,
            with its words: what was written is removed again.
    """
    try:
        plan.path.parent.mkdir(parents=True, exist_ok=True)
        plan.path.write_text(plan.text, encoding=plan.encoding)
    except PermissionError:
        raise HomespunError(
            Code.NOT_ALLOWED, f"{plan.path} may not be written: run it with sudo, or without "
            "--system.", path=plan.path) from None
    for command in plan.install:
        if (ran := run(command)).exit_code != 0:
            uninstall(plan, run)
            raise _refused(command, ran)


def uninstall(plan: Plan, run: Runner) -> bool:
    """Stop the service and leave nothing of it.

    Returns:
        Whether there was one.

    Raises:
        HomespunError: NOT_ALLOWED when the definition may not be removed.
    """
    was_there = plan.path.exists()
    run(plan.uninstall[0])  # fails where there is none, which is what is wanted
    try:
        plan.path.unlink(missing_ok=True)
    except PermissionError:
        raise HomespunError(
            Code.NOT_ALLOWED, f"{plan.path} may not be removed: run it with sudo.",
            path=plan.path) from None
    for command in plan.uninstall[1:]:
        run(command)
    return was_there


def run_command(command: Sequence[str]) -> Ran:
    """Run a command of the system; one that is not there has failed."""
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=COMMAND_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Ran(1, f"no answer for {COMMAND_TIMEOUT_S:.0f} s")
    except OSError as error:
        return Ran(127, error.strerror or str(error))
    return Ran(done.returncode, (done.stdout + done.stderr).strip())


def _systemd(definition: Definition, home: Path) -> Plan:
    unit = f"{NAME}.service"
    systemctl = ("systemctl",) if definition.is_system else ("systemctl", "--user")
    path = systemd_path(
        home, os.environ.get("XDG_CONFIG_HOME", ""), definition.is_system)
    hint = "" if definition.is_system else (
        f"It runs while you are logged in. To let it run always: loginctl enable-linger "
        f"{definition.user}")
    return Plan(
        path=Path(path), text=systemd_unit(definition), encoding="utf-8",
        install=((*systemctl, "daemon-reload"), (*systemctl, "enable", "--now", unit)),
        uninstall=((*systemctl, "disable", "--now", unit), (*systemctl, "daemon-reload"),
                   (*systemctl, "reset-failed", unit)),
        look=(*systemctl, "is-active", unit), hint=hint)


def _launchd(definition: Definition, home: Path, user_id: int) -> Plan:
    domain = "system" if definition.is_system else f"gui/{user_id}"
    path = Path(launchd_path(home, definition.is_system))
    return Plan(
        path=path, text=launchd_plist(definition), encoding="utf-8",
        install=(("launchctl", "bootstrap", domain, str(path)),),
        uninstall=(("launchctl", "bootout", f"{domain}/{LABEL}"),),
        look=("launchctl", "print", f"{domain}/{LABEL}"))


def _windows(definition: Definition) -> Plan:
    path = Path(task_path(definition.directory))
    return Plan(
        path=path, text=windows_task(definition), encoding="utf-16",
        install=(("schtasks", "/Create", "/TN", NAME, "/XML", str(path), "/F"),
                 ("schtasks", "/Run", "/TN", NAME)),
        uninstall=(("schtasks", "/Delete", "/TN", NAME, "/F"),),
        look=("schtasks", "/Query", "/TN", NAME),
        hint="Windows ends a task without asking: `peer leave` before it hands over what runs.")


def _refused(command: Command, ran: Ran) -> HomespunError:
    return HomespunError(
        Code.CONFLICT, f"`{' '.join(command)}` ended with {ran.exit_code}: "
        f"{ran.said[-300:] or 'it said nothing'}. Nothing was left installed.",
        command=" ".join(command))
