"""A whole broker with its console, and browsers that are signed in to it."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from tests.broker.console.browser import Browser
from tests.broker.live_broker import DEADLINE_S, free_ports, make_place, serving, until


@contextlib.asynccontextmanager
async def console_of(place, deadline_s=DEADLINE_S):
    """The broker of a directory with its console, which has come up."""
    async with serving(place, deadline_s) as broker:
        await until(lambda: broker.console._door is not None)
        origin = broker.console.door().origin

        async def signed_in(role="operator"):
            browser = Browser(origin)
            link = await broker.console.door().make_link("operator_1", role, 60_000)
            answer = await browser.sign_in(link.url)
            assert answer.status == 303, answer.text
            return browser

        yield SimpleNamespace(broker=broker, origin=origin, signed_in=signed_in)


@pytest.fixture
def place(network):
    (port,) = free_ports(1)
    return make_place(
        network, console=f"127.0.0.1:{port}", reconnect_grace_ms=100, lease_ttl_ms=600_000)


@pytest.fixture
def console(place):
    """`console(scenario)` runs an async function with the console that is up."""

    def run(scenario):
        async def whole():
            async with console_of(place) as there:
                await scenario(there)

        asyncio.run(whole())

    return run
