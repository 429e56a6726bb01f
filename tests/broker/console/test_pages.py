"""What operators see and do in the console, over HTTP to a broker with peers and a job."""

from __future__ import annotations

import json
import re

from broker.core import operator_views, views
from homespun.v1 import operator_pb2
from tests.broker.console.browser import Browser
from tests.broker.live_broker import until
from tests.broker.test_operator_service import called, command, first_to_hear, peers, submit
from tests.broker.test_operator_service import session_pb2 as session


def test_a_link_from_the_command_line_signs_in(console, place, network):
    async def scenario(there):
        code, text = await command(place, "console", "link", "--role", "viewer", "--json")
        assert code == 0, text
        said = json.loads(text)
        assert (said["schema"], said["role"]) == ("console_link", "viewer")
        assert said["url"].startswith(f"{there.origin}/sign-in#")
        browser = Browser(there.origin)
        assert (await browser.sign_in(said["url"])).headers["location"] == "/"
        assert "viewer for operator_" in (await browser.get("/")).said
        error = await called(
            network, there.broker, "CreateConsoleLink",
            operator_pb2.CreateConsoleLinkRequest(role="root", lifetime_ms=1))
        assert "viewer or operator" in error.message

    console(scenario)


def test_a_job_is_seen_where_it_runs_and_cancelled_with_a_reason(console, network):
    async def scenario(there):
        broker, browser = there.broker, await there.signed_in()
        async with peers(network, broker, "a", "b") as both:
            job_id = await submit(broker)
            holder, _, assigned = await first_to_hear("assign", *both)
            await holder.reports(job_id, assigned.token, ready=session.SegmentReady())
            await holder.reports(job_id, assigned.token, steps=session.StepsDone(
                first_step=0, count=40, losses=[float(40 - step) for step in range(40)]))
            await until(lambda: views.job(broker.driver.core, job_id).steps_done == 40)
            page = await browser.get(f"/jobs/{job_id}")
            assert page.status == 200
            assert "by x (client_1)" in page.said
            listed = (await browser.get("/members")).said
            for known in ("client_1", "submitter", "key_x", "peer_a", "peer_b"):
                assert known in listed
            assert "Those before" in (await browser.get("/members?from=500")).said
            assert (await browser.get("/members?from=x")).status == 400
            assert "40 of 100" in page.said
            assert "1 at step 39, first 40" in page.said
            assert '<polyline class="loss"' in page.text
            name = views.peer(broker.driver.core, holder.peer_id).name
            assert f">{name}</a>" in page.text
            assert f"broker cancel {job_id}" in page.said
            for path in ("/", "/jobs", "/peers", f"/peers/{holder.peer_id}", "/backups"):
                assert job_id in (await browser.get(path)).said, path
            assert "lacks" in (await browser.get("/backups")).said

            answer = await browser.post(f"/jobs/{job_id}/cancel", {"reason": "by phone"})
            assert (answer.status, answer.headers["location"]) == (303, f"/jobs/{job_id}")
            assert views.job(broker.driver.core, job_id).state == "cancelled"
            page = await browser.get(f"/jobs/{job_id}")
            assert "Cancelled by operator_1: by phone" in page.said
            assert "/cancel" not in page.text
            assert "by phone" in (await browser.get("/audit")).said
            again = await browser.post(f"/jobs/{job_id}/cancel")
            assert again.status == 409
            assert "already ended" in again.said

    console(scenario)


def test_a_peer_is_drained_and_used_again(console, network):
    async def scenario(there):
        broker, browser = there.broker, await there.signed_in()
        async with peers(network, broker, "a"):
            await until(lambda: views.peer(broker.driver.core, "peer_a"))
            page = await browser.get("/peers/peer_a")
            assert "No job waits or runs." in page.said
            assert "broker drain peer_a --deadline 10m" in page.said
            await browser.post("/peers/peer_a/drain", {"deadline": "1m", "reason": "new card"})
            peer = views.peer(broker.driver.core, "peer_a")
            assert peer.is_drained
            assert peer.drain_at_ns > 0
            page = await browser.get("/peers/peer_a")
            assert "An operator drains it." in page.said
            assert "says operator_1: new card" in page.said
            await browser.post("/peers/peer_a/drain", {"undo": "yes"})
            assert not views.peer(broker.driver.core, "peer_a").is_drained
            for form in ({"deadline": "-1m"}, {"deadline": "1e9"}, {"deadline": "8d"},
                         {"reason": "x" * 501}, {"reason": "a\x07b"}):
                assert (await browser.post("/peers/peer_a/drain", form)).status in (400, 429), form
            assert (await browser.post("/peers/peer_b/drain")).status == 404
            assert not views.peer(broker.driver.core, "peer_a").is_drained

    console(scenario)


def test_a_key_is_shown_once_and_revoked(console):
    async def scenario(there):
        browser = await there.signed_in()
        page = await browser.post(
            "/keys", {"role": "submitter", "expires": "1h", "reusable": "yes"})
        assert page.status == 200
        assert "homespun join 127.0.0.1:" in page.said
        assert 'data-live' not in page.text
        (key,) = views.keys(there.broker.driver.core)
        assert (key.role, key.reusable) == ("submitter", True)
        listed = await browser.get("/keys")
        assert key.key_id in listed.said
        secret = re.search(r'class="secret">([^<]*)<', page.text)[1]
        assert secret not in listed.text
        assert (await browser.post(f"/keys/{key.key_id}/revoke")).status == 303
        assert views.keys(there.broker.driver.core)[0].revoked
        for form in ({"role": "operator", "expires": "1h"}, {"role": "peer", "expires": "soon"},
                     {"role": "peer"}, {"role": "peer", "expires": "400d"}):
            assert (await browser.post("/keys", form)).status == 400, form

    console(scenario)


def test_events_are_filtered(console, network):
    async def scenario(there):
        broker, browser = there.broker, await there.signed_in()
        async with peers(network, broker, "a", "b"):
            await until(lambda: len(views.peers(broker.driver.core)) == 2)
        await browser.post("/keys", {"role": "peer", "expires": "1h"})
        everything = (await browser.get("/events")).said
        assert "peer_live" in everything
        assert "key_created" in everything
        some = (await browser.get("/events?kind=peer_live&subject=peer_a&text=CONNECTED")).said
        assert "box-a (peer_a) is connected" in some
        assert "peer_b" not in some
        assert "key_created" not in some
        assert "is connected" in (await browser.get("/events?since=1h")).said
        assert (await browser.get("/events?since=yesterday")).status == 400

    console(scenario)


def test_a_page_updates_itself_when_something_changes(console, network):
    async def scenario(there):
        broker, browser = there.broker, await there.signed_in()
        updates = browser.updates("/peers")
        assert "No peer has connected yet" in await anext(updates)
        async with peers(network, broker, "a"):
            async for page in updates:
                if "box-a" in page:
                    break
        assert "<html" not in page
        await updates.aclose()
        await until(lambda: broker.console.parts.streams == 0)

    console(scenario)


def test_health_is_told_to_everybody(console):
    async def scenario(there):
        nobody = Browser(there.origin)
        for path, text in (("/healthz", "ok"), ("/readyz", "ready")):
            answer = await nobody.get(path)
            assert (answer.status, answer.text.strip()) == (200, text)

    console(scenario)


def test_prometheus_is_told_counts_and_no_names(console, network):
    async def scenario(there):
        broker, nobody = there.broker, Browser(there.origin)
        async with peers(network, broker, "a", "b") as both:
            job_id = await submit(broker)
            await first_to_hear("assign", *both)
            answer = await nobody.get("/metrics")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain")
        lines = answer.text.splitlines()
        assert 'broker_peers{state="live"} 2.0' in lines
        assert 'broker_peers{state="pending"} 0.0' in lines
        assert 'broker_jobs{kind="train",state="preparing"} 1.0' in lines
        assert "broker_replacements_total 0.0" in lines
        assert any(line.startswith("broker_event_log_records_total ") for line in lines)
        for name in (job_id, "peer_a", "box-a", "client_1"):
            assert name not in answer.text

    console(scenario)


def test_what_an_operator_did_is_known_after_a_restart(console):
    async def first(there):
        browser = await there.signed_in()
        await browser.post("/keys", {"role": "peer", "expires": "1h", "reason": "for the attic"})
        await browser.post("/sign-out")

    async def second(there):
        entries = operator_views.audit(there.broker.driver.core, 10)
        assert [entry.action for entry in reversed(entries)] == [
            "console link made", "console signed in", "keys create", "console signed out"]
        assert [entry.reason for entry in entries if entry.reason] == ["for the attic"]
        assert {entry.by for entry in entries} == {"operator_1"}

    console(first)
    console(second)
