"""How events reach callbacks: each has a thread of its own behind a bounded queue.

Nothing here blocks or raises while the job is followed; at the end it waits, for a bounded time.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from homespun.callbacks.base import Callback
from homespun.callbacks.events import Beginning, Ending, Event, EventReader, Recovery
from homespun.errors import Code, HomespunError
from homespun.status import EvaluationMetric, JobStatus, JobUpdate, StepMetric

QUEUE_EVENTS = 4096
"""Events that wait for one callback; beyond, the newest are dropped."""
END_S = 15.0
"""What all callbacks of a job have together to write their last events."""

_log = logging.getLogger("homespun.callbacks")


class Delivery:
    """The events of one callback, on their way.

    Attributes:
        failures: calls that raised.
        dropped: events that found the queue full, or that were left over at the end.
    """

    def __init__(self, callback: Callback, capacity: int = QUEUE_EVENTS) -> None:
        """Start the thread.

        Args:
            callback: what to call.
            capacity: events that may wait, >= 1.
        """
        self.failures = 0
        self.dropped = 0
        self._callback = callback
        self._name = type(callback).__name__
        self._events: queue.Queue[Event] = queue.Queue(capacity)
        # A daemon: a callback that hangs must not keep the program from ending.
        self._thread = threading.Thread(
            target=self._run, name=f"callback-{self._name}", daemon=True)
        self._thread.start()

    def tell(self, event: Event) -> None:
        """Queue an event; drop it if the callback is too far behind."""
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self.dropped += 1

    def end(self, ending: Ending) -> None:
        """Queue the last event; where there is no room, in place of the oldest one."""
        with contextlib.suppress(queue.Empty):
            while self._events.full():
                self._events.get_nowait()
                self.dropped += 1
        self.tell(ending)

    def wait(self, deadline: float) -> None:
        """Wait until all is delivered, or until `deadline` of the monotonic clock."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self.dropped += self._events.qsize()
            _log.warning("The callback %s is still busy; it is left alone.", self._name)
        if self.dropped or self.failures > 1:
            _log.warning("The callback %s has failed %d times and missed %d events.",
                         self._name, self.failures, self.dropped)

    def _run(self) -> None:
        while True:
            event = self._events.get()
            try:
                _call(self._callback, event)
            except BaseException as error:  # whatever it is, it must not go further
                self.failures += 1
                if self.failures == 1:
                    _log.warning(
                        "The callback %s failed and is called again at the next event; the "
                        "training is not affected. %s: %s",
                        self._name, type(error).__name__, error)
            if isinstance(event, Ending):
                return


class Reporter:
    """Tells callbacks about one job: call it with each update, in a `with` statement.

    Attributes:
        deliveries: one for each callback; empty before the first update.
    """

    def __init__(
        self, callbacks: Sequence[Callback], *, settings: Mapping[str, object] | None = None,
        logging_steps: int = 1, end_s: float = END_S,
    ) -> None:
        """Begin with nothing; threads start with the first update.

        Args:
            callbacks: whom to tell; see `check_callbacks`.
            settings: see `Beginning`.
            logging_steps: see `EventReader`.
            end_s: how long leaving the `with` statement may take.
        """
        self.deliveries: tuple[Delivery, ...] = ()
        self._callbacks = tuple(callbacks)
        self._settings = dict(settings or {})
        self._reader = EventReader(logging_steps)
        self._end_s = end_s
        self._status: JobStatus | None = None

    def __call__(self, update: JobUpdate) -> None:
        """Take the next update in; neither waits nor raises."""
        if self._status is None:
            self.deliveries = tuple(Delivery(callback) for callback in self._callbacks)
            self._tell(Beginning(
                job_id=update.status.job_id, name=update.status.name, settings=self._settings))
        self._status = update.status
        for event in self._reader.read(update, time.time_ns() // 1_000_000):
            self._tell(event)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Tell all that it is over, and wait for what is under way, `end_s` at most."""
        if self._status is None:
            return
        for delivery in self.deliveries:
            delivery.end(Ending(status=self._status))
        deadline = time.monotonic() + self._end_s
        for delivery in self.deliveries:
            delivery.wait(deadline)

    def _tell(self, event: Event) -> None:
        for delivery in self.deliveries:
            delivery.tell(event)


def check_callbacks(callbacks: object) -> tuple[Callback, ...]:
    """The callbacks as a tuple.

    Raises:
        HomespunError: INVALID_ARGUMENT for anything that is no `Callback`.
    """
    listed = tuple(callbacks) if isinstance(callbacks, list | tuple) else (callbacks,)
    for callback in listed:
        if not isinstance(callback, Callback):
            hint = " Make one: write its name with ()." if isinstance(callback, type) else ""
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"callbacks must be instances of homespun.callbacks.Callback; one is "
                f"{callback!r}.{hint}", argument="callbacks")
    return listed


def _call(callback: Callback, event: Event) -> None:
    match event:
        case Beginning():
            callback.on_begin(event)
        case StepMetric():
            callback.on_step(event)
        case EvaluationMetric():
            callback.on_evaluation(event)
        case Recovery():
            callback.on_recovery(event)
        case Ending():
            callback.on_end(event.status)
