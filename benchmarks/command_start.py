"""How long every command takes to answer `--help`, each in a fresh process.

    python benchmarks/command_start.py [--repeats 5] [--json]

The time is that of the whole process, as somebody at a terminal waits for it. The bare interpreter
is measured in turn with the commands, so that a busy machine shows as such. What `--help` may
import is held by `tests/tidy/test_cli_start.py`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

PROGRAMS = ("homespun", "broker", "peer")
LIMIT_MS = 200.0
INTERPRETER = "(python -c pass)"


def main() -> int:
    parser = argparse.ArgumentParser(description="Time `--help` of every command.")
    parser.add_argument("--repeats", type=int, default=5, help="times each (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    arguments = parser.parse_args()
    taken = measure(arguments.repeats)
    for name, times_ms in taken.items():
        print(f"{statistics.median(times_ms):7.0f} ms  (least {min(times_ms):.0f})  {name}")
    slow = [name for name, times_ms in taken.items() if statistics.median(times_ms) > LIMIT_MS]
    print(f"{len(taken) - 1} commands; over {LIMIT_MS:.0f} ms: {', '.join(slow) or 'none'}")
    if arguments.json:
        print(json.dumps({"limit_ms": LIMIT_MS, "times_ms": taken}))
    return 1 if slow else 0


def measure(repeats: int) -> dict[str, list[float]]:
    """Command -> milliseconds of each start. The commands take turns, round by round."""
    lines = {INTERPRETER: ["-c", "pass"]}
    for program in PROGRAMS:
        for words in commands(program):
            lines[" ".join([program, *words])] = ["-P", "-m", program, *words, "--help"]
    taken: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(repeats):
        for name, line in lines.items():
            began_s = time.perf_counter()
            subprocess.run([sys.executable, *line], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
            taken[name].append((time.perf_counter() - began_s) * 1000)
    return taken


def commands(program: str) -> list[list[str]]:
    """Argument lists of every command of a program, the bare program first."""
    return [[], *_below(importlib.import_module(f"{program}.cli").cli, [])]


def _below(command: click.Command, path: list[str]) -> Iterator[list[str]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield [*path, name]
            yield from _below(child, [*path, name])


if __name__ == "__main__":
    raise SystemExit(main())
