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
    SYSTEM_DIRECTORY,
    Definition,
    launchd_path,
    service_name,
    systemd_path,
    task_path,
)
from peer.service.texts import launchd_plist, systemd_unit, windows_task
from peer.settings import PeerDirectory

COMMAND_TIMEOUT_S = 90.0
"""On top of the time that the service may take to stop."""
ROOT = "root"

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
        retire: commands that end an older one, so that what is new about it holds; before the file
            is written. They fail where there is none.
        timeout_s: longest that one command may take.
        look: exit code 0 and what it prints say that the service runs.
        hint: what people should know; "" for nothing.
    """

    path: Path
    text: str
    encoding: str
    install: tuple[Command, ...]
    uninstall: tuple[Command, ...]
    look: Command
    retire: tuple[Command, ...] = ()
    timeout_s: float = COMMAND_TIMEOUT_S
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command of the system ended."""

    exit_code: int
    said: str


Runner = Callable[[Command], Ran]


def definition_for(
    directory: Path, default: Path, is_system: bool, grace_s: float, user: str = ""
) -> Definition:
    """The peer of a directory, run by the interpreter that runs now.

    Args:
        directory: the peer's.
        default: where a user's peer is without `--dir`.
        is_system: whether it starts with the machine.
        grace_s: how long the peer hands over.
        user: account for the system's service; "" for the one that owns the directory.
    """
    directory = directory.resolve()
    plain = Path(SYSTEM_DIRECTORY) if is_system else default.resolve()
    own = owner_of_key(directory) if is_system else ""
    return Definition(
        python=PurePath(sys.executable), directory=directory, is_system=is_system,
        user=user or own or getpass.getuser(), grace_s=grace_s,
        name=service_name(directory, plain))


def owner_of_key(directory: Path) -> str:
    """The account that a peer's key belongs to; "" where the system has none, or it has no name."""
    identity = PeerDirectory(directory).identity
    try:
        return (identity if identity.exists() else directory).owner()
    except (OSError, KeyError, NotImplementedError):
        return ""


def require_account(definition: Definition, asked: str, sudo_user: str) -> None:
    """Refuse an account that the service cannot or should not run under.

    A peer keeps its key so that only the owner of its directory can read it.

    Args:
        definition: the service.
        asked: account that the user named; "" for none.
        sudo_user: who became root to install it; "" for nobody.

    Raises:
        HomespunError: NOT_ALLOWED with what to do: the key is another account's; or it is root's,
            and nobody asked for root.
    """
    own = owner_of_key(Path(definition.directory))
    if not definition.is_system or not own:
        return
    if own == ROOT and not asked:
        account = sudo_user if sudo_user not in ("", ROOT) else "ACCOUNT"
        raise HomespunError(
            Code.NOT_ALLOWED, f"{definition.directory} belongs to root, and a peer that computes "
            "for others should not run as root. Give it to an account: "
            f"`sudo chown -R {account}: {definition.directory}`, then install again; or insist "
            "with --user root.", path=definition.directory)
    if asked and asked != own:
        raise HomespunError(
            Code.NOT_ALLOWED, f"{definition.directory} belongs to {own}, so that a service of "
            f"{asked} could not read its key: `sudo chown -R {asked}: {definition.directory}`, or "
            "install without --user.", path=definition.directory)


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
    """Write the definition and start the service; an older one ends, and begins as it is now.

    Raises:
        HomespunError: NOT_ALLOWED when it may not be written; CONFLICT when the manager refuses,
            with its words: what was written is removed again.
    """
    if plan.path.exists():
        for command in plan.retire:
            run(command)
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


def run_command(command: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> Ran:
    """Run a command of the system; one that is not there has failed."""
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Ran(1, f"no answer for {timeout_s:.0f} s")
    except OSError as error:
        return Ran(127, error.strerror or str(error))
    return Ran(done.returncode, (done.stdout + done.stderr).strip())


def _systemd(definition: Definition, home: Path) -> Plan:
    unit = f"{definition.name}.service"
    systemctl = ("systemctl",) if definition.is_system else ("systemctl", "--user")
    path = systemd_path(
        home, os.environ.get("XDG_CONFIG_HOME", ""), definition.is_system, definition.name)
    hint = "" if definition.is_system else (
        f"It runs while you are logged in. To let it run always: loginctl enable-linger "
        f"{definition.user}")
    return Plan(
        path=Path(path), text=systemd_unit(definition), encoding="utf-8",
        install=((*systemctl, "daemon-reload"), (*systemctl, "enable", unit),
                 (*systemctl, "restart", unit)),
        uninstall=((*systemctl, "disable", "--now", unit), (*systemctl, "daemon-reload"),
                   (*systemctl, "reset-failed", unit)),
        look=(*systemctl, "is-active", unit), timeout_s=_timeout_s(definition), hint=hint)


def _launchd(definition: Definition, home: Path, user_id: int) -> Plan:
    domain = "system" if definition.is_system else f"gui/{user_id}"
    path = Path(launchd_path(home, definition.is_system, definition.label))
    ends: Command = ("launchctl", "bootout", f"{domain}/{definition.label}")
    return Plan(
        path=path, text=launchd_plist(definition), encoding="utf-8",
        install=(("launchctl", "bootstrap", domain, str(path)),),
        uninstall=(ends,), retire=(ends,), timeout_s=_timeout_s(definition),
        look=("launchctl", "print", f"{domain}/{definition.label}"))


def _windows(definition: Definition) -> Plan:
    path, name = Path(task_path(definition.directory)), definition.name
    return Plan(
        path=path, text=windows_task(definition), encoding="utf-16",
        install=(("schtasks", "/Create", "/TN", name, "/XML", str(path), "/F"),
                 ("schtasks", "/Run", "/TN", name)),
        uninstall=(("schtasks", "/Delete", "/TN", name, "/F"),),
        retire=(("schtasks", "/End", "/TN", name),),
        look=("schtasks", "/Query", "/TN", name),
        hint="Windows ends a task without asking: `peer leave` before it hands over what runs.")


def _timeout_s(definition: Definition) -> float:
    return definition.stop_s + COMMAND_TIMEOUT_S


def _refused(command: Command, ran: Ran) -> HomespunError:
    return HomespunError(
        Code.CONFLICT, f"`{' '.join(command)}` ended with {ran.exit_code}: "
        f"{ran.said[-300:] or 'it said nothing'}. Nothing was left installed.",
        command=" ".join(command))
