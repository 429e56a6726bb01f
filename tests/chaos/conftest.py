"""Networks under chaos, and the undisturbed runs that others are compared with."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch

from tests.chaos import report
from tests.chaos.network import ChaosNetwork
from tests.chaos.runs import Run, arguments

PEERS = 5
"""Three hold segments, two stand by."""


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """The models here are tiny, and the peers need the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Partial downloads of results go to a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def start_network(tmp_path_factory):
    """Start networks that end with the session; arguments as of `ChaosNetwork`."""
    measured = []
    with ExitStack() as stack:

        def start(peers=PEERS, **options):
            network = stack.enter_context(ChaosNetwork(
                tmp_path_factory.mktemp("network"), peers,
                hardware=measured[0] if measured else None, **options))
            measured.append(network.peer_directory(0) / "hardware.json")
            return network

        yield start


@pytest.fixture(scope="session")
def _shared_network(start_network):
    return start_network()


@pytest.fixture
def network(_shared_network):
    """Five peers, live and free, and their broker; a test may do to them what it likes."""
    _shared_network.heal()
    return _shared_network


@pytest.fixture(scope="session")
def shared_client(_shared_network):
    with _shared_network.client() as client:
        yield client


@pytest.fixture
def client(network, shared_client):
    """A client of the network, over restarts of the broker."""
    return shared_client


class Starter:
    """Starts jobs whose undisturbed run is known, or is run first, on the same network."""

    def __init__(self, network, client, references, folder):
        self._network, self._client = network, client
        self._references, self._folder = references, folder

    def __call__(self, steps, **changes):
        """Start the job of so many steps."""
        reference = self.reference(steps, **changes)
        run = self._submit(steps, changes)
        run.reference = reference
        return run

    def reference(self, steps, **changes):
        """Weights of the undisturbed run."""
        key = (steps, *sorted(changes.items()))
        if key not in self._references:
            self._references[key] = self._submit(steps, changes).weights(self._folder)
        return self._references[key]

    def _submit(self, steps, changes):
        return Run.submit(self._network, self._client, arguments(steps, **changes))


@pytest.fixture(scope="session")
def references():
    """Weights of undisturbed runs, by their number of steps."""
    return {}


@pytest.fixture
def start(network, client, references, tmp_path):
    """Starts the job of so many steps."""
    return Starter(network, client, references, tmp_path)


@pytest.fixture
def write_report():
    """Write a row of the report; the test fails on violations after it was written."""
    def write(*arguments, **more):
        row = report.row(*arguments, **more)
        report.write(row)
        assert row["violations"] == 0, row["what"]

    return write
