"""The executor process: tensors and tasks come by standard input, results go by standard output.

Three threads: one reads ahead, so that receiving overlaps computing; one writes behind; the main
one computes. When standard input ends the daemon is gone, and so is this process, at once: it keeps
nothing that the daemon cannot rebuild.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import functools
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from time import perf_counter, process_time
from typing import BinaryIO, ParamSpec

from homespun.errors import Code, HomespunError
from peer.executor.messages import (
    Done,
    Export,
    Exported,
    Failed,
    Load,
    Loaded,
    Message,
    Run,
    decode,
)
from peer.executor.pipe import control_frame, read_frame, write_frame
from peer.executor.work import SegmentWork
from peer.frames import Frame, Kind

P = ParamSpec("P")

WRITE_BEHIND_FRAMES = 64
"""Frames that may wait for the daemon; a full queue stops computing, which is the back-pressure."""


def main() -> None:
    """Run until standard input ends."""
    parser = argparse.ArgumentParser(description="Homespun executor process (started by peer run)")
    parser.add_argument("--executor", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    _ignore_signals()
    replies = _take_standard_output()
    inbox: queue.Queue[Frame | Message] = queue.Queue()
    outbox: queue.Queue[Frame] = queue.Queue(WRITE_BEHIND_FRAMES)
    threading.Thread(target=_read, args=(sys.stdin.buffer, inbox), daemon=True).start()
    threading.Thread(target=_write, args=(replies, outbox), daemon=True).start()
    _serve(inbox, outbox, arguments.executor, arguments.device, arguments.threads)


def _take_standard_output() -> BinaryIO:
    """Keep the pipe for frames: whatever a library prints goes to standard error instead."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return replies


def _ignore_signals() -> None:
    """A terminal interrupts all processes at once, but this one ends when the daemon says so."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _ends_process(thread: Callable[P, None]) -> Callable[P, None]:
    """Whatever ends one of the two pipes ends the process: the daemon sees that at once."""

    @functools.wraps(thread)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        status = 1
        try:
            thread(*args, **kwargs)
            status = 0
        except BrokenPipeError:
            status = 0  # the daemon is gone
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    return run


@_ends_process
def _read(stream: BinaryIO, inbox: queue.Queue[Frame | Message]) -> None:
    while (item := read_frame(stream)) is not None:
        frame, payload = item
        if frame.kind is Kind.CONTROL:
            inbox.put(decode(payload))
        else:
            inbox.put(dataclasses.replace(frame, payload=payload))


@_ends_process
def _write(stream: BinaryIO, outbox: queue.Queue[Frame]) -> None:
    while True:
        write_frame(stream, outbox.get())


def _serve(
    inbox: queue.Queue[Frame | Message],
    outbox: queue.Queue[Frame],
    executor: str,
    device: str,
    threads: int,
) -> None:
    work: SegmentWork | None = None
    while True:
        item = inbox.get()
        try:
            if isinstance(item, Frame):
                assert work is not None, "a tensor came before the segment was loaded"
                work.receive(item)
            elif isinstance(item, Load):
                work = SegmentWork(item, executor, device, threads)
                outbox.put(control_frame(Loaded(
                    numeric_class=work.numeric_class, predicted=work.predicted)))
            elif isinstance(item, Run):
                assert work is not None, "a task came before the segment was loaded"
                _run(work, item, outbox)
            elif isinstance(item, Export):
                assert work is not None, "an export came before the segment was loaded"
                work.export()
                outbox.put(control_frame(Exported()))
        except HomespunError as error:
            outbox.put(control_frame(Failed(code=error.code, message=error.message)))
        except MemoryError:
            outbox.put(control_frame(Failed(code=Code.OUT_OF_MEMORY, message="out of memory")))
        except OSError as error:
            outbox.put(control_frame(Failed(code=_code_of(error), message=str(error))))
        except Exception as error:  # the edge of the process: whatever it is, it is reported
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}"
            outbox.put(control_frame(Failed(code=Code.EXECUTOR_FAILED, message=text)))


def _code_of(error: OSError) -> Code:
    is_full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return Code.DISK_FULL if is_full else Code.EXECUTOR_FAILED


def _run(work: SegmentWork, request: Run, outbox: queue.Queue[Frame]) -> None:
    started, cpu_started = perf_counter(), process_time()
    result = work.run(request.task)
    compute_s, cpu_s = perf_counter() - started, process_time() - cpu_started
    for frame in result.frames:
        outbox.put(frame)
    done = Done(
        task=request.task,
        loss=None if result.loss is None else result.loss.hex(),
        has_deferred=result.has_deferred,
        norm_names=tuple(result.squared_norms),
        norm_values=tuple(value.hex() for value in result.squared_norms.values()),
        compute_s=compute_s,
        cpu_s=cpu_s,
    )
    outbox.put(control_frame(done))


if __name__ == "__main__":
    main()
