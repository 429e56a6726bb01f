"""One inference job over peers with different executors, in processes of their own."""

import numpy as np
import pytest
import torch
from torch import nn

from peer.executor.installed import NAMES

EXECUTORS = tuple(name for name in ("torch", "onnxruntime", "jax") if name in NAMES)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
"""Float32 through a few layers; each framework sums in an order of its own."""
ROWS = 40


class Net(nn.Module):
    """Convolution, normalisation by stored statistics, dropout, a residual path, two outputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.deep = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(4)])
        self.narrow = nn.Linear(8 * 64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, image):
        features = self.drop(torch.relu(self.norm(self.conv(image)))).flatten(1)
        hidden = self.narrow(features)
        hidden = hidden + self.deep(hidden)
        return self.head(hidden), hidden.mean(dim=1)


@pytest.fixture(scope="module")
def network(start_network):
    peers = [EXECUTORS[number % len(EXECUTORS)] for number in range(3)]
    policy = {"lease_ttl_ms": 6_000, "reconnect_grace_ms": 3_000}
    return start_network(3, executors=peers, settings={"policy": policy})


@pytest.fixture(scope="module")
def client(network):
    with network.client() as client:
        yield client


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    net = Net().eval()
    net.norm.running_mean.normal_()
    net.norm.running_var.uniform_(0.5, 2.0)
    return net


@pytest.mark.e2e
def test_a_job_over_all_executors_equals_native_torch(network, client, model, lab):
    image = np.random.default_rng(5).standard_normal((ROWS, 3, 8, 8)).astype(np.float32)
    job = client.infer(model, {"image": image}, batch_size=8, peers=3)
    status = lab.finished(job)
    peers = {peer["peer_id"]: peer["hardware"]["executor"] for peer in network.peers()}
    assert {peers[segment.peer_id] for segment in status.segments} == set(EXECUTORS)
    got = job.outputs()
    with torch.no_grad():
        wanted = model(torch.from_numpy(image))
    for name, tensor in zip(("output_0", "output_1"), wanted, strict=True):
        assert got[name].shape == tuple(tensor.shape)
        np.testing.assert_allclose(got[name], tensor.numpy(), **TOLERANCE)


@pytest.mark.e2e
def test_training_leaves_a_peer_that_only_infers_idle(network, client, lab):
    job = client.train(**lab.arguments(steps=2, evaluate_every=0))
    status = lab.finished(job)
    peers = {peer["peer_id"]: peer["hardware"]["executor"] for peer in network.peers()}
    assert "onnxruntime" not in {peers[segment.peer_id] for segment in status.segments}
    (reason,) = (refusal for refusal in status.idle if peers[refusal.subject] == "onnxruntime")
    assert reason.rule == "trainable"
    assert "(onnxruntime) does not train" in reason.text


@pytest.mark.e2e
def test_what_no_peer_can_train_is_refused_with_the_node_and_the_way_out(network, client, lab):
    trainers = [number for number, name in enumerate(EXECUTORS) if name != "onnxruntime"]
    for number in trainers:
        network.kill(f"peer-{number}")
    if len(EXECUTORS) < 3:
        network.kill("peer-2")
    network.wait_until(
        lambda: sum(peer["state"] == "live" for peer in network.peers()) == 1,
        "only the one that infers is left")
    error = lab.failure(client.train(**lab.arguments(steps=1, evaluate_every=0)))
    assert error.code == "CANNOT_PLACE"
    assert "No peer can run node" in error.message
    assert "onnxruntime does not train" in error.message
    assert "peer run --executor torch" in error.message
