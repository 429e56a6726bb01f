"""Take pictures of the console's pages for the documentation, of a real network that trains.

    python scripts/screenshots.py [--out docs/console]

A broker and four peers, each a process of its own, train a small language model over three of them;
one that holds a segment is killed, so that a backup takes it over. Needs Playwright and Chromium
(`apt-get install chromium`), and Pillow, which reduces the colours. Takes some minutes; pictures
have at most 120 kB each, 1 MB together.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

PEERS = 4
SPLIT = 3
STEPS = 2_000
STEPS_BEFORE_LOSS = 30
STEPS_AFTER_LOSS = 20
SIZE = {"width": 1_120, "height": 700}
HEIGHT_MAX = 1_500
"""What is below is cut off."""
COLOURS = 128
PICTURE_BYTES_MAX = 120_000
BYTES_MAX = 1_000_000
PATIENCE_S = 600.0
POLICY = {"lease_ttl_ms": 6_000, "reconnect_grace_ms": 3_000}


@contextmanager
def training(directory: Path) -> Iterator[tuple[Any, str]]:
    """A network and the id of a job of which a segment has moved to a backup."""
    import torch

    import homespun
    from examples.english import english
    from examples.transformer import Transformer, language_loss
    from homespun.local_network import LocalNetwork

    torch.manual_seed(0)
    text = english(32)
    with LocalNetwork(directory, PEERS, settings={"policy": POLICY}) as network, \
            network.client() as client:
        job = client.train(
            Transformer(width=48, layers=4, hidden=96, context=32), loss=language_loss,
            data={"tokens": text.train}, validation={"tokens": text.validation[:16]},
            optimizer=homespun.AdamW(lr=3e-3), steps=STEPS, batch_size=8, peers=SPLIT,
            evaluate_every=10, name="small language model")
        _wait(network, job, STEPS_BEFORE_LOSS)
        lost = job.status().segments[1].peer_name
        network.kill(lost)
        network.wait_until(
            lambda: job.status().segments[1].peer_name != lost
            and job.status().state == "running", "a backup has taken over", PATIENCE_S)
        _wait(network, job, job.status().steps_done + STEPS_AFTER_LOSS)
        _act(network)
        yield network, job.id
        job.cancel()


def _wait(network: Any, job: Any, steps: int) -> None:
    network.wait_until(
        lambda: job.status().steps_done >= steps, f"{steps} steps are done", PATIENCE_S)


def _act(network: Any) -> None:
    """What an operator does now and then, for the audit log."""
    for command in (
        ("keys", "create", "--reusable", "--expires", "7d", "-m", "for the neighbours"),
        ("label", "peer-0", "attic", "-m", "easier to find"),
    ):
        network.run("broker", *command, "--dir", str(network.broker_directory))


def pages(network: Any, job_id: str) -> Mapping[str, str]:
    """Name of a picture -> address of its page."""
    holder = next(peer["peer_id"] for peer in network.peers()
                  if peer["leases"] and peer["state"] == "live")
    return {
        "overview": "/", "peers": "/peers", "peer": f"/peers/{holder}", "placement": "/placement",
        "jobs": "/jobs", "job": f"/jobs/{job_id}", "backups": "/backups", "members": "/members",
        "events": "/events", "keys": "/keys", "audit": "/audit", "settings": "/settings"}


def take(network: Any, job_id: str, out: Path) -> int:
    """Take all pictures; returns their bytes."""
    from playwright.sync_api import sync_playwright

    said = network.run(
        "broker", "console", "link", "--role", "viewer", "--json", "--dir",
        str(network.broker_directory))
    url = json.loads(said.stdout)["url"]
    origin = url.partition("/sign-in")[0]
    out.mkdir(parents=True, exist_ok=True)
    size_bytes = 0
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("chromium-browser"),
            args=["--no-sandbox"])
        page = chromium.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
        page.goto(url)
        page.wait_for_url(origin + "/")
        for name, path in pages(network, job_id).items():
            page.goto(origin + path, wait_until="load")
            for details in page.locator("main details").all()[:2]:
                details.evaluate("each => { each.open = true; }")
            height = min(HEIGHT_MAX, page.evaluate("document.documentElement.scrollHeight"))
            page.set_viewport_size({**SIZE, "height": max(height, SIZE["height"])})
            size_bytes += _keep(page.screenshot(), out / f"{name}.png")
            page.set_viewport_size(SIZE)
        chromium.close()
    return size_bytes


def _keep(png: bytes, path: Path) -> int:
    """Write a picture with few colours; returns its bytes."""
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    size_bytes = path.stat().st_size
    if size_bytes > PICTURE_BYTES_MAX:
        raise SystemExit(f"{path} has {size_bytes} bytes: take a smaller picture")
    return size_bytes


def main() -> None:
    """Take the pictures; fails where they are too large."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "console")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder, training(Path(folder)) as (network, job_id):
        size_bytes = take(network, job_id, out)
    print(f"{out}: {size_bytes} bytes")
    if size_bytes > BYTES_MAX:
        raise SystemExit(f"more than {BYTES_MAX} bytes: take smaller pictures")


if __name__ == "__main__":
    main()
