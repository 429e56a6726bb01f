"""Why a peer runs nothing: counted over jobs, with what would help."""

from dataclasses import replace
from types import SimpleNamespace

from broker.core import operator_views
from broker.core.no_work import CHANGES, REASONS_MAX, counted_refusals, no_work
from broker.rpc.no_work_desk import COUNT_EVERY_S, NoWorkDesk, no_work_message
from dag.placement import Refusal


def reasons(world, peer):
    state = world.broker.state
    return no_work(state, peer, counted_refusals(state))


def refused(peer, rule, text="because"):
    return Refusal(subject=peer, rule=rule, wanted=2.0, had=1.0, text=text)


def leave_out(world, job_id, *refusals):
    """The plan of a job says why others are left out of it."""
    job = world.broker.state.jobs[job_id]
    job.placement = replace(job.placement, idle=refusals)


def test_without_jobs_it_says_so(world):
    world.connect("peer_a")
    (only,) = reasons(world, "peer_a")
    assert (only.rule, only.jobs, only.text) == ("no_jobs", 0, "No job waits or runs.")
    assert only.change == CHANGES["no_jobs"]


def test_who_runs_something_is_unknown_or_away_has_no_reason(world):
    world.training("peer_a", "peer_b")
    assert reasons(world, "peer_a") == ()
    assert reasons(world, "peer_z") == ()
    world.connect("peer_c")
    world.disconnect("peer_c")
    assert reasons(world, "peer_c") == ()


def test_refusals_are_counted_over_jobs_and_the_newest_is_told(world):
    first = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    leave_out(world, first, refused("peer_c", "memory", "2 bytes too few."),
              refused("peer_d", "slower"))
    (one,) = reasons(world, "peer_c")
    assert (one.rule, one.jobs, one.text) == ("memory", 1, f"{first}: 2 bytes too few.")
    assert "peer set memory" in one.change
    second = world.training("peer_d", "peer_e")
    leave_out(world, second, refused("peer_c", "memory", "3 too few."),
              refused("peer_c", "operator", "It cannot run Conv."))
    memory, operator = reasons(world, "peer_c")
    assert (memory.jobs, memory.text) == (2, f"{second}: 3 too few.")
    assert (operator.rule, operator.jobs) == ("operator", 1)


def test_its_owners_word_and_jobs_that_wait_are_told(world):
    world.connect("peer_a")
    peer = world.broker.state.peers["peer_a"]
    peer.availability, peer.is_drained = "paused", True
    world.submit()
    assert [each.rule for each in reasons(world, "peer_a")] == [
        "drained", "unavailable", "job_waits"]
    texts = operator_views.why_idle(world.broker, "peer_a")
    assert texts[:2] == ("An operator drains it.", "Its owner has it paused.")


def test_reasons_are_bounded(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    leave_out(world, job, *(refused("peer_c", f"rule_{number}") for number in range(50)))
    assert len(reasons(world, "peer_c")) == REASONS_MAX


def test_the_desk_counts_seldom_and_tells_only_news(world):
    now = SimpleNamespace(s=0.0)
    desk = NoWorkDesk(lambda: world.broker.state, lambda: now.s)
    world.connect("peer_a")
    told = desk.news_for("peer_a", ())
    assert [each.rule for each in told] == ["no_jobs"]
    assert desk.news_for("peer_a", told) is None
    job = world.training("peer_b", "peer_c")
    leave_out(world, job, refused("peer_a", "slower"))
    assert desk.news_for("peer_a", told) == ()
    now.s = COUNT_EVERY_S
    (slower,) = desk.news_for("peer_a", ())
    message = no_work_message((slower,)).no_work
    assert (message.reasons[0].rule, message.reasons[0].jobs) == ("slower", 1)
