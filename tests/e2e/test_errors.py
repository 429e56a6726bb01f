"""What goes wrong says what, where and what to do, ends with the right code, and breaks nothing."""

import json
import os

import pytest
import torch
from torch import nn

import homespun
from homespun.blobs.store import digest_of
from homespun.errors import CATALOG, Code, HomespunError
from homespun.tensor_file import pack

pytestmark = pytest.mark.e2e


class Distinct(nn.Module):
    """Uses an operator that no executor has."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x) * torch.unique(x).sum()


class Huge(nn.Module):
    """Little to store, and 16 GB for each activation of a microbatch of 1024 samples."""

    def __init__(self, width=4_000_000, depth=24):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.depth = depth

    def forward(self, x):
        x = x * self.scale
        for _ in range(self.depth):
            x = torch.tanh(x)
        return x.mean(1, keepdim=True)


def regression(lab, model, width, **changes):
    x = torch.randn(16, width, generator=torch.Generator().manual_seed(0))
    return lab.arguments(**({
        "model": model, "loss": nn.MSELoss(), "data": {"x": x, "y": x}, "validation": None,
        "evaluate_every": 0, "steps": 3, "microbatches": 1} | changes))


def test_an_operator_that_is_not_supported(client, lab):
    jobs = [status.job_id for status in client.jobs()]
    with pytest.raises(HomespunError) as caught:
        client.train(**regression(lab, Distinct(), 4))
    assert caught.value.code is Code.UNSUPPORTED_OP
    for part in ("Unique", "Node", "no executor runs", "test_errors.py, line 26"):
        assert part in caught.value.message
    assert [status.job_id for status in client.jobs()] == jobs


def test_a_model_that_fits_nowhere(network, client, lab):
    x = torch.ones(1024, 1)
    job = client.train(**lab.arguments(
        model=Huge(), loss=nn.MSELoss(), data={"x": x, "y": x}, validation=None, evaluate_every=0,
        batch_size=1024, microbatches=1))
    error = lab.failure(job)
    assert error.code is Code.CANNOT_PLACE
    assert "bytes of device memory are missing" in error.message
    watched = network.run("homespun", "watch", job.id)
    assert watched.returncode == CATALOG[Code.CANNOT_PLACE].exit_code == 7


def test_a_loss_that_explodes(network, client, lab):
    job = client.train(**lab.arguments(
        optimizer=homespun.SGD(lr=1e30), schedule=None, clip_norm=0.0, evaluate_every=0), peers=3)
    error = lab.failure(job)
    assert error.code is Code.LOSS_NOT_FINITE
    assert "step 1" in error.message
    assert job.curves().steps, "the loss of step 0 was still finite"
    network.wait_until(lambda: lab.free_peers(network) == 3, "all three are free")


def test_a_cancelled_job(network, client, lab):
    job = client.train(**lab.endless(), peers=3)
    lab.until_step(job, 3)
    done = network.run("homespun", "cancel", job.id)
    assert done.returncode == 0, done.stderr
    error = lab.failure(job)
    assert error.code is Code.CANCELLED
    assert network.run("homespun", "watch", job.id).returncode == 8
    again = network.run("homespun", "cancel", job.id)
    assert again.returncode == CATALOG[Code.CONFLICT].exit_code
    network.wait_until(lambda: lab.free_peers(network) == 3, "all three are free")
    lab.finished(client.train(**lab.arguments(steps=3), peers=3))


def test_an_operator_cancels(network, client, lab):
    job = client.train(**lab.endless(), peers=1)
    done = network.run("broker", "cancel", job.id, "--dir", str(network.broker_directory))
    assert done.returncode == 0, done.stderr
    assert job.id in done.stdout
    assert lab.failure(job).code is Code.CANCELLED


def test_somebody_elses_job(network, client, lab, tmp_path):
    job = client.train(**lab.arguments(steps=2), peers=1)
    network.join_submitter(tmp_path / "other")
    with network.client(tmp_path / "other") as other:
        assert other.jobs() == ()
        for action in (lambda: other.job(job.id), lambda: homespun.Job(
                other._connection, job.id).cancel()):
            with pytest.raises(HomespunError) as caught:
                action()
            assert caught.value.code is Code.NOT_FOUND
    done = network.run(
        "homespun", "job", job.id, "--credentials", str(tmp_path / "other"), "--json")
    assert done.returncode == CATALOG[Code.NOT_FOUND].exit_code
    assert json.loads(done.stderr)["error"]["code"] == Code.NOT_FOUND
    lab.finished(job)


DEV_FULL = "/dev/full"
needs_dev_full = pytest.mark.skipif(
    not os.path.exists(DEV_FULL), reason="needs a device that is always full")


def fill_disk(blobs, digest):
    """Let whatever is written of one blob go to a device that is always full."""
    part = blobs / digest[:2] / f"{digest}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    part.symlink_to(DEV_FULL)
    return part


@needs_dev_full
def test_a_full_disk_at_a_peer(network, client, lab):
    columns = lab.tokens(seed=3)
    digest = digest_of(pack({"tokens": columns}))
    parts = [fill_disk(network.peer_directory(n) / "blobs", digest) for n in (0, 1, 2)]
    given = lab.arguments(data={"tokens": columns}, steps=2)
    error = lab.failure(client.train(**given, peers=1))
    assert error.code is Code.DISK_FULL
    assert "peer-" in error.message
    for part in parts:
        part.unlink(missing_ok=True)
    lab.finished(client.train(**given, peers=1))


@needs_dev_full
def test_a_full_disk_at_the_broker(network, client, lab):
    columns = lab.tokens(seed=4)
    part = fill_disk(network.broker_directory / "blobs", digest_of(pack({"tokens": columns})))
    given = lab.arguments(data={"tokens": columns}, steps=2)
    with pytest.raises(HomespunError) as caught:
        client.train(**given, peers=1)
    assert caught.value.code is Code.DISK_FULL
    part.unlink(missing_ok=True)
    lab.finished(client.train(**given, peers=1))
