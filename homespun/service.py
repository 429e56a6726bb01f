"""Running a daemon: logs, signals, one exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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


def run_service(work: Coroutine[Any, Any, None]) -> None:
    """Run a daemon's main coroutine until it ends, or SIGINT or SIGTERM asks it to.

    The first signal lets it clean up and ends with exit code 0; a second one kills at once.

    Raises:
        HomespunError: what ended the daemon, out of its task groups.
    """
    configure_logs()
    asyncio.run(_until_signalled(work))


async def _until_signalled(work: Coroutine[Any, Any, None]) -> None:
    main = asyncio.create_task(work)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        main.cancel()
        for number in _SIGNALS:  # who asks a second time does not want to wait
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in _SIGNALS:
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C arrives by exception
            loop.add_signal_handler(number, stop)
    try:
        await main
    except asyncio.CancelledError:
        if not main.cancelled():
            raise
    except BaseExceptionGroup as group:
        raise _first_of(group) from None


def _first_of(error: BaseException) -> BaseException:
    """The first plain exception inside nested groups: the one that made the others be cancelled."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
