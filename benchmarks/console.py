"""How soon the console's pages are there, with many peers and jobs.

    python benchmarks/console.py [--peers 1000] [--jobs 200] [--repetitions 5] [--json]

A journal with so many peers, links, ended and running jobs is replayed by a real broker in this
process. Each page is then fetched over HTTP, and, where Chromium and Playwright are installed,
opened in a browser: `first_paint_s` is what the browser itself reports as its first contentful
paint, from the start of the navigation. Medians of the repetitions, after one to warm up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from broker.core import events as ev
from broker.core.policy import Policy
from broker.identity.authority import create_authority
from broker.journal import Journal
from broker.settings import BrokerDirectory, BrokerSettings
from dag.cluster import Link
from homespun.identity.certificates import utc_now
from homespun.service import configure_logs
from tests.broker.console.conftest import console_of
from tests.broker.core.conftest import World, make_placement, make_spec
from tests.broker.live_broker import free_ports

PAGES = ("/", "/peers", "/placement", "/jobs", "/jobs/job_000001", "/backups", "/events",
         "/metrics")
PATIENT = Policy(restart_grace_ms=3_600_000, lease_ttl_ms=3_600_000, reconnect_grace_ms=3_600_000)
LINKS_PER_PEER = 8
STEPS = 1_000
PAINT = """new Promise((tell) => new PerformanceObserver((list) => {
  const paint = list.getEntriesByName('first-contentful-paint')[0];
  if (paint) tell(paint.startTime / 1000);
}).observe({type: 'paint', buffered: true}))"""


def history(peers: int, jobs: int) -> list[ev.AnyEvent]:
    """Peers that are there; jobs of two segments, a quarter of them still running."""
    world = World()
    world.apply(ev.BrokerStarted, policy=PATIENT)
    names = [f"peer_{number:05}" for number in range(peers)]
    for number, name in enumerate(names):
        world.connect(name)
        for step in range(1, 1 + min(LINKS_PER_PEER, number)):
            world.apply(ev.LinkMeasured, link=Link(
                source=name, target=names[number - step], latency_s=0.001,
                bandwidth_bytes_per_s=1e8))
    for number in range(jobs):
        pair = names[2 * number:2 * number + 2] or names[:2]
        job = _job(world, pair)
        if number % 4:
            world.apply(ev.CancelRequested, request_id="r", job_id=job, by="operator_1")
    return world.journal


def _job(world: World, pair: list[str]) -> str:
    world.submit(make_spec(training={"steps": STEPS}), owner=f"client_{len(world.journal)}")
    job = list(world.broker.state.jobs)[-1]
    world.solve(job, pair, answer=make_placement(pair, linked=True))
    for segment in (0, 1):
        world.report(ev.SegmentReady, job, segment)
    for segment in (0, 1):
        world.steps(job, segment, 0, STEPS // 2)
    return job


def make_broker(root: Path, peers: int, jobs: int) -> BrokerDirectory:
    """A broker's directory with that history."""
    main, enrolment, console = free_ports(3)
    place = BrokerDirectory(root)
    create_authority(root, broker_address=f"127.0.0.1:{main}", now=utc_now())
    place.save_settings(BrokerSettings(
        listen=f"127.0.0.1:{main}", enrolment_port=enrolment, address=f"127.0.0.1:{main}",
        announce=False, console_listen=f"127.0.0.1:{console}", policy=PATIENT))
    journal = Journal.open(place.journal)
    events = history(peers, jobs)
    for first in range(0, len(events), 1_000):
        journal.append(events[first:first + 1_000])
    journal.close()
    return place


async def measure(place: BrokerDirectory, repetitions: int) -> dict[str, dict[str, float]]:
    """Seconds for each page."""
    async with console_of(place) as there:
        signed_in = await there.signed_in("viewer")
        found: dict[str, dict[str, float]] = {}
        for page in PAGES:
            fetched = []
            for _ in range(repetitions + 1):
                began = time.perf_counter()
                answer = await signed_in.get(page)
                fetched.append(time.perf_counter() - began)
                assert answer.status == 200, page
            found[page] = {"bytes": len(answer.text), "fetched_s": median(fetched[1:])}
        if shutil.which("chromium"):
            await _paint(there, found, repetitions)
        return found


async def _paint(there: Any, found: dict[str, dict[str, float]], repetitions: int) -> None:
    from playwright.async_api import async_playwright

    link = await there.broker.console.door().make_link("operator_1", "viewer", 60_000)
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = await chromium.new_page()
        await page.goto(link.url)
        await page.wait_for_url(there.origin + "/")
        for path in PAGES:
            paints = []
            for _ in range(repetitions + 1):
                await page.goto(there.origin + path, wait_until="load")
                paints.append(await page.evaluate(PAINT))
            found[path]["first_paint_s"] = median(paints[1:])
        await chromium.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    configure_logs()  # the broker's lines belong on standard error
    with tempfile.TemporaryDirectory() as folder:
        with patch("tests.broker.core.conftest.invariants.check"):  # quadratic, and not the point
            place = make_broker(Path(folder) / "broker", chosen.peers, chosen.jobs)
        found = asyncio.run(measure(place, chosen.repetitions))
    if chosen.json:
        print(json.dumps({
            "peers": chosen.peers, "jobs": chosen.jobs, "machine": platform.platform(),
            "pages": found}, indent=2))
        return
    for page, values in found.items():
        numbers = "  ".join(f"{name} {value:10.3f}" for name, value in values.items())
        print(f"{page:18} {numbers}")


if __name__ == "__main__":
    main()
