"""The gate in front of every page: one middleware that nothing gets round.

For each request, in this order: the `Host` is one of ours (against DNS rebinding), the route
exists and says who may use it, and, for everything but GET and HEAD, the `Origin` is this console,
the body is a small form, and the form carries the token of the browser's cookie. Every answer,
errors too, leaves with the same strict headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.console.sign_in import ConsoleRole, Session, SignIn

FORM_BYTES_MAX = 64 * 1024
FORM_FIELDS_MAX = 50
FORM_TIMEOUT_S = 10.0
SAFE_METHODS = frozenset({"GET", "HEAD"})
TOKEN_FIELD = "csrf"
SIGN_IN_PATH = "/sign-in"

HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Not "no-referrer": browsers would then send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Access(StrEnum):
    """Who may use a route."""

    ANYBODY = "anybody"
    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Visit:
    """Whose request it is.

    Attributes:
        cookie: of the browser; made for it if it had none.
        session: None for somebody who is not signed in.
        form_token: what this browser's forms must carry.
        origin: of the console, as this browser calls it.
    """

    cookie: str
    session: Session | None
    form_token: str
    origin: str

    @property
    def may_act(self) -> bool:
        """Whether it may change something."""
        return self.session is not None and self.session.role is ConsoleRole.OPERATOR


class Refused(Exception):  # noqa: N818 - it says what it is
    """A request that is not served: status, and one sentence that says what to do."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def visit_of(request: Request) -> Visit:
    """Who makes a request that has passed the guard."""
    visit: Visit = request.state.visit
    return visit


def form_of(request: Request) -> Mapping[str, str]:
    """The form of a request that has passed the guard."""
    form: Mapping[str, str] = request.state.form
    return form


class Guard:
    """The middleware.

    Args:
        app: what is behind it.
        routes: name of a route -> who may use it; a route without a row is refused to everybody.
        origins: what `Host` may say -> the origin that this is.
        sign_in: the sessions.
        port: of the console, for the cookie's name: browsers do not tell ports apart.
    """

    def __init__(
        self, app: ASGIApp, *, routes: Sequence[Route], access: Mapping[str, Access],
        origins: Mapping[str, str], sign_in: SignIn, port: int,
    ) -> None:
        self._app = app
        self._routes = routes
        self._access = access
        self._origins = origins
        self._sign_in = sign_in
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI calls this)."""
        if scope["type"] != "http":
            return  # no WebSockets here, and no lifespan
        request = Request(scope, receive)
        outlet = _Outlet(send)
        try:
            visit = self._visit(request)
            outlet.set_cookie = self._set_cookie(request, visit)
            scope.setdefault("state", {}).update(visit=visit, form={})
            await self._check(request, visit)
        except Refused as refused:
            await _refusal(request, refused)(scope, receive, outlet)
            return
        await self._app(scope, receive, outlet)

    def cookie_name(self, origin: str) -> str:
        """Name of the session's cookie; browsers let nobody but this host set a `__Host-` one."""
        prefix = "__Host-" if origin.startswith("https:") else ""
        return f"{prefix}homespun-console-{self._port}"

    def cookie_header(self, origin: str, cookie: str) -> str:
        """What sets the session's cookie: not for scripts, not for requests from other sites."""
        secure = "; Secure" if origin.startswith("https:") else ""
        name = self.cookie_name(origin)
        return f"{name}={cookie}; Path=/; HttpOnly; SameSite=Strict{secure}"

    def _visit(self, request: Request) -> Visit:
        hosts = request.headers.getlist("host")
        origin = self._origins.get(hosts[0].lower()) if len(hosts) == 1 else None
        if origin is None:
            raise Refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                "The console is not known by this name. Use the address that `broker console link` "
                "prints, or set console_origin.")
        cookie = request.cookies.get(self.cookie_name(origin), "")
        is_use = "text/event-stream" not in request.headers.get("accept", "")
        session = self._sign_in.session(cookie, is_use=is_use) if cookie else None
        cookie = cookie or self._sign_in.new_cookie()
        return Visit(cookie, session, self._sign_in.form_token(cookie), origin)

    def _set_cookie(self, request: Request, visit: Visit) -> str:
        """The header that gives a browser its first cookie; "" if it has one."""
        if request.cookies.get(self.cookie_name(visit.origin)):
            return ""
        return self.cookie_header(visit.origin, visit.cookie)

    async def _check(self, request: Request, visit: Visit) -> None:
        access = self._access_to(request)
        is_safe = request.method in SAFE_METHODS
        if not is_safe and request.headers.getlist("origin") != [visit.origin]:
            raise Refused(HTTPStatus.FORBIDDEN, "The form was not sent from this console.")
        _check_role(access, visit)
        if is_safe:
            return
        form = await _read_form(request)
        if not self._sign_in.is_form_token(visit.cookie, form.pop(TOKEN_FIELD, "")):
            raise Refused(
                HTTPStatus.FORBIDDEN, "The form is out of date. Load the page again and repeat.")
        request.state.form = form

    def _access_to(self, request: Request) -> Access:
        found = None
        for route in self._routes:
            match, _ = route.matches(request.scope)
            if match is Match.FULL:
                access = self._access.get(route.name)
                if access is None:
                    break
                return access
            found = found or (match is Match.PARTIAL)
        if found:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "The page cannot be used in this way.")
        raise Refused(HTTPStatus.NOT_FOUND, "There is no such page.")


def _check_role(access: Access, visit: Visit) -> None:
    if access is Access.ANYBODY:
        return
    if visit.session is None:
        raise Refused(
            HTTPStatus.UNAUTHORIZED, "Sign in first: `broker console link` prints a link.")
    if access is Access.OPERATOR and not visit.may_act:
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "You are signed in as a viewer, who changes nothing. `broker console link` makes a "
            "link for an operator.")


async def _read_form(request: Request) -> dict[str, str]:
    """The fields of a form, after it is known to be small and of the one kind that is taken."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Only plain forms are taken.")
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > FORM_BYTES_MAX:
                    raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The form is too large.")
    except TimeoutError:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, "The form did not arrive in time.") from None
    try:
        return dict(parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict",
            max_num_fields=FORM_FIELDS_MAX))
    except ValueError:
        raise Refused(HTTPStatus.BAD_REQUEST, "The form cannot be read.") from None


def _refusal(request: Request, refused: Refused) -> Response:
    """Plain text: this page must not depend on anything. Who is not signed in is shown the door."""
    wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if refused.status is HTTPStatus.UNAUTHORIZED and wants_page:
        return RedirectResponse(SIGN_IN_PATH, HTTPStatus.SEE_OTHER)
    return Response(
        f"{refused.status.value} {refused.status.phrase}\n{refused.text}\n", refused.status.value,
        media_type="text/plain")


class _Outlet:
    """Sends an answer on, with the headers that every one has."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.set_cookie = ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
            if self.set_cookie and "set-cookie" not in headers:
                headers.append("set-cookie", self.set_cookie)
        await self._send(message)
