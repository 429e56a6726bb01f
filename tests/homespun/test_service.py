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

STOPPED = """
import asyncio
from homespun.service import run_service

asked = asyncio.Event()

async def serve():
    print("up", flush=True)
    await asked.wait()
    print("handing over", flush=True)
    await asyncio.sleep(0.1)
    print("done", flush=True)

run_service(serve(), asked.set)
"""
AS_ON_WINDOWS = """
import asyncio

class Loop(asyncio.SelectorEventLoop):
    def add_signal_handler(self, *_):
        raise NotImplementedError
    remove_signal_handler = add_signal_handler

asyncio.SelectorEventLoop = asyncio.DefaultEventLoopPolicy._loop_factory = Loop
"""


def start(cleaning_s=0.0, program=SERVICE):
    service = subprocess.Popen(
        [sys.executable, "-c", program, str(cleaning_s)], stdout=subprocess.PIPE, text=True)
    assert service.stdout.readline() == "up\n"
    return service


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_it_clean_up_and_end_well(number):
    with start(0.1) as service:
        service.send_signal(number)
        assert service.stdout.read() == "cleaning\nclean\n"
        assert service.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_may_end_by_itself(number):
    with start(program=STOPPED) as service:
        service.send_signal(number)
        assert service.stdout.read() == "handing over\ndone\n"
        assert service.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("program", [SERVICE, STOPPED])
def test_a_loop_that_handles_no_signals_is_woken_all_the_same(program):
    with start(0.1, AS_ON_WINDOWS + program) as service:
        service.send_signal(signal.SIGINT)
        assert len(service.stdout.read().splitlines()) == 2
        assert service.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_kills(number):
    with start(600) as service:
        service.send_signal(number)
        assert service.stdout.readline() == "cleaning\n"
        service.send_signal(number)
        assert service.wait(DEADLINE_S) == -number
