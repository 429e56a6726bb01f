"""`broker db`: a copy of a broker process that runs, and what a restore brings back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

import pytest

from homespun.v1 import operator_pb2
from tests.broker.live_broker import make_place, serving
from tests.broker.test_operator_service import ROOT, called, command


@pytest.fixture
def place(network):
    return make_place(network)


@contextlib.asynccontextmanager
async def process(place):
    """`broker serve` in a process of its own, which is killed at the end."""
    served = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "broker", "serve", str(place.root), cwd=ROOT,
        stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(120):
            while (await command(place, "keys", "list"))[0]:
                assert served.returncode is None
        yield
    finally:
        served.kill()
        await served.wait()


async def printed(place, *arguments):
    code, text = await command(place, *arguments, "--json")
    assert code == 0, text
    return json.loads(text)


async def keys(place):
    return {key["key_id"]: key["revoked"] for key in (await printed(place, "keys", "list"))["keys"]}


@pytest.mark.e2e
def test_a_broker_is_copied_while_it_runs_killed_and_restored(place, tmp_path):
    file = tmp_path / "copy"

    async def scenario():
        async with process(place):
            first = (await printed(place, "keys", "create"))["key_id"]
            copied = await printed(place, "db", "backup", str(file))
            assert copied["size_bytes"] == file.stat().st_size
            assert not list(place.root.glob("journal.copying*"))
            await printed(place, "keys", "create")
            code, text = await command(place, "db", "restore", str(file), "--replace")
            assert code == 6
            assert "Stop it first" in text
            assert len(await keys(place)) == 2, "it still runs, and knows what it knew"
        code, text = await command(place, "db", "restore", str(file))
        assert code == 6
        assert "--replace" in text
        done = await printed(place, "db", "restore", str(file), "--replace", "-m", "lost disk")
        assert (done["events"], done["is_replaced"]) == (copied["events"], True)
        async with process(place):
            assert await keys(place) == {first: True}
            (newest, *_) = (await printed(place, "audit"))["entries"]
            assert (newest["action"], newest["reason"]) == ("db restore", "lost disk")
            assert await printed(place, "keys", "create")
        kept = await printed(place, "db", "backup", str(tmp_path / "at rest"))
        assert kept["events"] > copied["events"], "copied though no broker runs"

    asyncio.run(scenario())


def test_a_file_that_exists_is_not_overwritten(place, tmp_path):
    file = tmp_path / "copy"
    file.write_text("mine")

    async def scenario():
        code, text = await command(place, "db", "backup", str(file))
        assert (code, file.read_text()) == (6, "mine")
        assert "choose another name" in text

    asyncio.run(scenario())


def test_only_operators_get_a_copy_and_it_holds_no_secret(place, network):
    async def scenario():
        async with serving(place) as broker:
            for role in ("peer", "submitter"):
                error = await called(
                    network, broker, "CopyJournal", operator_pb2.CopyJournalRequest(), role)
                assert error.code == "NOT_ALLOWED"
            made = await called(
                network, broker, "CreateKey",
                operator_pb2.CreateKeyRequest(role="peer", lifetime_ms=1_000))
            parts = await called(
                network, broker, "CopyJournal", operator_pb2.CopyJournalRequest())
            data = b"".join(part.data for part in parts)
            assert data.startswith(b"SQLite format 3")
            assert made.key_id.encode() in data
            assert made.key.encode() not in data
            assert made.key.partition("_")[2][-20:].encode() not in data

    asyncio.run(scenario())
