"""A page that updates itself, in a real browser: what somebody does on it stays as it is."""

from __future__ import annotations

import asyncio
import random
import re
import shlex
from html import escape, unescape

import pytest

from broker.core import views
from broker.operator_actions import Actor
from homespun.v1 import session_pb2
from tests.broker.console.conftest import console_of
from tests.broker.console.test_browser import PATIENCE_S, Watched, browser
from tests.broker.live_broker import until
from tests.broker.test_operator_service import first_to_hear, peers, submit

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
SEED = 6
PAIRS = 300
MORPH = """async (pairs) => {
  const { morphInto } = await import("/assets/morph.js");
  const bodyOf = (html) => new DOMParser().parseFromString(html, "text/html").body;
  return pairs.map(([before, after]) => {
    const host = document.createElement("div");
    host.append(...bodyOf(before).childNodes);
    const named = () => [...host.querySelectorAll(":scope > [data-key]")];
    const kept = new Map(named().map((each) => [each.dataset.key, each]));
    morphInto(host, bodyOf(after));
    const strangers = named().filter((each) => (kept.get(each.dataset.key) ?? each) !== each);
    return [host.innerHTML, bodyOf(after).innerHTML, strangers.length];
  });
}"""


def some_children(rng, depth=2):
    """Random siblings: texts, elements without a key, and elements with one, in any order."""
    keys = rng.sample("abcdef", rng.randint(0, 5))
    parts = [f'<li data-key="{key}" title="{rng.randint(0, 2)}">{rng.randint(0, 9)}</li>'
             for key in keys]
    for _ in range(rng.randint(0, 4)):
        inner = some_children(rng, depth - 1) if depth else escape(rng.choice(["x", "<y>", "&"]))
        name = rng.choice(["p", "h2", "ul"])
        parts.append(rng.choice([" ", f'<div class="{rng.choice("uv")}">{inner}</div>',
                                 f"<{name}>{rng.randint(0, 9)}</{name}>"]))
    rng.shuffle(parts)
    return "".join(parts)


def test_a_morphed_page_is_the_new_page_and_keeps_what_has_a_key(place):
    rng = random.Random(SEED)
    pairs = [(some_children(rng), some_children(rng)) for _ in range(PAIRS)]

    async def scenario():
        async with console_of(place, PATIENCE_S) as there, browser() as chromium:
            watched = await Watched(await chromium.new_context(), there.origin).open(there)
            await watched.page.wait_for_url(there.origin + "/")
            found = await watched.page.evaluate(MORPH, pairs)
            for (before, after), (now, wanted, strangers) in zip(pairs, found, strict=True):
                assert now == wanted, (SEED, before, after)
                assert not strangers, (SEED, before, after)

    asyncio.run(scenario())


def test_typing_choices_focus_and_place_outlive_an_update(place, network):
    async def scenario():
        async with console_of(place, PATIENCE_S) as there, browser() as chromium, \
                peers(network, there.broker, "a"):
            core = there.broker.driver.core
            await until(lambda: views.peer(core, "peer_a"))
            watched = await Watched(await chromium.new_context(), there.origin).open(there)
            page = watched.page
            await page.wait_for_url(there.origin + "/")
            await page.goto(there.origin + "/peers/peer_a")
            drain = page.locator('form[action="/peers/peer_a/drain"]')
            await drain.get_by_label("Reason").fill("a new card")
            await drain.get_by_label("Deadline").select_option("1h")
            ban = page.get_by_role("button", name="Ban")
            await ban.focus()
            await drain.evaluate("each => { each.isMine = true; }")
            top = await page.evaluate("scrollTo(0, 150); scrollY")
            for label in ("attic", "cellar"):
                await there.broker.console.parts.actions.label_peer(
                    Actor(by="operator_1"), "peer_a", label)
                await page.locator("dl dd", has_text=label).wait_for(timeout=60_000)
                assert await drain.get_by_label("Reason").input_value() == "a new card"
                assert await drain.get_by_label("Deadline").input_value() == "1h"
                assert await page.get_by_label("Label").input_value() == label, "nobody typed there"
                assert await ban.evaluate("each => each === document.activeElement")
                assert await drain.evaluate("each => each.isMine")
                assert await page.evaluate("scrollY") == top
                shown = await drain.locator("code").text_content()
                assert shown == "broker drain peer_a --deadline 1h -m 'a new card'"
            assert not watched.found

    asyncio.run(scenario())


def test_what_is_open_stays_open_while_a_job_goes_on(place, network):
    async def scenario():
        async with console_of(place, PATIENCE_S) as there, browser() as chromium, \
                peers(network, there.broker, "a", "b") as both:
            core = there.broker.driver.core
            job_id = await submit(there.broker)
            holder, _, assigned = await first_to_hear("assign", *both)
            await holder.reports(job_id, assigned.token, ready=session_pb2.SegmentReady())
            await until(lambda: views.job(core, job_id).state == "running")
            watched = await Watched(await chromium.new_context(), there.origin).open(there)
            page = watched.page
            await page.wait_for_url(there.origin + "/")
            await page.goto(f"{there.origin}/jobs/{job_id}")
            summary = page.locator("#segment-0 summary")
            await summary.click()
            await holder.reports(job_id, assigned.token, steps=session_pb2.StepsDone(
                first_step=0, count=40, losses=[float(40 - step) for step in range(40)]))
            await page.get_by_text("40 of 100").wait_for(timeout=60_000)
            await page.locator("polyline.loss").wait_for(timeout=60_000)
            assert await page.locator("#segment-0").evaluate("each => each.open")
            assert await summary.evaluate("each => each === document.activeElement")
            assert not watched.found

    asyncio.run(scenario())


def test_a_command_line_says_what_is_chosen(place):
    async def scenario():
        async with console_of(place, PATIENCE_S) as there, browser() as chromium:
            watched = await Watched(await chromium.new_context(), there.origin).open(there)
            page = watched.page
            await page.wait_for_url(there.origin + "/")
            await page.goto(there.origin + "/keys")
            shown = page.locator('form[action="/keys"] code')
            plain = (await (await there.signed_in()).get("/keys")).text
            (written,) = re.findall(r"<code data-command[^>]*>([^<]*)</code>", plain)
            assert await shown.text_content() == unescape(written), "by the script as by the page"
            assert not await page.locator('form[action="/keys"] .came').is_visible()
            await page.locator("select[name=role]").select_option("submitter")
            await page.get_by_label("Valid for").fill("7d")
            await page.get_by_label("any number").check()
            await page.get_by_label("Reason").fill("Anna's \"new\" $(PC)")
            assert shlex.split(await shown.text_content()) == [
                "broker", "keys", "create", "--role", "submitter", "--expires", "7d", "--reusable",
                "-m", "Anna's \"new\" $(PC)"]
            assert not watched.found

    asyncio.run(scenario())
