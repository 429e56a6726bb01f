"""Nothing gets round the guard: every route of the table, every way of asking wrongly."""

from __future__ import annotations

import asyncio

import pytest

from broker.console import guard as guard_module
from broker.console.app import table
from broker.console.guard import HEADERS, Access
from tests.broker.console.browser import Browser, fetch
from tests.broker.live_broker import make_place

ROWS = table(lambda origin, cookie: "")
CHANGES = [row for row in ROWS if row.method != "GET"]
PAGES = [row for row in ROWS if row.method == "GET" and row.access is not Access.ANYBODY]


def path_of(row):
    return row.path.format(peer_id="peer_a", job_id="job_000001", key_id="key_1", name="console.js")


def journalled(there):
    return there.broker.driver._journal.last_seq


def test_the_table_has_routes_of_every_kind():
    assert {row.access for row in ROWS} == set(Access)
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert len(CHANGES) > 4
    assert len(PAGES) > 8
    assert all(row.access is Access.OPERATOR for row in CHANGES
               if row.path not in ("/sign-in", "/sign-out"))


def test_every_change_needs_a_form_of_this_console_and_an_operator(console):
    """Each wrong way is refused for each route, and nothing reaches the journal."""

    async def scenario(there):
        operator, viewer, other, nobody = (
            await there.signed_in(), await there.signed_in("viewer"), await there.signed_in(),
            Browser(there.origin))
        foreign = (await other.get("/sign-in")).token
        mine = (await operator.get("/peers")).token
        (await nobody.get("/sign-in"))
        before = journalled(there)
        served = []
        for row in CHANGES:
            path, form = path_of(row), {"code": "x", "role": "peer", "expires": "1h"}
            wrong = {
                "no token": operator.post(path, form, token=""),
                "another browser's token": operator.post(path, form, token=foreign),
                "a token of nothing": operator.post(path, form, token="0" * 64),
                "a foreign origin": operator.post(
                    path, form, token=mine, Origin="http://evil.example"),
                "another port's origin": operator.post(
                    path, form, token=mine, Origin="http://127.0.0.1:1"),
                "an opaque origin": operator.post(path, form, token=mine, Origin="null"),
                "no origin": operator.post(path, form, token=mine, Origin=None),
                "two origins": operator.post(
                    path, form, token=mine, Origin=f"{there.origin}\r\nOrigin: {there.origin}"),
                "a foreign host": operator.post(path, form, token=mine, Host="evil.example"),
                **{kind: operator.post(path, form, token=mine, **{"Content-Type": kind})
                   for kind in ("application/json", "text/plain", "multipart/form-data")},
                "too large a form": operator.post(path, form | {"code": "x" * 70_000}, token=mine),
            }
            if row.access is not Access.ANYBODY:
                wrong["no session"] = nobody.post(path, form)
            if row.access is Access.OPERATOR:
                wrong["a viewer"] = viewer.post(path, form)
            for how, asking in wrong.items():
                answer = await asking
                if not 400 <= answer.status < 500:
                    served.append((row.name, how, answer.status))
                assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert not served
        assert journalled(there) == before

    console(scenario)


def test_every_page_needs_a_session_and_leaves_with_strict_headers(console):
    async def scenario(there):
        viewer, nobody = await there.signed_in("viewer"), Browser(there.origin)
        for row in PAGES:
            answer = await nobody.get(path_of(row))
            assert (answer.status, answer.headers["location"]) == (303, "/sign-in"), row
            answer = await nobody.get(path_of(row), Accept="text/event-stream")
            assert answer.status == 401, row
            answer = await viewer.get(path_of(row), Host="rebound.example")
            assert answer.status == 421, row
            assert "set-cookie" not in answer.headers
            answer = await viewer.get(path_of(row))
            assert answer.status in (200, 404), (row, answer.text)
            for name, value in HEADERS.items():
                assert answer.headers[name] == value.lower()
            assert answer.headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in answer.headers

    console(scenario)


def test_other_methods_and_paths_are_refused(console):
    async def scenario(there):
        browser = await there.signed_in()
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
            answer = await browser._send(method, "/peers", {"Origin": there.origin})
            assert answer.status == 405, method
        for path in ("/nothing", "/assets/../app.py", "/assets/%2e%2e/app.py", "//evil.example/",
                     "/assets/nothing.js", "/peers/", "/peers/a/b"):
            answer = await browser.get(path)
            assert answer.status in (404, 307), path
            assert "evil" not in answer.headers.get("location", "")
        assert (await browser._send("HEAD", "/peers", {})).status == 200

    console(scenario)


def test_the_cookie_is_for_this_console_only(console, network):
    async def scenario(there):
        browser = Browser(there.origin)
        link = await there.broker.console.door().make_link("operator_1", "operator", 60_000)
        before = (await browser.get("/sign-in")).headers["set-cookie"]
        visitor = browser.cookie
        after = (await browser.sign_in(link.url)).headers["set-cookie"]
        for header in (before, after):
            assert "; HttpOnly" in header
            assert "; SameSite=Strict" in header
            assert "Domain" not in header
        assert browser.cookie != visitor
        assert (await browser.get("/")).status == 200
        assert (await fetch(there.origin, "GET", "/", {"Cookie": visitor})).status == 303
        # A link works once, and its code is worth nothing to who comes later.
        assert (await Browser(there.origin).sign_in(link.url)).status == 401

    console(scenario)


def test_signing_out_ends_the_session_and_what_it_follows(console):
    async def scenario(there):
        browser = await there.signed_in()
        cookie = browser.cookie
        updates = browser.updates("/jobs")
        assert "Jobs" in await anext(updates)
        assert (await browser.post("/sign-out")).headers["location"] == "/sign-in"
        assert [page async for page in updates] == []
        assert (await fetch(there.origin, "GET", "/", {"Cookie": cookie})).status == 303

    console(scenario)


def test_a_form_that_does_not_come_is_given_up(console, monkeypatch):
    monkeypatch.setattr(guard_module, "FORM_TIMEOUT_S", 0.2)

    async def scenario(there):
        browser = await there.signed_in()
        answer = await browser._send("POST", "/sign-out", {
            "Origin": there.origin, "Content-Length": "100",
            "Content-Type": "application/x-www-form-urlencoded"}, b"csrf=")
        assert answer.status == 408

    console(scenario)


@pytest.mark.parametrize("body", [b"\xff", b"csrf=%ff", b"&".join([b"a=1"] * 60)])
def test_a_form_that_is_none_is_refused(console, body):
    async def scenario(there):
        browser = await there.signed_in()
        answer = await browser._send("POST", "/sign-out", {
            "Origin": there.origin, "Content-Type": "application/x-www-form-urlencoded"}, body)
        assert answer.status == 400

    console(scenario)


def test_a_proxy_gets_a_cookie_for_https_alone(console, place):
    settings = place.load_settings()
    from dataclasses import replace

    place.save_settings(replace(settings, console_origin="https://broker.home.arpa"))

    async def scenario(there):
        assert there.origin == "https://broker.home.arpa"
        local = f"http://{settings.console_listen}"
        answer = await fetch(local, "GET", "/sign-in", {"Host": "broker.home.arpa"})
        assert answer.headers["set-cookie"].startswith("__Host-homespun-console-")
        assert "; Secure" in answer.headers["set-cookie"]
        answer = await fetch(local, "GET", "/sign-in", {})
        assert answer.headers["set-cookie"].startswith("homespun-console-")

    async def whole():
        from tests.broker.live_broker import serving, until

        async with serving(place) as broker:
            await until(lambda: broker.console._door is not None)
            await scenario(type("There", (), {"origin": broker.console.door().origin}))

    asyncio.run(whole())


def test_a_taken_port_costs_the_console_and_not_the_broker(network):
    import socket

    from homespun.errors import Code, HomespunError
    from tests.broker.live_broker import serving

    async def scenario():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            place = make_place(network, console=f"127.0.0.1:{taken.getsockname()[1]}")
            async with serving(place) as broker:
                with pytest.raises(HomespunError) as caught:
                    broker.console.door()
                assert caught.value.code is Code.CONFLICT
                assert "cannot be had" in caught.value.message

    asyncio.run(scenario())
