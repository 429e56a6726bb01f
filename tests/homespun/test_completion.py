"""Shell completion: the scripts are what a real shell can load and use."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from homespun.cli.completion import SHELLS

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("homespun", "broker", "peer")

COMPLETE = """
set -eu
source "$1"; shift
complete -p "$1" >/dev/null
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"_$1_completion" "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""Loads the script that is the first argument and asks for what could be the last word."""


def script_of(program: str, shell: str) -> str:
    group = importlib.import_module(f"{program}.cli").cli
    ran = CliRunner().invoke(group, ["completion", shell], prog_name=program)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


@pytest.fixture
def search_path(tmp_path: Path) -> str:
    """A PATH on which the three programs are, whatever this environment has installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in PROGRAMS:
        place = folder / program
        place.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m {program} "$@"\n', "utf-8")
        place.chmod(0o755)
    return os.pathsep.join((str(folder), os.environ["PATH"]))


def completed(tmp_path: Path, search_path: str, *words: str) -> list[str]:
    """What bash offers for the last of `words`."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    script = tmp_path / "completion.bash"
    script.write_text(script_of(words[0], "bash"), encoding="utf-8")
    done = subprocess.run(
        [bash, "--norc", "--noprofile", "-c", COMPLETE, "bash", str(script), *words],
        env={**os.environ, "PATH": search_path, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(("words", "offered"), [
    (("homespun", "wa"), ["watch"]),
    (("broker", "keys", "cr"), ["create"]),
    (("broker", "keys", "create", "--reu"), ["--reusable"]),
    (("peer", "join", "--executor", "o"), ["onnxruntime"]),
    (("peer", "completion", ""), list(SHELLS)),
])
def test_bash_completes(
    tmp_path: Path, search_path: str, words: tuple[str, ...], offered: list[str]
) -> None:
    assert [each for each in completed(tmp_path, search_path, *words)
            if each.startswith(words[-1])] == offered


def test_bash_offers_nothing_for_nonsense(tmp_path: Path, search_path: str) -> None:
    assert completed(tmp_path, search_path, "peer", "zzz") == []


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", SHELLS)
def test_every_script_is_about_its_program(program: str, shell: str) -> None:
    script = script_of(program, shell)
    assert f"_{program.upper()}_COMPLETE={shell}_complete" in script
    assert f"_{program}_completion" in script


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_that_is_here_can_read_its_script(
    program: str, shell: str, tmp_path: Path
) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"there is no {shell} here")
    script = tmp_path / f"completion.{shell}"
    script.write_text(script_of(program, shell), encoding="utf-8")
    done = subprocess.run([found, "-n", str(script)], capture_output=True, text=True, timeout=60,
                          check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_shell_is_a_usage_error() -> None:
    group = importlib.import_module("peer.cli").cli
    assert CliRunner().invoke(group, ["completion", "tcsh"], prog_name="peer").exit_code == 2
