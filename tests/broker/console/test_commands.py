"""Every page and every button names a command line that exists, with the options that it has."""

from __future__ import annotations

import shlex
from html.parser import HTMLParser

import click
import pytest

from broker.cli import cli
from broker.cli.look import JOB_STATES, PEER_STATES
from broker.console.app import table
from broker.console.guard import Access
from broker.console.pages.peers import STATES
from broker.core import views
from broker.core.state import JobState
from homespun.v1 import operator_pb2, session_pb2
from tests.broker.live_broker import until
from tests.broker.test_operator_service import called, command, first_to_hear, peers, submit

PAGES = [row for row in table(lambda origin, cookie: "")
         if row.method == "GET" and row.access is Access.VIEWER]
VOID = ("input", "meta", "link", "br")


class Named(HTMLParser):
    """The forms of a page with their fields and command lines, and the line in its footer."""

    def __init__(self, text):
        super().__init__()
        self.forms, self.footer, self.open, self.told = [], "", [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "form":
            self.forms.append({"to": found["action"], "line": "", "base": "", "fields": []})
        elif tag in ("input", "select") and found.get("type") != "hidden":
            self.forms[-1]["fields"].append((found, []))
        elif tag == "option":
            self.forms[-1]["fields"][-1][1].append(found["value"])
        elif tag == "code" and "form" in self.open:
            self.forms[-1]["base"] = found.get("data-command", "")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-2:] == ["footer", "span"]:
            self.told = data.strip()
        if self.open[-1:] == ["code"] and "form" in self.open:
            self.forms[-1]["line"] += data
        elif self.open[-1:] == ["code"] and "footer" in self.open:
            self.footer += data


def parsed(line):
    """The command of a line and the values that it would be called with.

    Raises:
        click.UsageError: there is none such, or it does not take them.
    """
    name, *words = shlex.split(line)
    assert name == "broker", line
    found, context = cli, click.Context(cli, info_name="broker")
    while isinstance(found, click.Group):
        name, child, words = found.resolve_command(context, words)
        found, context = child, click.Context(child, info_name=name, parent=context)
    return found, found.make_context(found.name, words).params


def variants(form):
    """The lines that a form can show: each of its fields with each value that it may have."""
    yield form["line"]
    tail = " word" if any(field["data-flag"] == "" for field, _ in form["fields"]) else ""
    for field, values in form["fields"]:
        for value in values or ["7d"]:
            if field.get("type") == "checkbox":
                yield f"{form['base']} {field['data-flag']}"
            elif value and field["data-flag"]:
                yield f"{form['base']} {field['data-flag']} {shlex.quote(value)}{tail}"


def test_every_page_and_form_names_a_command_that_exists(console, network):
    async def scenario(there):
        broker, browser = there.broker, await there.signed_in()
        await browser.post("/keys", {"role": "peer", "expires": "1h"})
        async with peers(network, broker, "a", "b") as both:
            job_id = await submit(broker)
            holder, _, assigned = await first_to_hear("assign", *both)
            await holder.reports(job_id, assigned.token, ready=session_pb2.SegmentReady())
            await until(lambda: views.job(broker.driver.core, job_id).state == "running")
            paths = [row.path.format(peer_id="peer_a", job_id=job_id) for row in PAGES]
            paths += ["/peers?text=a&state=live", "/jobs?state=running&text=x'%20y",
                      "/events?kind=peer_&since=1h"]
            tried = set()
            for path in paths:
                page = Named((await browser.get(path)).text)
                assert page.footer, f"{path} names no command"
                parsed(page.footer)
                for form in page.forms:
                    assert form["line"], (path, form)
                    for field, _ in form["fields"]:
                        assert "data-flag" in field, (path, form["to"], field["name"])
                    lines = list(variants(form))
                    tried |= {parsed(line)[0].name for line in lines}
            assert tried >= {"create", "revoke", "drain", "ban", "label", "cancel", "sign-out",
                             "peers", "jobs", "events"}

    console(scenario)


def test_what_a_line_says_is_what_the_page_shows(console):
    async def scenario(there):
        browser = await there.signed_in()
        for path, values in (
                ("/jobs?state=running&text=x'%20y", {"state": "running", "text": "x' y"}),
                ("/peers?text=-a", {"text": "-a", "state": None}),
                ("/events?kind=peer_&since=1h", {"kind": "peer_", "since": "1h", "limit": 500})):
            _, found = parsed(Named((await browser.get(path)).text).footer)
            assert {name: found[name] for name in values} == values

    console(scenario)


@pytest.mark.parametrize("line", [
    "broker nothing", "broker peers --nothing", "broker keys create --role operator",
    "broker drain", "broker peer a b"])
def test_a_line_that_is_none_is_seen(line):
    with pytest.raises(click.UsageError):
        parsed(line)


def test_states_are_the_same_everywhere():
    assert tuple(map(str, JobState)) == JOB_STATES
    assert STATES == PEER_STATES


def test_lists_are_searched_and_say_why_a_peer_is_idle(console, network, place):
    async def scenario(there):
        broker, browser = there.broker, await there.signed_in()
        async with peers(network, broker, "a", "b"):
            await until(lambda: len(views.peers(broker.driver.core)) == 2)
            assert "No job waits or runs." in (await browser.get("/peers")).said
            some = (await browser.get("/peers?text=BOX-a&state=live")).said
            assert "peer_a" in some
            assert "peer_b" not in some
            assert "None is so." in (await browser.get("/peers?state=lost")).said
            code, text = await command(place, "peers", "--text", "box-b", "--state", "live")
            assert (code, "peer_b" in text, "peer_a" in text) == (0, True, False)
            job_id = await submit(broker)
            for query, is_there in (("text=" + job_id, True), ("text=zz", False),
                                    ("state=cancelled", False)):
                assert (job_id in (await browser.get(f"/jobs?{query}")).said) is is_there, query

    console(scenario)


def test_a_peer_and_a_placement_are_told_in_full(console, network, place):
    async def scenario(there):
        broker, browser = there.broker, await there.signed_in()
        async with peers(network, broker, "a", "b") as both:
            job_id = await submit(broker)
            holder, (other,), assigned = await first_to_hear("assign", *both)
            await holder.reports(job_id, assigned.token, ready=session_pb2.SegmentReady())
            await until(lambda: views.backup_view(broker.driver.core.state)
                        and views.backup_view(broker.driver.core.state)[0].standbys)
            code, text = await command(place, "peer", other.peer_id)
            assert code == 0, text
            for reason in (await called(
                    network, broker, "GetPeer",
                    operator_pb2.GetPeerRequest(peer=other.peer_id))).idle:
                assert reason in text
                assert reason in (await browser.get(f"/peers/{other.peer_id}")).said
            assert "matrix products" in text
            assert "is connected" in text
            for arguments in ([], [job_id[:-1]]):
                code, text = await command(place, "placement", "show", *arguments)
                assert code == 0, text
                assert f"box-{holder.peer_id[-1]}" in text
                assert f"box-{other.peer_id[-1]} (getting ready)" in text
                assert ("neither run nor stand by: none" in text) is (not arguments)
            code, text = await command(place, "placement", "show", "job_9")
            assert code == 3, text

    console(scenario)


def test_a_session_is_ended_from_the_command_line(console, place):
    async def scenario(there):
        browser, other = await there.signed_in(), await there.signed_in("viewer")
        (form,) = [form for form in Named((await other.get("/")).text).forms
                   if form["to"] == "/sign-out"]
        *words, session = shlex.split(form["line"])[1:]
        assert (await command(place, *words, "session_"))[0] == 6, "it may mean two"
        code, text = await command(place, *words, session)
        assert code == 0, text
        assert (await other.get("/")).status == 303
        assert (await browser.get("/")).status == 200
        assert (await command(place, *words, session))[0] == 3
        assert session in (await browser.get("/audit")).said

    console(scenario)
