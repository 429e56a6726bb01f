"""A broker whose peers, jobs and operators say nothing but hostile strings."""

from __future__ import annotations

from broker.core import events as ev
from broker.core.policy import Policy
from broker.journal import Journal
from dag.cluster import Link
from dag.placement import Candidate, Refusal
from tests.broker.core.conftest import World, hardware, make_placement, make_spec

PATIENT = Policy(restart_grace_ms=3_600_000, lease_ttl_ms=3_600_000, reconnect_grace_ms=3_600_000)

def fill(journal_path, texts):
    """Journal a history in which each text is in every field that somebody else chooses.

    The ids stay what they must be; everything that the core takes as it comes is hostile.
    """
    world = World()
    world.apply(ev.BrokerStarted, policy=PATIENT)
    for number, text in enumerate(texts):
        job = _history(world, number, text)
        if number % 2 and number < len(texts) - 1:  # the last goes on, to be seen where jobs run
            world.apply(ev.CancelRequested, request_id="r", job_id=job, by="operator_1",
                        reason=text)
    journal = Journal.open(journal_path)
    journal.append(world.journal)
    journal.close()


def _history(world, number, text):
    peer, other = f"peer_a{number}", f"peer_b{number}"
    _connect(world, peer, text)
    _connect(world, other, text)
    by = {"by": "operator_1", "reason": text}
    world.apply(ev.JournalRestored, copied_at_ns=1, **by)
    world.apply(ev.LinkMeasured, link=Link(
        source=peer, target=other, latency_s=0.001, bandwidth_bytes_per_s=1e8))
    world.apply(ev.PeerLabelled, request_id="r", peer_id=peer, label=text, **by)
    world.apply(ev.KeyCreated, request_id="r", key_id=f"key_{number}", secret_hash="h",
                role="submitter", reusable=True, expires_at_ns=world.now_ns * 2, **by)
    world.apply(ev.EnrolmentRequested, request_id="r", key_id=f"key_{number}", secret_hash="h",
                name=text, new_id=f"c{number}")
    job = _placed_job(world, text, [peer, other])
    for segment in (0, 1):
        world.report(ev.SegmentReady, job, segment)
    for step in range(3):  # at different times, so that there is a speed to draw
        world.steps(job, 0, step)
        world.steps(job, 1, step)
        world.now_ns += 1_000_000
    world.report(ev.NeighbourLost, job, 0, neighbour=1, blamed_peer=other, code="UNREACHABLE",
                 message=text)
    _connect(world, f"peer_c{number}", text)  # takes over what fails
    cause = "software" if number % 2 else "job"  # the one is cancelled later, the other fails
    world.report(ev.SegmentFailed, job, 1, code="EXECUTOR_FAILED", message=text, blamed_peer="",
                 cause=cause, evidence=text, remedy=text)
    world.apply(ev.DrainRequested, request_id="r", peer_id=other, deadline_ms=0, **by)
    if number % 3 == 0:
        world.apply(ev.MemberBanned, request_id="r", member_id=other, **by)
    return job


def _connect(world, peer, text):
    world.connect(
        peer, name=text, software_version=text,
        hardware=hardware(device=text, device_name=text, executor=text, platform=text))


def _placed_job(world, text, peers):
    world.submit(make_spec(name=text))
    job = list(world.broker.state.jobs)[-1]
    placement = make_placement(peers, linked=True)
    idle = tuple(Refusal(subject=each, rule=text, wanted=1.0, had=0.0, text=text)
                 for each in world.broker.state.peers if each not in peers)[-2:]
    world.solve(job, peers, answer=type(placement)(
        segments=placement.segments, algorithm=text, step_s=1.0, idle=idle, candidates=(
            Candidate(algorithm=text, step_s=1.0, reason=""),
            Candidate(algorithm=text, step_s=None, reason=text))))
    return job
