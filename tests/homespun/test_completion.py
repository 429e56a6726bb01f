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

BASH = """
set -eu
eval "$($1 completion bash)"
complete -p "$1" >/dev/null
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"_$1_completion" "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""Bash has no way to press its Tab from outside: calls the function that Tab would call."""

ZSHRC = """
autoload -Uz compinit && compinit -D -u
eval "$(PROGRAM completion zsh)"
compadd() {
  [[ " $* " == *" -D "* ]] && { builtin compadd "$@"; return }
  local -a found
  builtin compadd -O found "$@"
  offered+=("${found[@]}")
}
offer() { local -a offered; _main_complete; print -r -- "<${(j: :)offered}>"; exit }
zle -C offer complete-word offer
bindkey '^I' offer
zle-line-init() { print "{ready}" }
zle -N zle-line-init
"""
"""What the page says, and a Tab that tells what it would offer: all but the calls of `compadd` that
only sort matches out (`-D`)."""

ZSH = """
zmodload zsh/zpty
zpty inner zsh -d -i
zpty -r inner said '*{ready}*'
zpty -w -n inner "$*"$'\\t'
zpty -r inner said '*<*>*'
print -r -- "${${said##*<}%%>*}"
"""
"""Types the words and a Tab into an interactive shell of its own."""

FISH = "complete --do-complete \"$argv\""


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


def run(search_path: str, home: Path, *command: str) -> str:
    """Output of a command that must succeed and complain of nothing."""
    found = shutil.which(command[0])
    if found is None:
        pytest.skip(f"there is no {command[0]} here")
    done = subprocess.run(
        [found, *command[1:]],
        env={**os.environ, "PATH": search_path, "PYTHONPATH": str(ROOT), "TERM": "dumb",
             "HOME": str(home), "ZDOTDIR": str(home), "XDG_CONFIG_HOME": str(home)},
        capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def completed(shell: str, home: Path, search_path: str, *words: str) -> list[str]:
    """What a shell offers for the last of `words`, sorted, when it was set up as the page says."""
    if shell == "bash":
        said = run(search_path, home, "bash", "--norc", "--noprofile", "-c", BASH, "bash", *words)
        return sorted(each for each in said.split() if each.startswith(words[-1]))
    if shell == "zsh":
        (home / ".zshrc").write_text(ZSHRC.replace("PROGRAM", words[0]), encoding="utf-8")
        return sorted(run(search_path, home, "zsh", "-f", "-c", ZSH, "zsh", *words).split())
    place = home / "fish" / "completions" / f"{words[0]}.fish"
    place.parent.mkdir(parents=True)
    place.write_text(script_of(words[0], "fish"), encoding="utf-8")
    said = run(search_path, home, "fish", "-c", FISH, *words)
    return sorted(line.split("\t")[0] for line in said.splitlines())


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("words", "offered"), [
    (("homespun", "wa"), ["watch"]),
    (("broker", "keys", "cr"), ["create"]),
    (("broker", "keys", "create", "--reu"), ["--reusable"]),
    (("peer", "join", "--executor", "o"), ["onnxruntime"]),
    (("peer", "completion", ""), sorted(SHELLS)),
    (("peer", "zzz"), []),
], ids=["command", "subcommand", "option", "value", "values", "nothing"])
def test_a_shell_completes(
    shell: str, tmp_path: Path, search_path: str, words: tuple[str, ...], offered: list[str]
) -> None:
    assert completed(shell, tmp_path, search_path, *words) == offered


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
