"""The broker is killed at the worst moments: jobs go on, nothing is lost, nothing is done twice."""

import json

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.e2e

STEPS = 200


@pytest.fixture(scope="module")
def undisturbed(shared_client, lab, tmp_path_factory):
    """Weights and curves of the same job when nobody is killed."""
    job = shared_client.train(**lab.arguments(steps=STEPS), peers=1)
    return lab.weights(job, tmp_path_factory.mktemp("undisturbed")), lab.curves(job)


@pytest.fixture
def as_undisturbed(undisturbed, lab, tmp_path):
    def check(job):
        weights, curves = undisturbed
        assert lab.different(weights, lab.weights(job, tmp_path)) == []
        assert lab.curves(job) == curves

    return check


def leases(network):
    """What the peers themselves say they do, without a broker."""
    return [
        lease for number in (0, 1, 2) for lease in json.loads(network.run(
            "peer", "status", "--json", "--dir", str(network.peer_directory(number))).stdout
        )["leases"]]


def test_in_the_middle_of_training(network, client, lab, as_undisturbed):
    job = client.train(**lab.arguments(steps=STEPS), peers=3)
    watcher = lab.Watcher(job)
    reached = lab.until_step(job, 5).steps_done
    network.kill("broker")
    network.wait_until(
        lambda: all(lease["steps_done"] > reached + 20 for lease in leases(network)),
        "the peers train on without the broker")
    network.start_broker()
    as_undisturbed(job)
    assert watcher.join().error is None
    assert watcher.status.state == "succeeded"
    assert watcher.steps == list(range(STEPS)), "each step once, in order"


def test_away_until_all_results_wait_for_it(network, client, lab, as_undisturbed):
    job = client.train(**lab.arguments(steps=STEPS), peers=3)
    lab.until_step(job, 5)
    network.kill("broker")
    network.wait_until(
        lambda: [lease["phase"] for lease in leases(network)] == ["storing"] * 3,
        "the peers have results to store")
    network.start_broker()
    as_undisturbed(job)


def test_while_the_segments_are_loaded(network, client, lab, as_undisturbed):
    job = client.train(**lab.arguments(steps=STEPS), peers=3)
    lab.watch_until(job, lambda status: status.state == "preparing")
    network.kill("broker")
    network.start_broker()
    as_undisturbed(job)


def test_directly_after_the_submission(network, client, lab, as_undisturbed):
    job = client.train(**lab.arguments(steps=STEPS), peers=3)
    network.kill("broker")
    network.start_broker()
    as_undisturbed(job)


class Wide(nn.Module):
    """Two large weights: their upload takes long enough to be interrupted."""

    def __init__(self, width=2_500):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def test_while_a_result_is_uploaded(network, client, lab, tmp_path):
    torch.manual_seed(0)
    model = Wide()
    x = torch.randn(8, 2_500)
    given = lab.arguments(
        model=model, loss=nn.MSELoss(), data={"x": x, "y": x}, validation=None, evaluate_every=0,
        steps=2, batch_size=8)
    undisturbed = lab.weights(client.train(**given, peers=1), tmp_path)
    # The same weights again would be known already: another seed leaves other ones.
    job = client.train(**(given | {"steps": 3}), peers=1)
    lab.watch_until(job, lambda status: status.state == "running")
    parts = network.broker_directory / "blobs"
    while not (found := list(parts.rglob("*.part"))):
        assert not job.status().is_final, "the upload went by unseen"
    network.kill("broker")
    assert any(part.exists() for part in found), "the upload was over before the kill"
    network.start_broker()
    trained = lab.weights(job, tmp_path)
    assert lab.different(undisturbed, trained)
    assert not list(parts.rglob("*.part"))
