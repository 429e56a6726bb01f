"""Plans in a process of its own: a stranger's graph may take its memory and time, not the broker's.

The process reads one question of the core from standard input, answers with one event on standard
output and ends. It can be killed at any moment: the broker waits for the answer, and
for nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from broker.core import commands as do
from broker.core.events import BackupsRanked, JobReplanned, PlacementSolved, PlanningFailed
from broker.core.limits import PLANNING_TIMEOUT_MS
from broker.planner import nobody_ranked, not_replanned
from homespun.errors import Code, HomespunError

log = structlog.get_logger(__name__)

MEMORY_BYTES_MAX = 16 * 2**30
"""Address space of the process; a graph of a million nodes takes about 4 GiB."""

Question = do.SolvePlacement | do.RankBackups | do.ReplanJob
Answer = PlacementSolved | PlanningFailed | BackupsRanked | JobReplanned
_QUESTIONS: Mapping[str, type[Question]] = {
    kind.__name__: kind for kind in (do.SolvePlacement, do.RankBackups, do.ReplanJob)}
_ANSWERS: Mapping[str, type[Answer]] = {
    kind.__name__: kind
    for kind in (PlacementSolved, PlanningFailed, BackupsRanked, JobReplanned)}

T = TypeVar("T")


async def solve_apart(
    command: Question, graph_path: Path, timeout_s: float = PLANNING_TIMEOUT_MS / 1_000
) -> Answer:
    """Answer a question about a job's plan in a child process. A cancelled call kills it.

    Args:
        command: what to plan, for the first time or anew, or whom to rank.
        graph_path: where the job's graph lies.
        timeout_s: longest that it may take.

    Returns:
        The planner's answer. When it took too long or the process died, `PlanningFailed` for a
        plan, and for a started job an empty one: the job goes on as it is.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            # -P: the folder that the broker was started in must not hide our packages.
            sys.executable, "-P", "-m", "broker.planner_process", str(graph_path),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        return _failed(command, Code.INTERNAL, f"the planner could not be started: {error}")
    try:
        async with asyncio.timeout(timeout_s):
            said, _ = await process.communicate(_encode(command))
        return _decode(said, _ANSWERS)
    except TimeoutError:
        return _failed(command, Code.TIMED_OUT, f"planning took more than {timeout_s:g} s")
    except HomespunError:
        status = process.returncode
        log.error("planner_died", job_id=command.job_id, status=status)
        text = (
            f"the planner's process ended with status {status} and no answer; if it was killed, "
            "the broker's machine ran out of memory"
        )
        return _failed(command, Code.INTERNAL, text)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def main() -> None:
    """The child: standard input to standard output."""
    from broker.planner import rank, replan, solve

    _limit_memory()
    command, graph_path = _decode(sys.stdin.buffer.read(), _QUESTIONS), Path(sys.argv[1])
    answer: Answer
    try:
        match command:
            case do.RankBackups():
                answer = rank(command, graph_path)
            case do.ReplanJob():
                answer = replan(command, graph_path)
            case do.SolvePlacement():
                answer = solve(command, graph_path)
    except MemoryError:
        answer = _failed(command, Code.LIMIT_EXCEEDED, "planning the graph takes too much memory")
    sys.stdout.buffer.write(_encode(answer))


def _limit_memory() -> None:
    """Where the system can, so that a hostile graph does not push others out of memory."""
    try:
        import resource
    except ImportError:  # Windows
        return
    with contextlib.suppress(ValueError, OSError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))


def _failed(command: Question, code: Code, message: str) -> Answer:
    if isinstance(command, do.RankBackups):
        log.error("ranking_failed", job_id=command.job_id, code=code, text=message)
        return nobody_ranked(command)
    if isinstance(command, do.ReplanJob):
        log.error("replanning_failed", job_id=command.job_id, code=code, text=message)
        return not_replanned(command, message)
    return PlanningFailed(at_ns=0, job_id=command.job_id, code=code, message=message)


def _encode(value: Question | Answer) -> bytes:
    """The value's name, a newline, its fields."""
    return type(value).__name__.encode() + b"\n" + msgspec.msgpack.encode(value)


def _decode(said: bytes, kinds: Mapping[str, type[T]]) -> T:
    name, _, body = said.partition(b"\n")
    try:
        return msgspec.msgpack.decode(body, type=kinds[name.decode()])
    except (KeyError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise HomespunError(Code.INTERNAL, "nothing that the planner's pipe can bring") from error


if __name__ == "__main__":
    main()
