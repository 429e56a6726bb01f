"""What the shell may be told, and who may touch which blob."""

from __future__ import annotations

import pytest

from broker.core import events as ev
from broker.core import views


def test_jobs_newest_first_by_owner(world):
    for owner in ("client_a", "client_b", "client_a"):
        world.submit(owner=owner)
    ids = [view.job_id for view in views.jobs(world.broker)]
    assert ids == ["job_000003", "job_000002", "job_000001"]
    assert [v.job_id for v in views.jobs(world.broker, "client_a")] == ["job_000003", "job_000001"]
    assert len(views.jobs(world.broker, limit=2)) == 2


def test_prefixes(world):
    for owner in ("client_a", "client_b"):
        world.submit(owner=owner)
    assert len(views.matching_jobs(world.broker, "job_")) == 2
    assert views.matching_jobs(world.broker, "job_000001") == ("job_000001",)
    assert views.matching_jobs(world.broker, "job_", "client_b") == ("job_000002",)
    assert views.matching_jobs(world.broker, "") == ()


def test_unknown_ids_have_empty_answers(world):
    assert views.job(world.broker, "j") is None
    assert views.spec(world.broker, "j") is None
    assert views.peer(world.broker, "p") is None
    assert views.metrics(world.broker, "j") == ()
    assert views.evaluations(world.broker, "j") == ()
    assert views.result(world.broker, "j") == ()
    assert views.story(world.broker, "j") == ()


def test_a_running_job_shows_its_segments(world):
    job = world.running("peer_a", "peer_b")
    view = views.job(world.broker, job)
    assert [(s.segment, s.peer_id, s.peer_name, s.token, s.phase) for s in view.segments] == [
        (0, "peer_a", "PEER_A", 1, "running"), (1, "peer_b", "PEER_B", 2, "running")]
    assert (view.segments[0].nodes, view.segments[0].parameter_bytes) == (1, 64)
    assert (view.algorithm, view.predicted_step_s, view.steps_total) == ("test", 1.5, 3)
    assert views.peer(world.broker, "peer_b").leases == (
        views.LeaseView(job_id=job, segment=1, token=2, phase="running"),)


def test_metrics_page(world):
    job = world.running("peer_a")
    world.steps(job, 0, 0, 3)
    assert [m.step for m in views.metrics(world.broker, job, 1, 1)] == [1]
    assert views.metrics(world.broker, job, 3) == ()
    assert len(views.metrics(world.broker, job, -5)) == 3


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
        may = {d for d in everything if views.may_read_blob(world.broker, peer, d)}
        assert may == expected, peer
    world.apply(ev.CancelRequested, request_id="r", job_id="job_000001", by="client_a")
    assert not any(views.may_read_blob(world.broker, "peer_a", d) for d in everything)


def test_a_submitter_reads_results_of_its_own_jobs(world, make):
    job = world.running("peer_a")
    part = make.digest(900)
    world.steps(job, 0, 0, 3)
    assert not views.may_read_blob(world.broker, "client_a", part)
    world.finish(job, 0)
    assert views.may_read_blob(world.broker, "client_a", part)
    assert not views.may_read_blob(world.broker, "client_b", part)
    assert not views.may_read_blob(world.broker, "peer_a", part)
    assert not views.may_read_blob(world.broker, "client_a", make.spec().graph_digest)
    assert not views.may_read_blob(world.broker, "client_a", "")


def test_writing(world):
    job = world.prepared("peer_a")
    assert not views.may_write_blob(world.broker, "peer_a"), "it does not run yet"
    world.report(ev.SegmentReady, job, 0)
    assert views.may_write_blob(world.broker, "peer_a", 64)
    assert not views.may_write_blob(world.broker, "peer_a", 1 << 30)
    world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")
    assert not views.may_write_blob(world.broker, "peer_a", 64)


@pytest.mark.parametrize(("role", "may"), [("submitter", True), ("peer", False)])
def test_only_admitted_submitters_upload(world, role, may):
    world.apply(ev.KeyCreated, request_id="r", key_id="k", secret_hash="h", role=role,
                reusable=False, expires_at_ns=world.now_ns + 1)
    world.apply(ev.EnrolmentRequested, request_id="r", key_id="k", secret_hash="h", name="n",
                new_id="z")
    identity = "client_z" if role == "submitter" else "peer_z"
    assert views.may_write_blob(world.broker, identity) is may
    assert not views.may_write_blob(world.broker, "client_stranger")
