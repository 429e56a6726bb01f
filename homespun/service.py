"""Running a daemon: logs, signals, one exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from homespun.signals import STOP_SIGNALS


def configure_logs() -> None:
    """Readable lines on a terminal, JSON lines elsewhere; always on standard error."""
    import structlog

    is_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer()
            if is_terminal
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def run_service(
    work: Coroutine[Any, Any, None], stop: Callable[[], None] | None = None
) -> None:
    """Run a daemon's main coroutine until it ends, or a signal asks it to.

    The first signal lets it clean up and ends with exit code 0; a second one kills at once.

    Args:
        work: the daemon.
        stop: called at the first signal, in the loop's thread: the work then ends by itself.
            Without it the work is cancelled.

    Raises:
        HomespunError: what ended the daemon, out of its task groups.
    """
    configure_logs()
    asyncio.run(_until_signalled(work, stop))


async def _until_signalled(
    work: Coroutine[Any, Any, None], stop: Callable[[], None] | None
) -> None:
    main = asyncio.create_task(work)

    def first_signal() -> None:
        for number in STOP_SIGNALS:  # who asks a second time does not want to wait
            _restore(number)
        if stop is None:
            main.cancel()
        else:
            stop()

    for number in STOP_SIGNALS:
        _handle(number, first_signal)
    try:
        await main
    except asyncio.CancelledError:
        if not main.cancelled():
            raise
    except BaseExceptionGroup as group:
        raise _first_of(group) from None


def _handle(number: int, handler: Callable[[], None]) -> None:
    """Have the running loop call `handler` when a signal arrives."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, handler)
    except NotImplementedError:  # Windows, where the loop wakes up for Python's own handlers
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(handler))


def _restore(number: int) -> None:
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().remove_signal_handler(number)
    signal.signal(number, signal.SIG_DFL)


def _first_of(error: BaseException) -> BaseException:
    """The first plain exception inside nested groups: the one that made the others be cancelled."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
