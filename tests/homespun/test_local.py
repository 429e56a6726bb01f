"""`homespun.local`: what it starts ends with the program, however that ends."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import homespun
from homespun import local_client
from homespun.errors import Code, HomespunError
from homespun.local_keeper import Keeper, end
from homespun.local_network import LocalNetwork

ENDS_WITHIN_S = 120.0
"""Only so that a process that stays fails its test; nothing depends on the value."""

SLEEPS = "import time; print('here', flush=True); time.sleep(600)"
PROGRAM = """
import os, signal, sys
import homespun
client = homespun.local(peers=1, notify=print)
print(*(process.pid for process in client.network._processes.values()), flush=True)
print(client.network.directory, flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
"""


@pytest.fixture
def sleeper():
    with subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().strip() == b"here"
        yield process
        process.kill()


def test_the_keeper_ends_what_is_left_when_the_pipe_closes(sleeper):
    keeper = Keeper()
    keeper.watch(sleeper.pid)
    keeper.close()
    assert sleeper.wait(ENDS_WITHIN_S) != 0


def test_the_keeper_removes_what_it_was_given(tmp_path):
    place = tmp_path / "gone"
    (place / "blobs").mkdir(parents=True)
    Keeper(place).close()
    assert not list(tmp_path.iterdir())


def test_a_later_process_with_the_same_number_is_left_alone(sleeper):
    created = psutil.Process(sleeper.pid).create_time()
    end([(str(sleeper.pid), str(created - 3_600.0)), ("999999999", "1.0")])
    assert sleeper.poll() is None


@pytest.mark.parametrize("peers", [0, -1, 65, True, 1.0, "3"])
def test_a_wrong_number_of_peers_is_named(peers):
    with pytest.raises(HomespunError) as caught:
        homespun.local(peers)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "peers" in caught.value.message


def test_somebodys_files_are_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(HomespunError) as caught:
            homespun.local(directory=place)
        assert caught.value.code is Code.CONFLICT
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_network_that_does_not_start_leaves_nothing(tmp_path, monkeypatch):
    def fail(self):
        raise HomespunError(Code.TIMED_OUT, "broker was not ready in time")

    monkeypatch.setattr(LocalNetwork, "start_broker", fail)
    monkeypatch.setattr(local_client.tempfile, "mkdtemp", lambda prefix: str(made()))

    def made():
        (tmp_path / "made").mkdir()
        return tmp_path / "made"

    with pytest.raises(HomespunError) as caught:
        homespun.local(notify=io.StringIO().write)
    assert caught.value.code is Code.TIMED_OUT
    assert not list(tmp_path.iterdir())


@pytest.mark.e2e
@pytest.mark.parametrize("how", ["ends", "killed"])
def test_everything_ends_with_the_program(how):
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, how], capture_output=True, text=True,
        timeout=2 * ENDS_WITHIN_S, check=False)
    assert (done.returncode == 0) == (how == "ends"), done.stderr
    starting, _, pids, directory = done.stdout.splitlines()
    assert starting == "Starting a private broker and 1 peer on this machine."
    processes = [psutil.Process(pid) for pid in map(int, pids.split()) if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(processes, timeout=ENDS_WITHIN_S)
    assert not alive
    if how == "ends":
        assert not processes
    deadline_s = time.monotonic() + ENDS_WITHIN_S
    while Path(directory).exists() and time.monotonic() < deadline_s:
        time.sleep(0.1)  # the process that removes it is nobody's child by now
    assert not Path(directory).exists()
