"""What the operator has decided: the broker's settings, to be read."""

from __future__ import annotations

from dataclasses import fields

from starlette.requests import Request

from broker.console.page import ConsoleParts, Page
from homespun import version


def settings(request: Request, parts: ConsoleParts) -> Page:
    """Every setting with its value; they are changed in `broker.json`, and need a restart."""
    chosen = parts.settings
    values = [(field.name, getattr(chosen, field.name)) for field in fields(chosen)
              if field.name != "policy"]
    policy = [(field.name, getattr(chosen.policy, field.name)) for field in fields(chosen.policy)]
    return Page(
        template="settings.html", title="Settings", command="broker settings", values={
            "settings": values, "policy": policy, "protocol": version.PROTOCOL_VERSION})
