"""A job that was cancelled gives what it has learned: parameters of a step, on real processes."""

import json
from collections import Counter

import pytest

import homespun
from homespun.optimizers import Constant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
"""Two jobs one after the other, on a machine that may be busy."""

PEERS = 2


def kept(network, number):
    """(job, serial, position) of the whole snapshots that a peer has on its disk."""
    folder = network.peer_directory(number) / "snapshots"
    return [tuple(path.name.removesuffix(".record").rsplit("-", 2))
            for path in folder.glob("*.record") if "-s" not in path.name]


def positions_of_all(network, job, peers):
    """Positions of which so many peers together have every segment twice, newest last."""
    found = Counter(
        int(position) for number in peers for of, _, position in kept(network, number)
        if of == job.id)
    return sorted(at for at, count in found.items() if count >= 2 * PEERS)


def snapshotted(network, job, lab):
    """Wait until two positions are complete, so that the broker knows of one for certain."""
    lab.until_step(job, 1)
    network.wait_until(
        lambda: len(positions_of_all(network, job, range(3))) >= 2, "two complete positions")


def constant(lab, **changes):
    return lab.endless(schedule=Constant(), **changes)


def test_the_parameters_of_a_cancelled_job_are_those_of_its_step(network, client, lab, tmp_path):
    job = client.train(**constant(lab), peers=PEERS)
    snapshotted(network, job, lab)
    status = job.cancel()
    assert status.partial is not None
    with pytest.raises(homespun.HomespunError) as cancelled:
        job.result(tmp_path)
    assert cancelled.value.code == "CANCELLED"
    assert "--partial" in cancelled.value.message
    left = job.result(tmp_path / "left.safetensors", partial=True, timeout_s=60)
    assert left.step == status.partial.position > 0
    assert f"step {left.step}" in repr(left)
    again = client.train(**constant(lab, steps=left.step), peers=PEERS)
    whole = lab.weights(again, tmp_path)
    found = {name: tensor.contiguous().numpy().tobytes()
             for name, tensor in left.state_dict().items()}
    assert lab.different(found, whole) == []


def test_backups_give_what_a_killed_holder_cannot_and_the_command_fetches_it(
    network, client, lab, tmp_path,
):
    job = client.train(**constant(lab), peers=PEERS)
    snapshotted(network, job, lab)
    network.kill(job.status().segments[0].peer_name)
    step = job.cancel().partial.position
    path = tmp_path / "left.safetensors"
    ran = network.run("homespun", "download", job.id, "--partial", "-o", str(path), "--json")
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert (said["path"], said["step"]) == (str(path), step)
    assert path.is_file()


def test_a_job_that_was_cancelled_before_its_first_snapshot_says_so(client, lab):
    job = client.train(**lab.arguments(steps=1_000), peers=PEERS)
    job.cancel()
    with pytest.raises(homespun.HomespunError) as nothing:
        job.result(partial=True)
    assert nothing.value.code == "NOT_FOUND"
    assert "before every segment had a snapshot" in nothing.value.message
