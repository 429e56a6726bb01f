"""Signing in and out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from broker.console.guard import form_of, visit_of
from broker.console.page import ConsoleParts, Page, parts_of, problem
from broker.operator_actions import Actor
from homespun.errors import Code, HomespunError

CookieHeader = Callable[[str, str], str]
"""(origin, cookie) -> the header that sets it."""


def sign_in_page(request: Request, parts: ConsoleParts) -> Page:
    """Takes the code out of the link, by script or by hand."""
    return Page(template="sign_in.html", title="Sign in", values={})


def enters(cookie_header: CookieHeader) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that exchanges a link's code for a session."""

    async def enter(request: Request) -> Response:
        visit = visit_of(request)
        cookie = await parts_of(request).door.enter(
            form_of(request).get("code", "").strip(), visit.cookie)
        if cookie is None:
            return await problem(request, HomespunError(
                Code.NOT_AUTHENTICATED,
                "The link has been used, is over, or is none of this console's. "
                "`broker console link` makes another."))
        return RedirectResponse(
            "/", HTTPStatus.SEE_OTHER,
            headers={"set-cookie": cookie_header(visit.origin, cookie)})

    return enter


async def leave(
    request: Request, parts: ConsoleParts, actor: Actor, form: Mapping[str, str]
) -> str:
    """End the session; its cookie is worth nothing from now on."""
    await parts.door.leave(visit_of(request).cookie)
    return "/sign-in"
