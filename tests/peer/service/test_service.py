"""Services: the text each system is told, what systemd says of it, and that nothing is left."""

import os
import plistlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from click.testing import CliRunner

from homespun.errors import Code, HomespunError
from peer.cli import cli as peer
from peer.cli.service import service
from peer.service import installation
from peer.service.definition import LABEL, NAME, Definition, launchd_path, systemd_path
from peer.service.installation import Ran
from peer.service.texts import launchd_plist, systemd_unit, windows_task

GOLDEN = Path(__file__).parent / "golden"
HOME = PurePosixPath("/home/ada")
HOME_PEER = Path(HOME / "peer")


def linux(is_system=False, **changes):
    fields = {
        "python": HOME / "venv/bin/python", "directory": HOME / "peer", "is_system": is_system,
        "user": "ada", **changes}
    return Definition(**fields)


def windows(is_system=False):
    return Definition(
        python=PureWindowsPath(r"C:\Program Files\Python\python.exe"),
        directory=PureWindowsPath(r"C:\Users\Ada Byron\peer"), is_system=is_system,
        user=r"ATTIC\ada")


@pytest.mark.parametrize(("name", "text"), [
    ("user.service", systemd_unit(linux())), ("system.service", systemd_unit(linux(True))),
    ("user.plist", launchd_plist(linux())), ("system.plist", launchd_plist(linux(True))),
    ("user.xml", windows_task(windows())), ("system.xml", windows_task(windows(True)))])
def test_the_text_is_the_one_that_was_looked_at(name, text, request):
    assert (GOLDEN / name).read_text(encoding="utf-8") == text


def test_names_with_spaces_and_signs_stay_one_word():
    odd = linux(directory=PurePosixPath('/data/my "peer" 100% $HOME'), user="")
    line = next(line for line in systemd_unit(odd).splitlines() if line.startswith("ExecStart="))
    assert line.endswith(r'"/data/my \"peer\" 100%% $$HOME"')
    plist = plistlib.loads(launchd_plist(linux(directory=PurePosixPath("/a & <b>"))).encode())
    assert plist["ProgramArguments"][-1] == "/a & <b>"
    task = ElementTree.fromstring(windows_task(windows()).partition("\n")[2])
    namespace = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    assert task.find(".//t:Arguments", namespace).text.endswith(r'--dir "C:\Users\Ada Byron\peer"')


@pytest.mark.parametrize("is_system", [False, True])
def test_launchd_reads_its_list(is_system):
    plist = plistlib.loads(launchd_plist(linux(is_system)).encode())
    assert plist["Label"] == LABEL
    assert plist["ProgramArguments"][0] == "/home/ada/venv/bin/python"
    assert plist["ExitTimeOut"] == 45
    assert plist.get("UserName") == ("ada" if is_system else None)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("is_system", [False, True])
def test_systemd_finds_nothing_wrong(tmp_path, is_system):
    definition = Definition(
        python=Path(sys.executable), directory=tmp_path / "my peer", is_system=is_system,
        user="root")
    unit = tmp_path / f"{NAME}.service"
    unit.write_text(systemd_unit(definition), encoding="utf-8")
    mode = "--system" if is_system else "--user"
    done = subprocess.run(
        ["systemd-analyze", mode, "verify", "--man=no", str(unit)], capture_output=True,
        text=True, timeout=60, check=False,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"})
    assert [line for line in done.stderr.splitlines() if NAME in line] == []


def test_paths():
    assert str(systemd_path(HOME, "", False)) == (
        "/home/ada/.config/systemd/user/homespun-peer.service")
    assert str(systemd_path(HOME, "/cfg", False)) == "/cfg/systemd/user/homespun-peer.service"
    assert str(systemd_path(HOME, "/cfg", True)) == "/etc/systemd/system/homespun-peer.service"
    assert str(launchd_path(HOME, False)) == (
        "/home/ada/Library/LaunchAgents/org.homespun.peer.plist")


def test_each_directory_has_a_service_of_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    default, first, other = (tmp_path / name for name in ("peer", "GPU 1", "elsewhere/GPU 1"))

    def plan(directory, system="linux"):
        definition = installation.definition_for(directory, default, False, 25.0)
        return installation.plan_for(definition, system, tmp_path, 1000)

    assert plan(default).path.name == "homespun-peer.service"
    assert re.fullmatch(r"homespun-peer-gpu-1-[0-9a-f]{6}\.service", plan(first).path.name)
    assert plan(first) == plan(first)
    for system in ("linux", "darwin", "win32"):
        plans = [plan(each, system) for each in (default, first, other)]
        assert len({each.path for each in plans}) == 3
        assert len({each.look for each in plans}) == 3
        assert all(each.path != plans[0].path for each in plans[1:])
    label = installation.definition_for(first, default, False, 25.0).label
    assert plistlib.loads(plan(first, "darwin").text.encode())["Label"] == label
    assert label.startswith("org.homespun.peer.gpu-1-")


def test_an_installed_service_starts_anew_with_what_has_changed(tmp_path):
    plan = installation.plan_for(linux(grace_s=300.0), "linux", tmp_path, 1000)
    assert plan.install[-1] == ("systemctl", "--user", "restart", "homespun-peer.service")
    assert plan.timeout_s > 300.0, "it hands over first"


def test_a_service_of_the_machine_runs_as_who_owns_its_directory(tmp_path):
    own = tmp_path.owner()
    definition = installation.definition_for(tmp_path, tmp_path, True, 25.0)
    assert definition.user == own
    if own == "root":
        with pytest.raises(HomespunError, match=f"chown -R ada: {tmp_path}") as caught:
            installation.require_account(definition, "", "ada")
        assert caught.value.code is Code.NOT_ALLOWED
        with pytest.raises(HomespunError, match="chown -R ACCOUNT"):
            installation.require_account(definition, "", "")
    installation.require_account(definition, own, "")
    asked = installation.definition_for(tmp_path, tmp_path, True, 25.0, "nobody-here")
    assert asked.user == "nobody-here"
    with pytest.raises(HomespunError, match=f"belongs to {own}, so that a service of nobody-here"):
        installation.require_account(asked, "nobody-here", "")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives away")
def test_a_key_that_was_given_away_says_who_runs_it(place):
    import pwd  # not on every system

    nobody = pwd.getpwnam("nobody")
    os.chown(place.identity, nobody.pw_uid, nobody.pw_gid)
    shown = say(place, "install")
    assert shown.exit_code == 0, shown.output
    assert "\nUser=nobody\n" in shown.stdout


def say(place, *arguments):
    return CliRunner().invoke(
        peer, ["service", *arguments, "--dry-run", "--system", "--dir", str(place.root)])


@pytest.mark.skipif(sys.platform != "linux", reason="systemd's unit is looked at")
def test_the_command_refuses_or_names_the_account(place):
    """A real peer's directory, with its key."""
    own = installation.owner_of_key(place.root)
    assert own == place.identity.owner()
    shown = say(place, "install", "--user", own)
    assert shown.exit_code == 0, shown.output
    assert f"\nUser={own}\n" in shown.stdout
    assert re.search(r"# systemctl restart homespun-peer-peer-[0-9a-f]{6}\.service", shown.stdout)
    other = say(place, "install", "--user", "nobody-here")
    assert other.exit_code == HomespunError(Code.NOT_ALLOWED, "").exit_code
    assert f"chown -R nobody-here: {place.root}" in other.stderr
    without = say(place, "install")
    assert (without.exit_code == 0) == (own != "root"), without.output


def test_the_machines_own_directory_has_the_plain_name():
    definition = installation.definition_for(
        Path("/var/lib/homespun-peer"), HOME, True, 25.0, "ada")
    assert definition.name == NAME


class System:
    """Commands that are run, and how they end."""

    def __init__(self, failing=""):
        self.commands, self.failing = [], failing

    def run(self, command, timeout_s=0.0):
        self.commands.append(command)
        return Ran(1, "no") if self.failing and self.failing in command else Ran(0, "")


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_install_and_uninstall_leave_nothing(tmp_path, monkeypatch, system):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(installation, "task_path", lambda directory: tmp_path / "task.xml")
    definition = linux()
    plan = installation.plan_for(definition, system, tmp_path, 1000)
    calls = System()
    installation.install(plan, calls.run)
    assert plan.path.read_text(encoding=plan.encoding) == plan.text
    assert calls.commands == list(plan.install)
    calls.commands.clear()
    installation.install(plan, calls.run)  # again: an older one ends first
    assert calls.commands == [*plan.retire, *plan.install]
    assert installation.uninstall(plan, calls.run)
    assert calls.commands[-len(plan.uninstall):] == list(plan.uninstall)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not installation.uninstall(plan, calls.run)


def test_a_manager_that_refuses_is_quoted_and_nothing_stays(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    plan = installation.plan_for(linux(), "linux", tmp_path, 1000)
    with pytest.raises(HomespunError) as caught:
        installation.install(plan, System("enable").run)
    assert caught.value.code is Code.CONFLICT
    assert "systemctl --user enable homespun-peer.service` ended with 1: no" in caught.value.message
    assert not plan.path.exists()


def test_a_system_that_is_not_known_and_commands_that_are_not_there():
    with pytest.raises(HomespunError, match="plan9"):
        installation.plan_for(linux(), "plan9", Path("/"), 0)
    assert installation.run_command(("homespun-has-no-such-program",)).exit_code == 127
    assert installation.run_command((sys.executable, "-c", "print('hello')")) == Ran(0, "hello")


def test_a_service_goes_also_when_its_peer_is_gone_already(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(installation, "task_path", lambda directory: tmp_path / "task.xml")
    monkeypatch.setattr(installation, "run_command", System().run)
    gone = tmp_path / "gone"
    plan = installation.plan_for(
        installation.definition_for(gone, HOME_PEER, False, 25.0), sys.platform, tmp_path, 1000)
    installation.install(plan, System().run)
    done = CliRunner().invoke(service, ["uninstall", "--dir", str(gone)])
    assert (done.exit_code, done.output) == (0, f"Removed {plan.path}.\n")
    assert not plan.path.exists()
