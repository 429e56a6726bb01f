"""A peer is killed and a spare one takes its segment over, on real processes."""

import pytest

pytestmark = pytest.mark.e2e

STEPS = 60
SPARES = 2


@pytest.fixture(scope="module")
def spares(start_network):
    """Five peers: three for the job, two in the backup pool."""
    return start_network(3 + SPARES)


@pytest.fixture(scope="module")
def spare_client(spares):
    with spares.client() as client:
        yield client


@pytest.fixture(scope="module")
def undisturbed(spare_client, lab, tmp_path_factory):
    job = spare_client.train(**lab.arguments(steps=STEPS), peers=3)
    return lab.weights(job, tmp_path_factory.mktemp("undisturbed")), lab.curves(job)


def test_a_spare_peer_takes_over(spares, spare_client, lab, undisturbed, tmp_path):
    """Twice in one job; the second one is the lead, which adds the norms."""
    job = spare_client.train(**lab.arguments(steps=STEPS), peers=3)
    killed = []
    for index, step in ((1, 10), (0, 25)):
        lost = lab.until_step(job, step).segments[index]
        spares.kill(lost.peer_name)
        killed.append(lost.peer_name)
    weights, curves = undisturbed
    assert lab.different(lab.weights(job, tmp_path), weights) == []
    assert lab.curves(job) == curves
    holders = {segment.peer_name for segment in job.status().segments}
    assert len(holders) == 3
    assert holders.isdisjoint(killed)
