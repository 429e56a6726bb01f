"""How long every command takes to answer `--help`, each in a fresh process.

    python benchmarks/command_start.py [--repeats 5] [--json]

Two times: until the process has ended, as somebody at a terminal waits for it, and what of that a
processor worked for it, which a busy machine changes little (Unix only). The bare interpreter is
measured in turn with the commands. What `--help` may import is held by
`tests/tidy/test_cli_start.py`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

PROGRAMS = ("homespun", "broker", "peer")
LIMIT_MS = 200.0
INTERPRETER = "(python -c pass)"


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a command: seconds until it had ended, and of those on a processor."""

    wall_s: float
    processor_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description="Time `--help` of every command.")
    parser.add_argument("--repeats", type=int, default=5, help="times each (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    arguments = parser.parse_args()
    taken = {name: (1000 * statistics.median(start.wall_s for start in starts),
                    1000 * statistics.median(start.processor_s for start in starts))
             for name, starts in measure(arguments.repeats).items()}
    print("ms until it ended, ms on a processor (medians)")
    for name, (wall_ms, processor_ms) in taken.items():
        print(f"{wall_ms:6.0f} {processor_ms:6.0f}  {name}")
    slow = [name for name, (wall_ms, _) in taken.items() if wall_ms > LIMIT_MS]
    print(f"{len(taken) - 1} commands; over {LIMIT_MS:.0f} ms: {', '.join(slow) or 'none'}")
    if arguments.json:
        print(json.dumps({"limit_ms": LIMIT_MS, "wall_and_processor_ms": taken}))
    return 1 if slow else 0


def measure(repeats: int) -> dict[str, list[Start]]:
    """Command -> its starts. The commands take turns, round by round."""
    lines = {INTERPRETER: ["-c", "pass"]}
    for program in PROGRAMS:
        for words in commands(program):
            lines[" ".join([program, *words])] = ["-P", "-m", program, *words, "--help"]
    taken: dict[str, list[Start]] = {name: [] for name in lines}
    for _ in range(repeats):
        for name, line in lines.items():
            before_s, began_s = _children_s(), time.perf_counter()
            subprocess.run([sys.executable, *line], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
            taken[name].append(
                Start(time.perf_counter() - began_s, _children_s() - before_s))
    return taken


def _children_s() -> float:
    """Processor time of all processes that this one has started and seen end; 0 where unknown."""
    ended = os.times()
    return ended.children_user + ended.children_system


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
