"""The broker's systemd unit: its command exists, and systemd accepts it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from homespun.errors import CATALOG, Code
from tests.documented import own_command, parse

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "homespun-broker.service"


def section(name: str) -> dict[str, str]:
    read = ConfigParser(interpolation=None, strict=False)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(UNIT.read_text(encoding="utf-8"))
    return dict(read[name])


def test_its_command_exists() -> None:
    command = section("Service")["ExecStart"]
    words = own_command(command)
    parse(words)
    assert words == ["broker", "serve", "/var/lib/homespun"]
    assert section("Service")["StateDirectory"] == Path(words[2]).name


def test_it_is_not_started_again_where_that_cannot_help() -> None:
    service = section("Service")
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == str(CATALOG[Code.BAD_CONFIGURATION].exit_code)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_accepts_it(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/homespun/bin/broker", sys.executable), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True,
        timeout=60, check=False)
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert not ours, done.stderr
