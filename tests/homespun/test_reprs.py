"""What a person sees of a value in a terminal and in a notebook: short, true and harmless."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dag.cluster import Link, PeerRates, PeerResources
from dag.placement import Refusal
from homespun.client import Client
from homespun.connection import Connection
from homespun.fleet import Fleet, FleetPeer
from homespun.job import Job
from homespun.job_list import JobList
from homespun.notebook import job_html
from homespun.progress import Progress
from homespun.result import Result
from homespun.status import JobMetrics, JobStatus, JobUpdate, LinkStatus, SegmentStatus, StepMetric
from tests.homespun.html_check import PAYLOADS, words_of


class Channel:
    """Opens nothing: what is shown asks nobody."""

    def __getattr__(self, name):
        return lambda *given, **named: None


def connection(address="nas.local:7700", owner="client_1", **more):
    return Connection(Channel(), address=address, owner_id=owner, timeout_s=1.0, **more)


def status(text="x", **changes):
    """A job with `text` wherever others choose what stands there."""
    segment = SegmentStatus(
        segment=0, peer_id=text, peer_name=text, token=1, phase="running", step=3,
        waiting_for=text, waiting_ms=2_000, nodes=4, parameter_bytes=2_048,
        memory_bytes=1 << 20, links=(LinkStatus(to_peer=text, sent_bytes=5),))
    fields = {
        "job_id": "job_000004", "name": text, "owner_id": "client_1", "state": "running",
        "steps_done": 3, "steps_total": 6, "last_loss": 2.5, "has_loss": True,
        "last_loss_step": 2, "first_loss": 3.0, "error_code": "", "error_message": text,
        "submitted_unix_ms": 0, "finished_unix_ms": 0, "segments": (segment,),
        "idle": (Refusal(subject="peer_9", rule="slower", wanted=1.0, had=2.0, text=text,
                         subject_name=text),),
        "algorithm": text, "predicted_step_s": 0.5, "batch_size": 8, "samples_done": 24,
        "last_validation_loss": 0.0, "has_validation_loss": False}
    return JobStatus(**(fields | changes))


def seen(found, **more):
    """A handle of a job that was asked about."""
    job = Job(connection(**more), found.job_id)
    job._seen = found
    return job


def fleet(text="ann"):
    rates = PeerRates(
        matmul_flops_per_s=1e12, attention_flops_per_s=5e11, memory_bytes_per_s=1e11)
    peers = tuple(
        FleetPeer(name=text, device_name=text, is_free=free, resources=PeerResources(
            peer_id=f"peer_{number}", memory_bytes=8 << 30, rates=rates, executor="torch"))
        for number, free in enumerate((True, False)))
    return Fleet(peers=peers, links=(Link(
        source="peer_0", target="peer_1", latency_s=0.01, bandwidth_bytes_per_s=1e7),))


def test_a_client_says_where_and_as_whom():
    client = Client(connection())
    assert repr(client) == "Client('nas.local:7700', as 'client_1')"
    assert "nas.local:7700" in words_of(client._repr_html_())
    client._seen = fleet()
    assert repr(client) == ("Client('nas.local:7700', as 'client_1', 2 peers, 1 of them free, "
                            "16.0 GiB in all when last asked)")
    assert "1 of them free" in words_of(client._repr_html_())


def test_a_job_shows_what_was_last_heard_and_that_it_may_be_old():
    job = Job(connection(), "job_000004")
    assert repr(job) == "Job('job_000004')"
    assert "status()" in words_of(job._repr_html_())
    asked = seen(status(error_message="", name="tiny"))
    assert repr(asked) == (
        "Job('job_000004' 'tiny', running, step 3/6, loss 2.5000 (first 3.0000), when last asked)")
    words = words_of(asked._repr_html_())
    for part in ("job_000004  tiny", "step 3/6", "1.00 MiB", "last asked"):
        assert part in words
    ended = seen(status(error_message="", state="succeeded"))
    assert "last asked" not in words_of(ended._repr_html_())


def test_a_status_is_one_line_and_a_list_a_table():
    assert repr(status(error_message="")).startswith("JobStatus(job_000004: running, step 3/6")
    jobs = JobList([status(error_message="y" * 200), status(job_id="job_000003", state="failed",
                                                           error_code="PEER_LOST")])
    heading, first, second = repr(jobs).splitlines()
    assert heading.split()[0] == "job"
    assert first.startswith("job_000004")
    assert first.endswith("...")
    assert second.endswith("PEER_LOST")
    assert isinstance(jobs, tuple)
    assert "PEER_LOST" in words_of(jobs._repr_html_())
    assert (repr(JobList()), words_of(JobList()._repr_html_())) == ("no jobs", "no jobs")


def test_a_fleet_is_counted_and_listed():
    told, heading, *rows = repr(fleet()).splitlines()
    assert told == "2 peers, 1 of them free, 16.0 GiB in all; 1 measured links"
    assert [row.split()[-1] for row in (heading, *rows)] == ["free", "yes", "no"]
    assert "16.0 GiB" in words_of(fleet()._repr_html_())


def test_a_result_says_where_it_is_and_when_it_is_gone(tmp_path):
    path = tmp_path / "trained.safetensors"
    path.write_bytes(bytes(2_048))
    result = Result(job_id="job_1", path=path, aliases={"a": "b"})
    assert repr(result) == f"Result(job_1: trained parameters in {path}, 2.00 KiB)"
    assert "2.00 KiB" in words_of(result._repr_html_())
    path.unlink()
    assert "which is gone" in repr(result)


def test_curves_are_counted():
    steps = tuple(StepMetric(step=n, loss=1.0 / (n + 1), unix_ms=n) for n in range(4))
    assert repr(JobMetrics(steps=steps, evaluations=())) == (
        "JobMetrics(4 training losses, the last 0.2500; 0 validation losses)")
    assert repr(JobMetrics(steps=(), evaluations=())).startswith("JobMetrics(0 training losses;")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_others_becomes_markup_or_moves_the_cursor(payload, tmp_path):
    progress = Progress()
    progress.see(JobUpdate(status=status(payload), steps=(), evaluations=()))
    shown = (
        status(payload), JobList([status(payload, error_code=payload)]), fleet(payload),
        seen(status(payload)), Client(connection(payload, payload)),
        Result(job_id=payload, path=tmp_path / "x", aliases={}),
        SimpleNamespace(_repr_html_=lambda: job_html(payload, progress, [payload])))
    for value in shown:
        words_of(value._repr_html_())
        assert "\x1b" not in repr(value)
    words = words_of(job_html("job_1", progress))
    assert "".join(payload.split()).replace("\x1b", "?").replace("\u202e", "?") in "".join(
        words.split())


def test_who_leaves_a_job_alone_is_told_how_to_come_back():
    told = seen(status()).way_back()
    for part in ("job_000004 goes on", "another machine", "homespun watch job_000004",
                 "homespun.connect().job('job_000004').watch()", "homespun cancel job_000004"):
        assert part in told
    private = seen(status(), is_private=True).way_back()
    assert "as long as this program" in private
    assert "homespun watch" not in private
