"""The executor process: tensors and tasks come by standard input, results go by standard output.

One thread reads ahead, so that receiving overlaps computing; one writes behind; the main one
computes; and one writes a snapshot, while there is one to write. When standard input ends the
daemon is gone, and so is this process, at once: it keeps nothing that the daemon cannot rebuild.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import BinaryIO, NoReturn, ParamSpec

from homespun.signals import STOP_SIGNALS
from peer.executor.base import Executor
from peer.executor.boundary_check import blamed_segment
from peer.executor.failures import code_and_message
from peer.executor.messages import (
    Done,
    Export,
    Exported,
    Failed,
    Load,
    Loaded,
    Message,
    Restore,
    Restored,
    Run,
    Started,
    TakeSnapshot,
    Unload,
    decode,
)
from peer.executor.pipe import control_frame, read_frame, write_frame
from peer.executor.registry import create
from peer.executor.snapshot_writer import SnapshotWriter
from peer.executor.work import SegmentWork
from peer.frames import Frame, Kind
from peer.priority import Priority, give_way

P = ParamSpec("P")

WRITE_BEHIND_FRAMES = 64
"""Frames that may wait for the daemon; a full queue stops computing, which is the back-pressure."""


def main() -> None:
    """Run until standard input ends."""
    parser = argparse.ArgumentParser(description="Homespun executor process (started by peer run)")
    parser.add_argument("--executor", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--memory-bytes", type=int, default=0)
    parser.add_argument("--priority", type=Priority, default=Priority.NORMAL)
    arguments = parser.parse_args()
    if arguments.priority is Priority.LOW:
        give_way()  # before any thread starts: on Linux each has a priority of its own
    _ignore_signals()
    replies = _take_standard_output()
    inbox: queue.Queue[Frame | Message] = queue.Queue()
    outbox: queue.Queue[Frame] = queue.Queue(WRITE_BEHIND_FRAMES)
    threading.Thread(target=_read, args=(sys.stdin.buffer, inbox), daemon=True).start()
    threading.Thread(target=_write, args=(replies, outbox), daemon=True).start()
    make = functools.partial(
        create, arguments.executor, arguments.device, arguments.threads, arguments.memory_bytes)
    _Service(outbox, make).serve(inbox)


def _take_standard_output() -> BinaryIO:
    """Keep the pipe for frames: whatever a library prints goes to standard error instead."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return replies


def _ignore_signals() -> None:
    """A terminal interrupts all processes at once, but this one ends when the daemon says so."""
    for number in STOP_SIGNALS:
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


class _Service:
    """Carries out what the daemon asks for: one segment at a time, in one thread."""

    def __init__(self, outbox: queue.Queue[Frame], make: Callable[[], Executor]) -> None:
        self._outbox = outbox
        self._create = make
        self._executor: Executor | None = None
        self._work: SegmentWork | None = None
        self._snapshots = SnapshotWriter(self._answer)

    def serve(self, inbox: queue.Queue[Frame | Message]) -> NoReturn:
        """Take what arrives, one after the other; what fails is said, and the next is taken.

        The framework is loaded first: that takes seconds, and who asks for a segment waits for it.
        """
        self._start()
        while True:
            item = inbox.get()
            try:
                self._handle(item)
            except Exception as error:  # the edge of the process: whatever it is, it is reported
                code, message = code_and_message(error)
                self._answer(Failed(
                    code=code, message=message, blamed_segment=blamed_segment(error)))

    def _start(self) -> None:
        # A framework is half a million objects that stay: looking through them for garbage again
        # and again is an eighth of the start, and of each collection later.
        gc.disable()
        try:
            self._executor = self._create()
        except Exception as error:  # tried again when a segment comes
            code, message = code_and_message(error)
            self._answer(Started(code=code, message=message))
        else:
            self._answer(Started())
        finally:
            gc.freeze()
            gc.enable()

    def _handle(self, item: Frame | Message) -> None:
        match item:
            case Load():
                self._load(item)
            case Unload():
                self._unload()
            case _:
                self._handle_loaded(item)

    def _handle_loaded(self, item: Frame | Message) -> None:
        work = self._work
        assert work is not None, f"a {type(item).__name__} came before a segment was loaded"
        match item:
            case Frame():
                work.receive(item)
            case Run():
                _run(work, item, self._outbox)
            case TakeSnapshot():
                self._snapshots.take(item, work.owner, work.state)
            case Restore():
                for frame in _restore(work, item):
                    self._outbox.put(frame)
                self._answer(Restored(position=item.position))
            case Export():
                work.export()
                self._answer(Exported())

    def _load(self, request: Load) -> None:
        """Load a segment; the one that was loaded before goes first, so that both need not fit."""
        self._unload()
        self._executor = self._executor or self._create()
        self._work = SegmentWork(request, self._executor)
        forward_flops, backward_flops = self._work.flops
        self._answer(Loaded(
            numeric_class=self._executor.numeric_class, predicted=self._work.predicted,
            forward_flops=forward_flops, backward_flops=backward_flops))

    def _unload(self) -> None:
        self._snapshots.wait()
        work, self._work = self._work, None
        if work is not None:
            work.close()
            del work
            gc.collect()

    def _answer(self, message: Message) -> None:
        self._outbox.put(control_frame(message))


def _restore(work: SegmentWork, request: Restore) -> tuple[Frame, ...]:
    if request.parts:
        return work.restore_joined([Path(part) for part in request.parts], request.position)
    return work.restore(Path(request.path), request.position)


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
