"""Why a job runs where it does, as text for people."""

from __future__ import annotations

import pytest

from homespun.explained import SHOWN, Explained
from homespun.v1 import jobs_pb2
from homespun.wire import from_message
from tests.homespun.html_check import PAYLOADS, words_of


def segment(number, peer, **changes):
    fields = {
        "segment": number, "peer_id": f"peer_{number}", "peer_name": peer, "phase": "running",
        "rule": "plan", "why": "chain put it here.", "planned_peer_id": f"peer_{number}",
        "planned_peer_name": peer, "nodes": 12, "memory_bytes": 1 << 20,
        "memory_lent_bytes": 4 << 30, "in_flight": 2, "predicted_s": 0.037}
    return jobs_pb2.SegmentExplanation(**(fields | changes))


def explained(text="", segments=2, **changes):
    fields = {"job_id": "job_000004", "state": "running", "reason": text, "algorithm": "chain",
              "step_s": 0.5}
    found = jobs_pb2.Explanation(**(fields | changes))
    found.segments.append(segment(0, "attic", measured_s=0.04, alternatives=[
        jobs_pb2.Alternative(peer_id="peer_7", peer_name=text, rule="busy", text="It runs j/1.")]))
    if segments == 2:
        found.segments.append(segment(
            1, text or "shed", rule="takeover", planned_peer_name="study", why="study was lost."))
    found.bounds.add(rule="waits", segment=-1, text="It waits.")
    found.bounds.add(rule="slowest", segment=0, text="The pipeline waits for segment 0.")
    found.offers.add(algorithm="chain", has_plan=True, step_s=0.5)
    found.offers.add(algorithm="alone", has_plan=True, step_s=0.9, reason="0.4 s slower")
    found.offers.add(algorithm="exact", reason=text or "nothing fits")
    found.offers.add(algorithm="thorough", reason=text or "nothing fits")
    found.idle.add(subject="peer_9", text="It is slower.", subject_name=text or "cellar")
    return from_message(found, Explained)


def test_it_says_who_runs_what_and_what_was_turned_down():
    assert repr(explained()).splitlines() == [
        "job_000004 running",
        "Planned by chain: 500ms a step predicted.",
        "  The pipeline waits for segment 0.",
        "  segment 0 on attic: 12 nodes, 1.00 MiB of 4.00 GiB; a microbatch should take 37ms, "
        "took 40ms.",
        "  segment 1 on shed: 12 nodes, 1.00 MiB of 4.00 GiB; a microbatch should take 37ms. It "
        "was planned for study: study was lost.",
        "  not by alone, 900ms a step: 0.4 s slower",
        "  not by exact, thorough: nothing fits",
        "  cellar stays idle: It is slower.",
    ]


def test_of_one_segment_the_alternatives_are_told():
    assert "    not peer_7: It runs j/1." in repr(explained(segments=1)).splitlines()


def test_it_says_what_a_job_waits_for():
    why = from_message(jobs_pb2.Explanation(
        job_id="job_5", state="submitted", reason="needs 3 free peers; 1 free"), Explained)
    assert repr(why).splitlines() == [
        "job_5 submitted: needs 3 free peers; 1 free", "It has no placement."]
    assert "needs 3 free peers" in words_of(why._repr_html_())


def test_long_lists_are_cut_and_counted():
    found = jobs_pb2.Explanation(job_id="j", state="running", algorithm="chain")
    for number in range(50):
        found.idle.add(subject=f"peer_{number}", text="No.")
    lines = repr(from_message(found, Explained)).splitlines()
    assert len(lines) == 2 + SHOWN + 1
    assert lines[-1] == f"    and {50 - SHOWN} more"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_becomes_markup(payload):
    assert "chain" in words_of(explained(payload)._repr_html_())
    assert "\x1b" not in repr(explained(payload))
