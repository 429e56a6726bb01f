"""Who may touch which blob."""

from __future__ import annotations

import pytest

from broker.core import blob_rights
from broker.core import events as ev


def test_a_peer_reads_exactly_what_its_segment_needs(world, make):
    spec = make.spec()
    world.connect("peer_a")
    world.connect("peer_b")
    world.submit(spec)
    world.solve("job_000001", [], answer=make.placement(["peer_a", "peer_b"], tied=True))
    columns = {(c.split, c.name): c.digest for c in spec.columns}
    graph, w0, w1 = spec.graph_digest, spec.parameters[0].digest, spec.parameters[1].digest
    wanted = {
        "peer_a": {graph, w0, columns["train", "x"], columns["validation", "x"]},
        "peer_b": {graph, w0, w1, columns["train", "y"], columns["validation", "y"]},
    }
    everything = {graph, *columns.values(), *(p.digest for p in spec.parameters), make.digest(7)}
    for peer, expected in wanted.items():
        may = {d for d in everything if blob_rights.may_read_blob(world.broker, peer, d)}
        assert may == expected, peer
    world.apply(ev.CancelRequested, request_id="r", job_id="job_000001", by="client_a")
    assert not any(blob_rights.may_read_blob(world.broker, "peer_a", d) for d in everything)


def test_a_submitter_reads_results_of_its_own_jobs(world, make):
    job = world.running("peer_a")
    part = make.digest(900)
    world.steps(job, 0, 0, 3)
    assert not blob_rights.may_read_blob(world.broker, "client_a", part)
    world.finish(job, 0)
    assert blob_rights.may_read_blob(world.broker, "client_a", part)
    assert not blob_rights.may_read_blob(world.broker, "client_b", part)
    assert not blob_rights.may_read_blob(world.broker, "peer_a", part)
    assert not blob_rights.may_read_blob(world.broker, "client_a", make.spec().graph_digest)
    assert not blob_rights.may_read_blob(world.broker, "client_a", "")


def test_writing(world):
    job = world.prepared("peer_a")
    assert not blob_rights.may_write_blob(world.broker, "peer_a"), "it does not run yet"
    world.report(ev.SegmentReady, job, 0)
    assert blob_rights.may_write_blob(world.broker, "peer_a", 64)
    assert not blob_rights.may_write_blob(world.broker, "peer_a", 1 << 30)
    world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")
    assert not blob_rights.may_write_blob(world.broker, "peer_a", 64)


@pytest.mark.parametrize(("role", "may"), [("submitter", True), ("peer", False)])
def test_only_admitted_submitters_upload(world, role, may):
    world.apply(ev.KeyCreated, request_id="r", key_id="k", secret_hash="h", role=role,
                reusable=False, expires_at_ns=world.now_ns + 1)
    world.apply(ev.EnrolmentRequested, request_id="r", key_id="k", secret_hash="h", name="n",
                new_id="z")
    identity = "client_z" if role == "submitter" else "peer_z"
    assert blob_rights.may_write_blob(world.broker, identity) is may
    assert not blob_rights.may_write_blob(world.broker, "client_stranger")
