"""What the shell may be told."""

from __future__ import annotations

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
