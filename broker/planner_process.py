"""Plans in a process of its own: a stranger's graph may take its memory and time, not the broker's.

The process reads a `SolvePlacement` from standard input, answers with one event on standard output
and ends. It can be killed at any moment: the broker waits for the answer, and for nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import msgspec
import structlog

from broker.core import commands as do
from broker.core.events import PlacementSolved, PlanningFailed
from broker.core.limits import PLANNING_TIMEOUT_MS
from homespun.errors import Code, HomespunError

log = structlog.get_logger(__name__)

MEMORY_BYTES_MAX = 16 * 2**30
"""Address space of the process; a graph of a million nodes takes about 4 GiB."""

Answer = PlacementSolved | PlanningFailed
_ANSWERS: dict[str, type[PlacementSolved] | type[PlanningFailed]] = {
    kind.__name__: kind for kind in (PlacementSolved, PlanningFailed)
}


async def solve_apart(
    command: do.SolvePlacement, graph_path: Path, timeout_s: float = PLANNING_TIMEOUT_MS / 1_000
) -> Answer:
    """Plan a job in a child process. A cancelled call kills it.

    Args:
        command: what to plan.
        graph_path: where its graph lies.
        timeout_s: longest that planning may take.

    Returns:
        The planner's answer; or `PlanningFailed` when it took too long or the process died.
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
            said, _ = await process.communicate(msgspec.msgpack.encode(command))
        return _decode(said)
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
    from broker.planner import solve

    _limit_memory()
    command = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=do.SolvePlacement)
    answer: Answer
    try:
        answer = solve(command, Path(sys.argv[1]))
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


def _failed(command: do.SolvePlacement, code: Code, message: str) -> PlanningFailed:
    return PlanningFailed(at_ns=0, job_id=command.job_id, code=code, message=message)


def _encode(answer: Answer) -> bytes:
    """The answer's name, a newline, its fields."""
    return type(answer).__name__.encode() + b"\n" + msgspec.msgpack.encode(answer)


def _decode(said: bytes) -> Answer:
    name, _, body = said.partition(b"\n")
    try:
        return msgspec.msgpack.decode(body, type=_ANSWERS[name.decode()])
    except (KeyError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise HomespunError(Code.INTERNAL, "the planner's process gave no answer") from error


if __name__ == "__main__":
    main()
