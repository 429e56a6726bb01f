"""`broker top`: one picture for a pipe, a live one in a terminal, and an end in any case."""

from __future__ import annotations

import asyncio
import io
import os
import sys

import pytest

from broker.cli.top import EVENTS_SHOWN, GAPS_SHOWN, JOBS_SHOWN, picture
from broker.core import views
from tests.broker.live_broker import make_place, serving, until
from tests.broker.test_operator_service import ROOT, command, peers


@pytest.fixture
def place(network):
    return make_place(network, reconnect_grace_ms=100, lease_ttl_ms=600_000)


def said(**changes):
    fields = {
        "unix_ms": 1_700_000_000_000, "peers": {"live": 2}, "waiting_to_be_admitted": 0, "free": 1,
        "memory_bytes": 2**33, "matmul_flops_per_s": 1.5e12, "jobs": {"running": 1},
        "unfinished": [job()], "gaps": [], "events": []}
    return fields | changes


def job(number=1, steps=10):
    return {"job_id": f"job_{number}", "name": "n", "state": "running", "kind": "train",
            "steps_done": steps, "steps_total": 100, "last_loss": 0.25, "segments": 2, "reason": ""}


def text_of(*arguments):
    from rich.console import Console

    console = Console(width=160, record=True, file=io.StringIO())
    console.print(picture(*arguments))
    return console.export_text()


def test_what_is_there_is_counted_and_jobs_have_a_speed():
    before = said(unix_ms=1_700_000_000_000 - 4_000, unfinished=[job(steps=2)])
    text = text_of(said(), before)
    assert "2 live; 1 free, 8.00 GiB, 1.5 TFLOP/s" in text
    assert "10/100" in text
    assert "2.00" in text
    assert "0.25" in text


def test_much_is_cut_and_control_characters_are_not_obeyed():
    many = said(
        unfinished=[job(number) for number in range(JOBS_SHOWN + 3)],
        gaps=[{"job_id": "job_1", "segment": index, "gap": "\x1b[2J"} for index in range(9)])
    text = text_of(many, None, "the broker does not answer")
    assert "and 3 more: broker jobs" in text
    assert f"and {9 - GAPS_SHOWN} more: broker backups" in text
    assert "the broker does not answer" in text
    assert "\x1b" not in text


def test_where_the_output_is_no_terminal_it_is_one_picture(place, network):
    async def scenario():
        async with serving(place) as broker, peers(network, broker, "a"):
            await until(lambda: views.peers(broker.driver.core))
            code, text = await command(place, "top")
            assert code == 0
            assert "1 live" in text
            assert text.count("network at") == 1
            assert len(text.splitlines()) < 10 + EVENTS_SHOWN

    asyncio.run(scenario())


def test_a_broker_that_is_not_there_is_an_error(place):
    async def scenario():
        async with serving(place):
            pass
        code, text = await command(place, "top", "--once")
        assert (code, "UNREACHABLE" in text) == (5, True), text

    asyncio.run(scenario())


@pytest.mark.skipif(os.name == "nt", reason="there is no pseudo-terminal")
def test_in_a_terminal_it_goes_on_until_q_and_leaves_the_terminal_as_it_was(place):
    import pty
    import termios

    async def scenario():
        ours, theirs = pty.openpty()
        before = termios.tcgetattr(theirs)
        async with serving(place):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "broker", "top", "--every", "200ms", "--dir",
                str(place.root), stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT,
                env=os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"})
            shown = b""
            while shown.count(b"network at") < 2:
                shown += await asyncio.to_thread(os.read, ours, 65_536)
            os.write(ours, b"xq")
            reading = asyncio.create_task(asyncio.to_thread(os.read, ours, 65_536))
            async with asyncio.timeout(60):
                assert await process.wait() == 0
            assert termios.tcgetattr(theirs) == before
            os.close(theirs)
            await asyncio.wait((reading,))
            os.close(ours)

    asyncio.run(scenario())
