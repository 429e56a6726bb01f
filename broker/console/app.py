"""The console's routes, each with who may use it, behind the guard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from broker.console.address import ConsoleAddress
from broker.console.guard import SIGN_IN_PATH, Access, Guard
from broker.console.metrics import CONTENT_TYPE_LATEST, Metrics
from broker.console.page import ConsoleParts, does, shows
from broker.console.pages import (
    backups,
    door,
    events,
    jobs,
    keys,
    members,
    overview,
    peers,
    placement,
    settings,
)

ASSETS = Path(__file__).parent / "assets"
ASSET_KINDS: Mapping[str, str] = {
    ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Row:
    """One route, and who may use it."""

    method: str
    path: str
    access: Access
    endpoint: Endpoint

    @property
    def name(self) -> str:
        """Of the route."""
        return f"{self.method} {self.path}"


def table(cookie_header: door.CookieHeader) -> tuple[Row, ...]:
    """All routes. What is not GET goes through the guard's checks of forms, whatever its row says.

    Args:
        cookie_header: makes the header that signs a browser in.
    """
    anybody, viewer, operator = Access.ANYBODY, Access.VIEWER, Access.OPERATOR
    return (
        Row("GET", "/", viewer, shows(overview.overview)),
        Row("GET", "/peers", viewer, shows(peers.peer_list)),
        Row("GET", "/peers/{peer_id}", viewer, shows(peers.peer)),
        Row("POST", "/peers/{peer_id}/admit", operator, does(peers.admit)),
        Row("POST", "/peers/{peer_id}/ban", operator, does(peers.ban)),
        Row("POST", "/peers/{peer_id}/drain", operator, does(peers.drain)),
        Row("POST", "/peers/{peer_id}/label", operator, does(peers.label)),
        Row("GET", "/placement", viewer, shows(placement.placement)),
        Row("GET", "/jobs", viewer, shows(jobs.job_list)),
        Row("GET", "/jobs/{job_id}", viewer, shows(jobs.job)),
        Row("POST", "/jobs/{job_id}/cancel", operator, does(jobs.cancel)),
        Row("GET", "/backups", viewer, shows(backups.backups)),
        Row("GET", "/events", viewer, shows(events.events)),
        Row("GET", "/members", viewer, shows(members.member_list)),
        Row("GET", "/keys", viewer, shows(keys.key_list)),
        Row("POST", "/keys", operator, does(keys.create)),
        Row("POST", "/keys/{key_id}/revoke", operator, does(keys.revoke)),
        Row("GET", "/audit", viewer, shows(events.audit)),
        Row("GET", "/settings", viewer, shows(settings.settings)),
        Row("GET", SIGN_IN_PATH, anybody, shows(door.sign_in_page)),
        Row("POST", SIGN_IN_PATH, anybody, door.enters(cookie_header)),
        Row("POST", "/sign-out", viewer, does(door.leave)),
        Row("GET", "/assets/{name}", anybody, _asset),
        Row("GET", "/healthz", anybody, _health),
        Row("GET", "/readyz", anybody, _readiness),
        Row("GET", "/metrics", anybody, _metrics),
    )


def build(parts: ConsoleParts, address: ConsoleAddress) -> Guard:
    """The console as an ASGI application."""
    guard: Guard

    def cookie_header(origin: str, cookie: str) -> str:
        return guard.cookie_header(origin, cookie)

    rows = table(cookie_header)
    routes = [Route(row.path, row.endpoint, methods=[row.method], name=row.name) for row in rows]
    pages = Starlette(routes=routes)
    pages.state.parts = parts
    pages.state.metrics = Metrics(parts.driver)
    guard = Guard(
        pages, routes=routes, access={row.name: row.access for row in rows},
        origins=address.origins(), sign_in=parts.door.sign_in, port=address.port)
    return guard


async def _asset(request: Request) -> Response:
    """A file of `assets/`, by its exact name."""
    path = next((each for each in ASSETS.iterdir() if each.name == request.path_params["name"]),
                None)
    if path is None or path.suffix not in ASSET_KINDS:
        return PlainTextResponse("There is no such asset.", HTTPStatus.NOT_FOUND)
    return Response(
        path.read_bytes(), media_type=ASSET_KINDS[path.suffix],
        headers={"cache-control": "no-cache"})


async def _health(request: Request) -> Response:
    """Whether the process serves at all."""
    return PlainTextResponse("ok\n")


async def _metrics(request: Request) -> Response:
    """What Prometheus wants to know."""
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


async def _readiness(request: Request) -> Response:
    """Whether the broker's core takes events."""
    parts: ConsoleParts = request.app.state.parts
    if parts.driver.is_running:
        return PlainTextResponse("ready\n")
    return PlainTextResponse("not ready\n", HTTPStatus.SERVICE_UNAVAILABLE)
