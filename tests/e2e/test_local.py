"""A newcomer's first job: a private network, a tiny model, and everything there is to see of it."""

from __future__ import annotations

import pytest

import homespun
from tests.schemas import problems

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def client():
    with homespun.local(peers=2) as client:
        yield client


@pytest.fixture(scope="module")
def job(client, lab):
    job = client.train(**lab.arguments(name="first"), peers=2)
    lab.finished(job)
    return job


def test_a_job_that_ran_is_explained(job):
    why = job.explain()
    assert (why.job_id, why.state, why.reason) == (job.id, "succeeded", "")
    assert {segment.peer_name for segment in why.segments} == {"peer-0", "peer-1"}
    assert {segment.rule for segment in why.segments} == {"plan"}
    assert why.step_s > 0
    for segment in why.segments:
        assert 0 < segment.memory_bytes <= segment.memory_lent_bytes
    assert "  segment 0 on peer-" in repr(why)
    assert len(job.explain(1).segments) == 1


def test_its_timeline_has_a_lane_for_each_segment(job):
    timeline = job.timeline()
    assert [len(lane.spans) for lane in timeline.lanes] == [1, 1]
    for lane in timeline.lanes:
        span, = lane.spans
        assert timeline.begin_unix_ms <= span.assigned_unix_ms <= span.running_unix_ms
        assert span.running_unix_ms < span.ended_unix_ms <= timeline.end_unix_ms
        assert span.end == "finished"
    assert timeline.recoveries == ()
    assert timeline.events[-1].kind == "job_succeeded"


@pytest.mark.parametrize("command", ["explain", "timeline"])
def test_commands_say_the_same(job, client, command):
    run, asked = client.network.run, ("homespun", command, job.id)
    value = getattr(job, command)()
    shown = run(*asked)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() == repr(value)
    assert not problems(run(*asked, "--json").stdout)


def test_its_losses_are_a_frame_and_a_drawing(job, lab):
    pytest.importorskip("matplotlib").use("Agg")
    frame = job.metrics()
    steps, evaluations = lab.curves(job)
    assert frame["loss"].dropna().to_dict() == dict(steps)
    assert frame["validation_loss"].dropna().to_dict() == dict(evaluations)
    training, validation = job.plot().get_lines()
    assert list(training.get_ydata()) == [loss for _, loss in steps]
    assert list(validation.get_xdata()) == [step for step, _ in evaluations]


def test_another_program_comes_back_to_it_by_a_prefix(job, client):
    network = client.network
    with homespun.connect(network.address, credentials=network.credentials) as other:
        assert other.job(job.id[:5]).id == job.id
        assert [status.job_id for status in other.jobs()] == [job.id]
        network.wait_until(
            lambda: all(peer.is_free for peer in other.fleet().peers), "the peers have let go")
        assert {peer.name: peer.is_free for peer in other.fleet().peers} == {
            "peer-0": True, "peer-1": True}
        with pytest.raises(homespun.NotFound):
            other.job("job_9")


def test_a_job_that_wants_too_much_says_what_it_waits_for(client, lab):
    job = client.train(**lab.arguments(name="too many"), peers=3)
    status = job.wait(timeout_s=60.0)
    assert status.state == "failed"
    assert "3 peers" in status.error_message
    with pytest.raises(homespun.JobFailed) as caught:
        job.result()
    assert isinstance(caught.value, homespun.CannotPlace)
