"""Certificates that live for seconds: replaced unnoticed, and renewed after an absence."""

import pytest

from homespun.identity import directory as identity_directory
from homespun.identity.certificates import utc_now

pytestmark = pytest.mark.e2e

LIFETIME_S = 45
"""Longer than a model takes to export on a busy machine: meanwhile nothing uses the client."""


@pytest.fixture(scope="module")
def network(start_network):
    return start_network(2, settings={"certificate_lifetime_s": LIFETIME_S})


def test_a_job_outlives_the_certificates_that_it_began_with(network, lab, tmp_path):
    with network.client() as client:
        job = client.train(**lab.endless(), peers=2)
        lab.watch_until(job, lambda status: status.state == "running")
        places = [network.credentials, *(network.peer_directory(n) / "identity" for n in (0, 1))]
        first = [identity_directory.load(place) for place in places]
        watcher = lab.Watcher(job)

        def are_expired():
            job.status()  # a client renews when it is used
            return utc_now() > max(held.expires_at for held in first)

        network.wait_until(are_expired, "the certificates of the beginning have expired")
        # New calls, new links and new transfers work on a client that was opened before.
        lab.until_step(job, job.status().steps_done + 20)
        assert job.cancel().state == "cancelled"
        assert watcher.join().error is None
        assert watcher.steps == list(range(len(watcher.steps)))
        second = client.train(**lab.arguments(steps=5), peers=2)
        lab.finished(second)
        assert second.result(tmp_path).path.is_file()
    for before, place in zip(first, places, strict=True):
        after = identity_directory.load(place)
        assert after.id == before.id
        assert after.expires_at > before.expires_at
    for number in (0, 1):
        assert network.log(f"peer-{number}").count('"connected"') == 1


def test_an_absence_longer_than_the_certificates_costs_nobody_anything(network, lab, tmp_path):
    places = [network.credentials, *(network.peer_directory(n) / "identity" for n in (0, 1))]
    with network.client() as client:
        job = client.train(**lab.arguments(steps=5), peers=1)
        lab.finished(job)
    # The broker and one peer are off; the other peer runs on, and nobody renews its certificate.
    network.stop("peer-1")
    network.kill("broker")
    held = [identity_directory.load(place) for place in places]
    network.wait_until(
        lambda: all(utc_now() > one.expires_at for one in held), "all certificates have expired")
    network.start_broker()
    network.start_peer(1)
    with network.client() as client:
        assert job.id in [status.job_id for status in client.jobs()]
        assert client.job(job.id).result(tmp_path / "again").path.is_file()
    network.wait_for_peers(2)
    assert sorted(peer["peer_id"] for peer in network.peers()) == sorted(
        one.id for one in held[1:])
    assert [identity_directory.load(place).id for place in places] == [one.id for one in held]
    assert "identity_renewed_late" in network.log("broker")
