"""Networks of real processes, and small jobs for them."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import homespun
from examples.transformer import Transformer, language_loss
from homespun.local_network import LocalNetwork

JOB_TIMEOUT_S = 240.0
"""Only so that a hanging job fails its test with a name; nothing depends on the value."""
VOCAB, LENGTH, ROWS = 64, 16, 96
PEERS = 3
SHORT_POLICY = {"lease_ttl_ms": 6_000, "reconnect_grace_ms": 3_000}
"""So that a loss is known after seconds."""


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """The models here are tiny, and the peers need the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    """Partial downloads of results go to a folder of the test."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def start_network(tmp_path_factory, _shared_network):
    """Start networks that end with the module; arguments as of `LocalNetwork`.

    Their peers know what the shared network's first peer has measured.
    """
    measured = _shared_network.peer_directory(0) / "hardware.json"
    with ExitStack() as stack:

        def start(peers, **options):
            directory = tmp_path_factory.mktemp("network")
            return stack.enter_context(
                LocalNetwork(directory, peers, hardware=measured, **options))

        yield start


@pytest.fixture(scope="session")
def _shared_network(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shared")
    with LocalNetwork(directory, PEERS, settings={"policy": SHORT_POLICY}) as network:
        yield network


@pytest.fixture
def network(_shared_network):
    """Three peers, live and free, and their broker; a test may kill what it likes."""
    heal(_shared_network)
    return _shared_network


@pytest.fixture(scope="session")
def shared_client(_shared_network):
    """A client of the shared network, for fixtures that last."""
    with _shared_network.client() as client:
        yield client


@pytest.fixture
def client(network, shared_client):
    """A client of the network. The same one in all tests, over restarts of the broker."""
    return shared_client


def heal(network):
    """Start what was killed, end what still runs, and wait until all peers are live and free."""
    if not network.is_running("broker"):
        network.start_broker()
    for number in range(PEERS):
        if not network.is_running(f"peer-{number}"):
            network.start_peer(number)
    with network.client() as client:
        for status in client.jobs():
            if not status.is_final:
                client.job(status.job_id).cancel()
    network.wait_until(lambda: free_peers(network) == PEERS, "all peers are live and free")


def free_peers(network):
    return sum(peer["state"] == "live" and not peer["leases"] for peer in network.peers())


def tokens(rows=ROWS, seed=0):
    return np.random.default_rng(seed).integers(0, VOCAB, (rows, LENGTH + 1))


def transformer(**sizes):
    torch.manual_seed(0)
    fields = {"vocab": VOCAB, "width": 32, "layers": 3, "heads": 4, "hidden": 48,
              "context": LENGTH}
    return Transformer(**(fields | sizes))


def arguments(**changes):
    """Arguments of `Client.train` for a small job with everything on."""
    fields = {
        "model": transformer(), "loss": language_loss, "data": {"tokens": tokens()},
        "validation": {"tokens": tokens(16, seed=1)},
        "optimizer": homespun.AdamW(lr=3e-3, weight_decay=0.05), "steps": 20, "batch_size": 8,
        "microbatches": 4, "schedule": homespun.Cosine(warmup_steps=5, final_ratio=0.1),
        "clip_norm": 0.5, "evaluate_every": 10, "seed": 7,
    }
    return fields | changes


def endless(**changes):
    """Arguments of a job that is still running whenever a test gets round to it."""
    return arguments(**({"steps": 100_000, "evaluate_every": 0, "name": "endless"} | changes))


def finished(job):
    """The job's final status; it must have succeeded."""
    status = job.wait(timeout_s=JOB_TIMEOUT_S)
    assert status.state == "succeeded", f"{status.error_code}: {status.error_message}"
    return status


def failure(job):
    """The error that a job ends with."""
    job.wait(timeout_s=JOB_TIMEOUT_S)
    with pytest.raises(homespun.HomespunError) as caught:
        job.result()
    return caught.value


def watch_until(job, is_so, timeout_s=JOB_TIMEOUT_S):
    """Watch a job until its status is as wanted; it must not end before."""
    for update in job.updates(timeout_s=timeout_s):
        if is_so(update.status):
            return update.status
    pytest.fail(f"{job.id} ended: {update.status.error_code} {update.status.error_message}")


def until_step(job, step):
    return watch_until(job, lambda status: status.steps_done >= step)


def weights(job, directory):
    """Name -> bytes of each trained tensor."""
    finished(job)
    result = job.result(directory / f"{job.id}.safetensors")
    return {name: tensor.contiguous().view(torch.uint8).numpy().tobytes()
            for name, tensor in result.state_dict().items()}


def curves(job):
    """Every loss of a job, exactly."""
    metrics = job.curves()
    return ([(metric.step, metric.loss) for metric in metrics.steps],
            [(metric.step, metric.loss) for metric in metrics.evaluations])


def different(first, second):
    """Names of the tensors that are not equal to the last bit."""
    assert first.keys() == second.keys()
    return [name for name in first if first[name] != second[name]]


class Watcher:
    """Watches a job from a thread of its own, as another program would."""

    def __init__(self, job):
        self.steps = []
        self.status = None
        self.error = None
        self._job = job
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            for update in self._job.updates(timeout_s=JOB_TIMEOUT_S):
                self.steps += [metric.step for metric in update.steps]
                self.status = update.status
        except homespun.HomespunError as error:
            self.error = error

    def join(self):
        self._thread.join(JOB_TIMEOUT_S)
        assert not self._thread.is_alive()
        return self


@pytest.fixture(scope="session")
def lab():
    """The functions and classes of this file, for the test modules beside it."""
    return SimpleNamespace(
        Watcher=Watcher, arguments=arguments, curves=curves, different=different, endless=endless,
        failure=failure, finished=finished, free_peers=free_peers, tokens=tokens,
        transformer=transformer, until_step=until_step, watch_until=watch_until, weights=weights)
