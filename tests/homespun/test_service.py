"""Signals against a real process."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
DEADLINE_S = 60
SERVICE = """
import asyncio, sys
from homespun.service import run_service

async def serve():
    try:
        print("up", flush=True)
        await asyncio.sleep(600)
    finally:
        print("cleaning", flush=True)
        await asyncio.sleep(float(sys.argv[1]))
        print("clean", flush=True)

run_service(serve())
"""


def start(cleaning_s):
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(cleaning_s)], stdout=subprocess.PIPE, text=True)
    assert service.stdout.readline() == "up\n"
    return service


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_it_clean_up_and_end_well(number):
    with start(0.1) as service:
        service.send_signal(number)
        assert service.stdout.read() == "cleaning\nclean\n"
        assert service.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_kills(number):
    with start(600) as service:
        service.send_signal(number)
        assert service.stdout.readline() == "cleaning\n"
        service.send_signal(number)
        assert service.wait(DEADLINE_S) == -number
