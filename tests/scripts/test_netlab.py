"""The emulated network keeps its promises: what a small TCP transfer measures between two peers."""

import json
import subprocess
import sys

import pytest

from scripts import netlab
from scripts.netlab import AccessLink, LabError, NetworkLab, access_link

needs_network = pytest.mark.skipif(bool(netlab.missing()), reason=netlab.missing() or "can run")
SIZE_BYTES = 1_500_000
RATE_MBIT, DELAY_MS = 20.0, 10.0
PORT = 7000

SERVER = f"""
import socket
with socket.create_server(("", {PORT})) as server:
    print("listening", flush=True)
    connection, _ = server.accept()
    with connection:
        while connection.recv(16):
            connection.sendall(b"pong")
            left = {SIZE_BYTES}
            while left:
                left -= len(connection.recv(min(left, 1 << 16)))
            connection.sendall(b"done")
"""
CLIENT = f"""
import json, socket, sys, time
def timed(work):
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s
with socket.create_connection((sys.argv[1], {PORT}), timeout=20) as connection:
    def ping():
        connection.sendall(b"ping")
        assert connection.recv(4) == b"pong"
    def transfer():
        connection.sendall(bytes({SIZE_BYTES}))
        assert connection.recv(4) == b"done"
    print(json.dumps({{"round_trip_s": timed(ping), "transfer_s": timed(transfer)}}))
"""


def python(program, *arguments):
    return [sys.executable, "-c", program, *arguments]


@needs_network
def test_rate_and_delay_are_those_asked_for():
    link = AccessLink(up_mbit=RATE_MBIT, down_mbit=RATE_MBIT, delay_ms=DELAY_MS)
    with NetworkLab([link, link]) as lab:
        server = lab.popen(1, python(SERVER), stdout=subprocess.PIPE)
        try:
            assert server.stdout.readline() == b"listening\n"
            done = subprocess.run(
                lab.command(0, python(CLIENT, lab.address(1))), capture_output=True, text=True,
                timeout=30, check=False)
            assert done.returncode == 0, done.stderr
        finally:
            server.kill()
            server.communicate()
        print("congestion control:", lab.congestion, lab.counts)
    measured = json.loads(done.stdout)
    # The delays of both ends, there and back. A crowded machine only ever adds.
    assert 0.04 <= measured["round_trip_s"] < 0.12
    # 1.5 MB at 20 Mbit/s are 0.6 s; slow start, store and forward and headers add.
    assert 0.6 <= measured["transfer_s"] < 2.0
    assert lab.counts.payload_bytes > SIZE_BYTES


@needs_network
def test_namespaces_are_gone_afterwards():
    with NetworkLab([AccessLink()]) as lab:
        name = lab.namespace(0)
        assert name in netns()
    assert name not in netns()


def netns():
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in listed.stdout.splitlines() if line}


def test_a_link_is_read_from_the_command_line():
    assert access_link("up=20,down=100,delay=2.5,loss=0.001") == AccessLink(
        up_mbit=20, down_mbit=100, delay_ms=2.5, loss=0.001)
    assert access_link("") == AccessLink()


@pytest.mark.parametrize("text", ["up", "up=fast", "speed=3", "loss=1", "delay=-1"])
def test_a_senseless_link_is_refused(text):
    with pytest.raises(LabError):
        access_link(text)


@pytest.mark.parametrize(("platform", "user", "has_ip", "word"), [
    ("darwin", 0, True, "Linux"), ("linux", 1000, True, "root"), ("linux", 0, False, "iproute2")])
def test_what_is_missing_is_said(monkeypatch, tmp_path, platform, user, has_ip, word):
    monkeypatch.setattr(netlab, "TUN", tmp_path)
    monkeypatch.setattr(netlab.sys, "platform", platform)
    monkeypatch.setattr(netlab.os, "geteuid", lambda: user, raising=False)
    monkeypatch.setattr(netlab.shutil, "which", lambda name: "/sbin/ip" if has_ip else None)
    assert word in netlab.missing()
    with pytest.raises(LabError, match=word):
        NetworkLab([AccessLink()])


def test_a_machine_without_tap_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(netlab.sys, "platform", "linux")
    monkeypatch.setattr(netlab.os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(netlab, "TUN", tmp_path / "tun")
    assert "module `tun`" in netlab.missing()
