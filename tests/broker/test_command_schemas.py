"""What `--json` prints is what docs/schemas says, of every command that has it."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from broker.cli import cli
from broker.core import views
from homespun.v1 import session_pb2
from tests.broker.live_broker import free_ports, make_place, serving, until
from tests.broker.test_operator_service import first_to_hear, peers, submit
from tests.schemas import commands, problems

PATIENCE_S = 280
"""For all commands together, on a machine that is busy."""
COMMANDS = {
    "init": ["init", "{new}"],
    "top": ["top"],
    "peers": ["peers"],
    "peer": ["peer", "peer_a"],
    "admit": ["admit", "peer_a"],
    "label": ["label", "peer_a", "attic"],
    "drain": ["drain", "peer_a", "--deadline", "10m"],
    "backups": ["backups"],
    "jobs": ["jobs"],
    "job": ["job", "{job}"],
    "timeline": ["timeline", "{job}"],
    "placement show": ["placement", "show", "{job}"],
    "settings": ["settings"],
    "placement explain": ["placement", "explain", "{job}"],
    "events": ["events"],
    "keys create": ["keys", "create"],
    "keys list": ["keys", "list"],
    "keys revoke": ["keys", "revoke", "{key}"],
    "console link": ["console", "link"],
    "console sign-out": ["console", "sign-out", "{session}"],
    "db backup": ["db", "backup", "{new}.copy"],
    "db restore": ["db", "restore", "{new}.copy", "--dry-run"],
    "cancel": ["cancel", "{job}"],
    "ban": ["ban", "peer_b"],
    "forget": ["forget", "peer_b"],
    "unban": ["unban", "client_1"],
    "members": ["members"],
    "audit": ["audit"],
}
"""Every command with `--json` -> how it is called."""


def test_every_command_that_asks_or_acts_has_json_and_is_tried():
    assert commands(cli) == (set(COMMANDS), {"serve", "completion"})


def test_what_is_printed_is_what_the_schema_says(network, tmp_path):
    (port,) = free_ports(1)
    place = make_place(
        network, console=f"127.0.0.1:{port}", reconnect_grace_ms=100, lease_ttl_ms=600_000)

    async def scenario():
        async with serving(place, PATIENCE_S) as broker, peers(network, broker, "a", "b") as both:
            job_id = await submit(broker)
            holder, _, assigned = await first_to_hear("assign", *both)
            await holder.reports(job_id, assigned.token, ready=session_pb2.SegmentReady())
            await until(lambda: views.job(broker.driver.core, job_id).state == "running")
            await until(lambda: views.backup_view(broker.driver.core.state)[0].standbys)
            sign_in = broker.console.door().sign_in
            _, session = sign_in.exchange(sign_in.make_link("operator_1", "viewer", 600_000))
            for name, arguments in COMMANDS.items():
                keys = views.keys(broker.driver.core)
                words = {"job": job_id[:-1], "new": tmp_path / "new",
                         "session": session.session_id,
                         "key": keys[0].key_id[:-1] if keys else ""}
                filled = [each.format(**words) for each in arguments]
                where = [] if name == "init" else ["--dir", str(place.root)]
                done = await asyncio.to_thread(
                    CliRunner().invoke, cli, [*filled, "--json", *where], catch_exceptions=False)
                assert done.exit_code == 0, (name, done.output)
                lines = done.stdout.splitlines()
                assert lines, name
                assert [problems(line) for line in lines] == [[]] * len(lines), name

    with capture_logs():  # the broker's own lines are not the commands'
        asyncio.run(scenario())


@pytest.mark.parametrize(("change", "told"), [
    ({"entries": None}, "$.entries"),
    ({"extra": 1}, "extra"),
    ({"schema_version": 2}, "$.schema_version"),
])
def test_a_document_that_is_another_is_seen(change, told):
    document = {"schema": "audit", "schema_version": 1, "entries": []}
    assert problems(json.dumps(document)) == []
    (problem,) = problems(json.dumps(document | change))
    assert told in problem
