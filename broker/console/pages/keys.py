"""Join keys: the list, a new one, and the end of one."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from broker.console.page import ConsoleParts, Page
from broker.core import views
from broker.operator_actions import Actor
from homespun.units import parse_duration_ms


def key_list(request: Request, parts: ConsoleParts) -> Page:
    """The keys, newest first, without their secrets."""
    return Page(
        template="keys.html", title="Join keys", command="broker keys list", values={
            "keys": views.keys(parts.core)[::-1], "now_ns": parts.driver.now_ns()})


async def create(
    request: Request, parts: ConsoleParts, actor: Actor, form: Mapping[str, str]
) -> Page:
    """Make a key and show it, once."""
    made = await parts.actions.create_key(
        actor, form.get("role", ""), reusable=form.get("reusable") == "yes",
        needs_admission=form.get("needs_admission") == "yes",
        lifetime_ms=parse_duration_ms(form.get("expires", "")))
    command = "homespun" if form.get("role") == "submitter" else "peer"
    return Page(
        template="key.html", title="A new join key", command="broker keys list", is_live=False,
        values={
            "made": made, "join": f"{command} join {parts.settings.address} --key"})


async def revoke(
    request: Request, parts: ConsoleParts, actor: Actor, form: Mapping[str, str]
) -> str:
    """Make a key useless."""
    await parts.actions.revoke_key(actor, request.path_params["key_id"])
    return "/keys"
