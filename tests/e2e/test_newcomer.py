"""A newcomer of each of the three kinds, who types what the pages say and nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.documented import PROGRAMS, command_lines, plain

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "newcomer.sh"
STARTS = re.compile(r'^\s*(?:step "[^"]+" \d+|await "[^"]+" \d+ "[^"]+"|background \w+) (.*)$')
"""What the script runs as a newcomer; the rest of the line is the command."""
LIMIT_S = 3_000
"""Of the whole script; each step has a limit and a name of its own."""


def typed() -> list[str]:
    """The command lines of the script, as they stand."""
    return [plain(found[1]) for line in SCRIPT.read_text(encoding="utf-8").splitlines()
            if (found := STARTS.match(line))]


def as_documented(line: str) -> list[str]:
    """A command line's words, with what a page has where the script has a variable."""
    text = SCRIPT.read_text(encoding="utf-8")
    defaults = dict(re.findall(r"^(\w+)=\$\{\1:-([^}]*)\}$", text, re.MULTILINE))
    return [re.sub(r"\$(\w+)", lambda found: defaults.get(found[1], found[1]), word)
            for word in shlex.split(line)]


def words_of(line: str) -> str:
    """A line of a page, quoted in one way; "" for what no shell would read."""
    try:
        return shlex.join(shlex.split(line))
    except ValueError:
        return ""


LINES = typed()


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_is_documented(line: str) -> None:
    assert shlex.join(as_documented(line)) in {words_of(each.text) for each in command_lines()}


def test_every_program_is_used() -> None:
    assert {line.split()[0] for line in LINES} == {*PROGRAMS, "python", "python3"}
    assert len(LINES) > 25


def test_nothing_is_run_behind_the_documentations_back() -> None:
    """Lines of the script that call a program of ours are those that are compared above."""
    for line in SCRIPT.read_text(encoding="utf-8").splitlines():
        calls = re.match(rf"\s*(?:{'|'.join(PROGRAMS)}|python3?|pip)\s", line)
        assert not calls, line


@pytest.mark.e2e
@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.skipif(shutil.which("bash") is None or shutil.which("git") is None,
                    reason="the script is for bash, and clones")
def test_the_first_five_minutes_of_each(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(SCRIPT), str(tmp_path / "newcomer")], env={**os.environ, "ADDRESS": free_address()},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout[-8_000:]
    assert done.stdout.rstrip().endswith("done: all three")


def free_address() -> str:
    """An address whose port and the two after it are free: a broker takes three."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                for more in (1, 2):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + more))
            except (OSError, OverflowError):
                continue
            return f"127.0.0.1:{port}"
