"""What a page is, and the two ways of answering with one: once, or again whenever it changes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from http import HTTPStatus
from shlex import quote
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from broker.console.guard import form_of, visit_of
from broker.console.render import Renderer
from broker.console.sign_in import Door
from broker.core.limits import MAX_TEXT
from broker.core.machine import Broker
from broker.driver import Driver
from broker.operator_actions import Actor, OperatorActions
from broker.settings import BrokerSettings
from broker.telemetry import Telemetry
from homespun.errors import CATALOG, Code, HomespunError

UPDATE_INTERVAL_S = 1.0
"""A page that is looked at is made again at most so often..."""
UPDATE_SHARE = 0.1
"""...takes at most so much of the time..."""
UPDATE_KEEPALIVE_S = 10.0
"""...and its browser hears from the broker at least so often."""
STREAM_LIFE_S = 600.0
"""Then the browser opens another; a session that has ended meanwhile gets none."""
STREAMS_MAX = 64
"""Pages that update themselves at once, over all browsers."""
STATUSES: Mapping[str, HTTPStatus] = {
    "ABORTED": HTTPStatus.CONFLICT,
    "ALREADY_EXISTS": HTTPStatus.CONFLICT,
    "DEADLINE_EXCEEDED": HTTPStatus.GATEWAY_TIMEOUT,
    "FAILED_PRECONDITION": HTTPStatus.CONFLICT,
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "PERMISSION_DENIED": HTTPStatus.FORBIDDEN,
    "RESOURCE_EXHAUSTED": HTTPStatus.TOO_MANY_REQUESTS,
    "UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED,
    "UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Status that carries an error in gRPC -> the one here."""


@dataclass(slots=True)
class ConsoleParts:
    """What the pages work with."""

    driver: Driver
    actions: OperatorActions
    telemetry: Telemetry
    settings: BrokerSettings
    door: Door
    renderer: Renderer = field(default_factory=Renderer)
    streams: int = 0
    """Updates being sent now."""

    @property
    def core(self) -> Broker:
        """The core, to be read through `views`."""
        return self.driver.core


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page to be rendered: everything in it was read from one state of the core.

    Attributes:
        template: file under `templates/`.
        title: of the browser's window, and the heading.
        values: frozen values that the template shows.
        command: the command line that shows the same.
        is_live: whether its address shows the same again, now and later.
    """

    template: str
    title: str
    values: Mapping[str, object]
    command: str = ""
    is_live: bool = True


Make = Callable[[Request, ConsoleParts], Page]
"""Reads the core, quickly and without waiting, and says what to show."""
Act = Callable[[Request, ConsoleParts, Actor, Mapping[str, str]], Awaitable[str | Page]]
"""Does something with a form; says where to go then, or what to show, once."""


def parts_of(request: Request) -> ConsoleParts:
    """The console's parts."""
    parts: ConsoleParts = request.app.state.parts
    return parts


def shows(make: Make) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that shows a page: as HTML, or to an `EventSource` as a stream of its content."""

    async def endpoint(request: Request) -> Response:
        parts = parts_of(request)
        try:
            if "text/event-stream" in request.headers.get("accept", ""):
                return _stream(request, parts, make)
            return HTMLResponse(await _html(request, parts, make(request, parts)))
        except HomespunError as error:
            return await problem(request, error)

    return endpoint


def does(act: Act) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that acts in the name of the session's operator, then shows a page again."""

    async def endpoint(request: Request) -> Response:
        visit, form = visit_of(request), form_of(request)
        assert visit.session is not None, "the guard lets only sessions act"
        try:
            actor = Actor(by=visit.session.by, reason=form.get("reason", "").strip())
            done = await act(request, parts_of(request), actor, form)
        except HomespunError as error:
            return await problem(request, error)
        if isinstance(done, Page):
            return HTMLResponse(await _html(request, parts_of(request), done))
        return RedirectResponse(done, HTTPStatus.SEE_OTHER)

    return endpoint


async def problem(request: Request, error: HomespunError) -> Response:
    """A page that says what went wrong and what to do, with the status that fits."""
    status = STATUSES.get(CATALOG[error.code].grpc_status, HTTPStatus.INTERNAL_SERVER_ERROR)
    page = Page(
        template="problem.html", title="That did not work", values={"error": error},
        is_live=False)
    return HTMLResponse(await _html(request, parts_of(request), page), status)


async def _html(
    request: Request, parts: ConsoleParts, page: Page, layout: str = "layout.html"
) -> str:
    """Render in a thread: a thousand rows take longer than the broker's loop may be busy."""
    visit = visit_of(request)
    values: dict[str, Any] = {
        **page.values, "layout": layout, "title": page.title, "command": page.command,
        "path": request.url.path, "csrf": visit.form_token, "session": visit.session,
        "may_act": visit.may_act, "is_live": page.is_live and visit.session is not None}
    return await asyncio.to_thread(parts.renderer.render, page.template, values)


def _stream(request: Request, parts: ConsoleParts, make: Make) -> Response:
    if parts.streams >= STREAMS_MAX:
        return Response("Too many pages update themselves.", HTTPStatus.SERVICE_UNAVAILABLE)
    make(request, parts)  # what cannot be shown is an error now, and not inside the stream
    return StreamingResponse(_updates(request, parts, make), media_type="text/event-stream")


async def _updates(
    request: Request, parts: ConsoleParts, make: Make
) -> AsyncIterator[str]:
    """The page's content, each time that it differs from what was sent before."""
    sent, ends_at = b"", time.monotonic() + STREAM_LIFE_S
    parts.streams += 1
    try:
        while (began_at := time.monotonic()) < ends_at and _is_signed_in(request, parts):
            seen = parts.driver.changes
            html = await _html(request, parts, make(request, parts), "bare.html")
            digest = blake2b(html.encode()).digest()
            yield ":\n\n" if digest == sent else f"data: {json.dumps(html)}\n\n"
            sent = digest
            took_s = time.monotonic() - began_at
            await asyncio.sleep(max(UPDATE_INTERVAL_S, took_s / UPDATE_SHARE))
            await parts.driver.wait_change(seen, UPDATE_KEEPALIVE_S)
    finally:
        parts.streams -= 1


def _is_signed_in(request: Request, parts: ConsoleParts) -> bool:
    return parts.door.sign_in.session(visit_of(request).cookie, is_use=False) is not None


def query_of(request: Request, *names: str) -> dict[str, str]:
    """What a page's address asks for: each of these words, cut to a sane length, "" for none."""
    return {name: request.query_params.get(name, "").strip()[:MAX_TEXT] for name in names}


def options_of(query: Mapping[str, str]) -> str:
    """The options by which a command line asks the same as a query; "" for none."""
    return " ".join(f"--{name} {quote(value)}" for name, value in query.items() if value)


def turned(request: Request, query: Mapping[str, str], first: int) -> str:
    """The address of another part of the same list, which begins at `first`."""
    asked = {name: value for name, value in query.items() if value}
    return f"{request.url.path}?{urlencode({**asked, 'from': first})}"


def number(form: Mapping[str, str], field: str, most: int) -> int:
    """A whole number of a query or form, 0 if it is absent.

    Raises:
        HomespunError: INVALID_ARGUMENT.
    """
    text = form.get(field, "").strip() or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 15 and int(text) <= most):
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"{field} must be a whole number from 0 to {most}.", field=field)
    return int(text)

