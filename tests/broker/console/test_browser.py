"""The console in a real browser: no string runs, nothing comes from elsewhere, tables stand alone.

Needs Playwright and Chromium (`apt-get install chromium`). Where HOMESPUN_BROWSER_REQUIRED is set,
as in CI, a missing browser is a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from urllib.parse import quote

import pytest

from broker.core import views
from tests.broker.console.conftest import console_of
from tests.broker.console.hostile_network import fill
from tests.broker.console.hostile_texts import HOSTILE
from tests.broker.test_operator_service import peers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
PATIENCE_S = 800
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGES = ("/", "/peers", "/placement", "/jobs", "/backups", "/events", "/members", "/keys", "/audit",
         "/settings")
WATCH = """
window.told = [];
window.ran = () => window.told.push("ran");
addEventListener("securitypolicyviolation", (event) => window.told.push(event.violatedDirective));
"""


@contextlib.asynccontextmanager
async def browser():
    """Chromium without a window."""
    required = os.environ.get("HOMESPUN_BROWSER_REQUIRED")
    if CHROMIUM is None and not required:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    api = pytest.importorskip("playwright.async_api")
    async with api.async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        await started.close()


class Watched:
    """A browser's context, and everything suspicious that happened in it."""

    def __init__(self, context, origin):
        self.context, self.origin, self.found = context, origin, []
        self.page = None

    async def open(self, there, *, role="operator"):
        await self.context.add_init_script(WATCH)
        self.context.on("request", self._requested)
        self.page = await self.context.new_page()
        self.page.on("dialog", lambda dialog: self.found.append(f"dialog {dialog.message}"))
        self.page.on("pageerror", lambda error: self.found.append(f"error {error}"))
        link = await there.broker.console.door().make_link("operator_1", role, 60_000)
        await self.page.goto(link.url)
        return self

    def _requested(self, request):
        if not request.url.startswith((self.origin + "/", "data:")):
            self.found.append(f"request {request.url}")

    async def visit(self, path):
        """Open a page; what it told of itself."""
        answer = await self.page.goto(self.origin + path, wait_until="load", timeout=120_000)
        self.found += [f"{path}: {told}" for told in await self.page.evaluate("window.told")]
        assert self.page.url.startswith(self.origin)
        return answer


def test_hostile_strings_are_text_and_nothing_else(place):
    """Fifty strings in every field that somebody else chooses, on every page."""
    fill(place.journal, HOSTILE)

    async def scenario():
        async with console_of(place, PATIENCE_S) as there, browser() as chromium:
            watched = await Watched(await chromium.new_context(), there.origin).open(there)
            await watched.page.wait_for_url(there.origin + "/")
            core = there.broker.driver.core
            labelled = [f"/peers/{peer.peer_id}" for peer in views.peers(core) if peer.label]
            jobs = [f"/jobs/{job.job_id}" for job in views.jobs(core)]
            queries = [f"/events?kind={quote(text)}&text={quote(text)}" for text in HOSTILE]
            assert len(labelled) == len(jobs) == len(queries)
            searches = [f"/{where}?text={quote(text)}&state={quote(text)}"
                        for text in HOSTILE for where in ("peers", "jobs")]
            for path in (*PAGES, *labelled, *jobs, *queries, *searches):
                answer = await watched.visit(path)
                assert answer.status == 200, path
                if path in jobs:
                    drawn = watched.page.locator("svg.chart polyline, svg.lanes .bar text")
                    assert await drawn.count() >= 3, path
            assert not watched.found
            shown = await (await watched.visit("/peers")).text()
            assert "<script>ran()" not in shown
            assert "&lt;script&gt;ran()" in shown

    asyncio.run(scenario())


def test_a_script_that_ran_would_be_seen(place):
    async def scenario():
        async with console_of(place) as there, browser() as chromium:
            watched = await Watched(await chromium.new_context(), there.origin).open(there)
            await watched.page.evaluate("document.body.innerHTML = '<img src=x onerror=ran()>'")
            told = await watched.page.evaluate(
                "new Promise((tell) => setInterval(() => told.length && tell(told), 10))")
            assert told == ["script-src-attr"], "the policy stops it, and we hear of it"

    asyncio.run(scenario())


def test_signing_in_acting_and_updating(place, network):
    async def scenario():
        async with console_of(place) as there, browser() as chromium:
            watched = await Watched(await chromium.new_context(), there.origin).open(there)
            page = watched.page
            await page.wait_for_url(there.origin + "/")
            assert "#" not in page.url
            await page.goto(there.origin + "/peers")
            async with peers(network, there.broker, "a"):
                await page.get_by_role("link", name="box-a").click(timeout=30_000)
                await page.get_by_label("Reason").first.fill("a new card")
                await page.get_by_role("button", name="Drain").click()
                await page.get_by_role("button", name="Use again").wait_for()
                assert views.peer(there.broker.driver.core, "peer_a").is_drained
                await page.goto(there.origin + "/audit")
                assert await page.get_by_text("a new card").count() == 1
            await page.get_by_role("button", name="Sign out").click()
            await page.wait_for_url(there.origin + "/sign-in")
            assert not watched.found

    asyncio.run(scenario())


def test_tables_need_no_javascript(place):
    fill(place.journal, HOSTILE[:6])

    async def scenario():
        async with console_of(place) as there, browser() as chromium:
            context = await chromium.new_context(java_script_enabled=False)
            page = await context.new_page()
            link = await there.broker.console.door().make_link("operator_1", "viewer", 60_000)
            await page.goto(link.url)
            await page.get_by_role("textbox").fill(link.url.partition("#")[2])
            await page.get_by_role("button", name="Sign in").click()
            for path, rows in (
                    ("/peers", 18), ("/jobs", 6), ("/keys", 6), ("/placement", 1)):
                await page.goto(there.origin + path)
                assert await page.locator("tbody tr").count() == rows, path
            assert await page.locator("main button:not([disabled])").count() == 0
            await page.goto(there.origin + "/peers")
            await page.get_by_role("searchbox").fill("peer_a0")
            await page.get_by_role("button", name="Filter").click()
            await page.wait_for_url("**/peers?text=peer_a0&state=")
            assert await page.locator("tbody tr").count() == 1
            await page.goto(there.origin + "/keys")
            said = page.locator('form[action="/keys"] .came')
            assert await said.is_visible(), "the line follows no choice, and says so"

    asyncio.run(scenario())
