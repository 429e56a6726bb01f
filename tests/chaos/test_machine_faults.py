"""Machines whose clock is wrong, whose disk is full, whose device computes nonsense."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.injection import chance, count, injected
from tests.chaos.network import ChaosNetwork

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7_200)]
HERE = Path(__file__).parent
HOUR_S = 3_600
STEPS = 100
DISK_BYTES = 48 << 20


# --- F10: clocks -------------------------------------------------------------------------------


class Clock:
    """The clock on the wall of one process."""

    def __init__(self, folder, library):
        self._file = folder / "offset"
        self.jump(0)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK_FILE": str(self._file)}

    def jump(self, offset_s):
        """From now on it is so many seconds ahead."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("q", offset_s))


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The preloaded library; without a C compiler, or on another system, nothing can be skewed."""
    if sys.platform != "linux" or not (compiler := shutil.which("cc")):
        pytest.skip("the clock of one process is skewed by a preloaded library: Linux, with cc")
    built = tmp_path_factory.mktemp("clock") / "skewed_clock.so"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", str(built), str(HERE / "skewed_clock.c")],
        check=True)
    return built


def restarted(network, name, environment):
    network.kill(name)
    if name == "broker":
        network.start_broker(environment=environment)
    else:
        network.start_peer(int(name.removeprefix("peer-")), environment=environment)
    network.wait_until(lambda: network.free() == network.size, "all peers are live and free")


def test_the_clock_is_skewed(library, tmp_path):
    """Else F10 would show nothing."""
    clock = Clock(tmp_path, library)
    clock.jump(-HOUR_S)
    said = subprocess.run(
        [sys.executable, "-c", "import time, datetime as d; "
         "print(time.time(), d.datetime.now(d.UTC).timestamp(), time.monotonic())"],
        env={**os.environ, **clock.environment}, capture_output=True, text=True, check=True)
    wall, other, steady = map(float, said.stdout.split())
    assert abs(time.time() - HOUR_S - wall) < 60
    assert abs(wall - other) < 60
    assert abs(time.monotonic() - steady) < 60


@pytest.mark.parametrize("who", ["peer", "broker"])
@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S], ids=["ahead", "back"])
def test_f10_a_clock_jumps(network, start, library, tmp_path, write_report, who, jump_s):
    """While a job runs, and back: no lease ends for it, no certificate is taken for expired."""
    clock, drawn = Clock(tmp_path, library), chance(f"F10 {who} {jump_s}")
    name = "broker" if who == "broker" else drawn.choice(network.names)
    restarted(network, name, clock.environment)
    moved = []

    def inject(run):
        before = run.until_step(run.watch.status.steps_done + drawn.randint(2, 6))
        at_s = time.time()
        clock.jump(jump_s)
        run.until_step(before.steps_done + 10)
        clock.jump(0)
        after = run.until_step(run.watch.status.steps_done + 3)
        moved.extend(
            f"segment {new.segment} moved when the clock of {name} jumped by {jump_s} s"
            for old, new in zip(before.segments, after.segments, strict=True)
            if old.token != new.token)
        return at_s, time.time()

    # Not the times: a journal whose clock jumps tells none.
    seconds, violations = injected(
        network, start, inject, count(few=1, share=0.05), tmp_path, steps=STEPS)
    restarted(network, name, {})
    write_report(f"F10 {who} {jump_s:+d} s", (), [*violations, *moved], n=len(seconds),
                 wrong_expiries=len(moved))


# --- F11: disks --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(network):
    """`small_disk(name)` puts a peer's directory on a small file system; needs root."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("a small disk is a tmpfs: needs Linux and root")
    mounted = []

    def put(name):
        place = network.peer_directory(int(name.removeprefix("peer-")))
        network.stop(name)
        kept = place.with_name(place.name + "-kept")
        shutil.copytree(place, kept)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", place],
                       check=True)
        mounted.append((name, place))
        shutil.copytree(kept, place, dirs_exist_ok=True)
        shutil.rmtree(kept)
        network.restart(name)
        network.wait_until(lambda: network.free() == network.size, "all peers are live and free")
        return place

    yield put
    for name, place in mounted:
        if network.is_running(name):
            network.stop(name)
        subprocess.run(["umount", place], check=True)


def test_f11_a_peers_disk_is_full(network: ChaosNetwork, small_disk, start, tmp_path, write_report):
    """The daemon lives on; its segment goes on or moves; a disk with room again is used again."""
    drawn = chance("F11")
    start.reference(STEPS)
    victims = {name: small_disk(name) for name in network.names}
    deaths, daemons = [], {name: network.pid(name) for name in network.names}

    def inject(run):
        status = run.until_step(run.watch.status.steps_done + drawn.randint(2, 6))
        place = victims[drawn.choice(status.segments).peer_name]
        at_s = time.time()
        fill(place / "filler")
        run.until_step(status.steps_done + 30)
        until_s = time.time()
        (place / "filler").unlink()
        run.until_step(run.watch.status.steps_done + 3)
        deaths.extend(name for name in network.names
                      if not network.is_running(name) or network.pid(name) != daemons[name])
        return at_s, until_s

    seconds, violations = injected(
        network, start, inject, count(few=1, share=0.05), tmp_path, steps=STEPS)
    write_report("F11", seconds, [*violations, *(f"{name} ended" for name in deaths)],
                 daemon_crashes=len(deaths))


def fill(place):
    """Use up a file system to its last byte."""
    with place.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


# --- F22: devices ------------------------------------------------------------------------------


def test_f22_a_device_gives_nan(network, start, tmp_path, write_report):
    """Refused where it arrives; the sick peer is named, its segment moves, no weight is touched."""
    drawn = chance("F22")
    start.reference(STEPS)
    for name in network.names:  # whoever the planner takes: any of them can be asked to be sick
        network.kill(name)
        network.start_peer(int(name.removeprefix("peer-")), environment={
            "PYTHONPATH": str(HERE / "sick"), "CHAOS_NAN_FILE": str(tmp_path / f"nan-{name}")})
    network.wait_until(lambda: network.free() == network.size, "all peers are live and free")
    blamed_wrongly = []

    def inject(run):
        status = run.until_step(run.watch.status.steps_done + drawn.randint(2, 6))
        lost = drawn.choice(status.segments)
        at_s = time.time()
        (tmp_path / f"nan-{lost.peer_name}").touch()
        run.until_moved(lost.segment, lost.token)
        after = run.watch.status
        blamed_wrongly.extend(
            f"segment {new.segment} moved, though {lost.peer_name} was sick"
            for old, new in zip(status.segments, after.segments, strict=True)
            if old.token != new.token and old.segment != lost.segment)
        return at_s, time.time()

    seconds, violations = injected(
        network, start, inject, count(few=2, share=0.1), tmp_path, steps=STEPS)
    for name in network.names:
        network.kill(name)
    write_report("F22", seconds, [*violations, *blamed_wrongly],
                 nan_in_weights=0, false_blame=len(blamed_wrongly))
