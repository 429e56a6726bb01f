"""Serves the console from the broker's own event loop, and gets out of its way.

The web framework is imported, in a thread, only once the broker serves its members. A console that
cannot have its port is missing, with a line in the log; the broker serves all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from broker.console.address import ConsoleAddress
from broker.console.sign_in import Door, SignIn
from broker.driver import Driver
from broker.operator_actions import OperatorActions
from broker.settings import BrokerSettings
from broker.telemetry import Telemetry
from homespun.errors import Code, HomespunError
from homespun.identity.address import join_address

if TYPE_CHECKING:
    import uvicorn

    from broker.console.page import ConsoleParts

log = structlog.get_logger(__name__)

CONNECTIONS_MAX = 500
STOP_GRACE_S = 1


@dataclass(slots=True)
class ConsoleServer:
    """The console of one broker."""

    driver: Driver
    actions: OperatorActions
    telemetry: Telemetry
    settings: BrokerSettings
    address: ConsoleAddress | None
    missing: str = "The settings want none: console_listen is empty."
    """Why there is none."""
    parts: ConsoleParts | None = None
    """What the pages work with, once there are any."""
    _door: Door | None = None

    def door(self) -> Door:
        """Where links into the console are made.

        Raises:
            HomespunError: CONFLICT where no console is served.
        """
        if self._door is None:
            raise HomespunError(
                Code.CONFLICT, f"This broker serves no console. {self.missing} "
                "Change console_listen in broker.json and start the broker again.")
        return self._door

    @contextlib.asynccontextmanager
    async def serving(self, work: asyncio.TaskGroup) -> AsyncIterator[None]:
        """Serve until the block ends.

        Args:
            work: the broker's tasks.
        """
        listener = self._listen()
        if listener is None:
            yield
            return
        stop = asyncio.Event()
        task = work.create_task(self._run(listener, stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait((task,))

    def _listen(self) -> socket.socket | None:
        """The bound socket, and the door before it."""
        if self.address is None:
            return None
        host, port = self.address.host, self.address.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family)
        except OSError as error:
            self.missing = f"{join_address(host, port)} cannot be had: {error.strerror}."
            log.warning("no_console", reason=self.missing)
            return None
        self.address = replace(self.address, port=listener.getsockname()[1])
        self._door = Door(self.driver, SignIn(time.monotonic_ns), self.address.origin)
        return listener

    async def _run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        try:
            server = await asyncio.to_thread(self._make)
            stopping = asyncio.create_task(_stop(server, stop))
            try:
                log.info("console", address=self.door().origin)
                await server.serve([listener])
            finally:
                stopping.cancel()
        except Exception as error:
            log.exception("no_console")
            self.missing, self._door = f"It has failed: {error}.", None
        finally:
            listener.close()

    def _make(self) -> uvicorn.Server:
        """Import the framework and build the application: too slow for the event loop."""
        import uvicorn

        from broker.console.app import build
        from broker.console.page import ConsoleParts

        class Server(uvicorn.Server):
            """Signals are the broker's business."""

            @contextlib.contextmanager
            def capture_signals(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
                yield

        assert self.address is not None, "the listener is bound"
        self.parts = ConsoleParts(
            driver=self.driver, actions=self.actions, telemetry=self.telemetry,
            settings=self.settings, door=self.door())
        return Server(uvicorn.Config(
            build(self.parts, self.address), http="h11", ws="none", lifespan="off", log_config=None,
            access_log=False, proxy_headers=False, server_header=False,
            limit_concurrency=CONNECTIONS_MAX, timeout_graceful_shutdown=STOP_GRACE_S,
            ssl_certfile=self.address.certificate or None, ssl_keyfile=self.address.key or None))


async def _stop(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True
