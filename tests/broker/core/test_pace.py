"""Segments that a better peer could run faster: when the slowest moves, and when nothing does."""

from __future__ import annotations

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import limits

# A segment's microbatch is predicted to take 0.3 s on its peer (0.1 forward, 0.2 backward).
USUAL_S = 0.3


def ready(world, times=None, first=limits.PACE_STEPS, level="warm", **training):
    """Three segments, ranked; peer_d stands by for all, predicted as in `times`."""
    job = world.training("peer_a", "peer_b", "peer_c", **training)
    world.connect("peer_d")
    world.rank(job, *[{"peer_a": USUAL_S, "peer_b": USUAL_S, "peer_c": USUAL_S,
                       **(times or {"peer_d": USUAL_S})}] * 3)
    for segment in range(3):
        world.reach(job, segment, "peer_d", level)
    world.advance(job, first)
    return job


def measure(world, job, *paces):
    """What a microbatch takes on each segment; returns all that was asked."""
    commands = ()
    for segment, pace_s in enumerate(paces):
        commands += world.report(
            ev.SegmentPace, job, segment, microbatch_s=pace_s, microbatches=80)
    return commands


def moved(only, commands):
    return [(c.segment.index, c.peer_id) for c in only(commands, do.AssignSegment)]


def go_on(world, job, steps):
    """Every segment does so many steps more; returns all that was asked."""
    return world.advance(job, world.broker.state.jobs[job].steps_done + steps)


def test_the_slowest_segment_moves_to_a_ready_backup(world, only):
    job = ready(world)
    assert not moved(only, measure(world, job, 0.3, 3.0, 0.3)), "one measurement is no evidence"
    commands = go_on(world, job, 1)
    assert moved(only, commands) == [(1, "peer_d")]
    (note,) = [c for c in only(commands, do.Note) if c.event == "segment_vacant"]
    # 2.7 s less in each of 4 microbatches of the 979 steps that are left.
    assert note.text == (
        "Segment 1 is vacant: a microbatch takes 3 s on PEER_B (peer_b) and should take 0.3 s on "
        "PEER_D (peer_d): that has cost 11 s in 1 steps and would save 10573 s.")
    world.report(ev.SegmentReady, job, 1)
    assert world.state_of(job) == "running"


def test_the_fastest_of_several_backups_takes_it(world, only):
    job = world.training("peer_a", "peer_b")
    for peer in ("peer_c", "peer_d"):
        world.connect(peer)
    world.rank(job, *[{"peer_a": 0.3, "peer_b": 0.3, "peer_c": 0.4, "peer_d": 0.2}] * 2)
    world.reach_all(job)
    world.advance(job, limits.PACE_STEPS)
    measure(world, job, 0.3, 3.0)
    assert moved(only, go_on(world, job, 1)) == [(1, "peer_d")]


def test_it_moves_once_waiting_has_cost_what_a_move_may_cost(world, only):
    """0.15 s in each of 4 microbatches: 8 steps cost 4.8 s, 9 more than the 5 s of a replay."""
    job = ready(world, {"peer_d": 0.15})
    measure(world, job, 0.15, 0.3, 0.15)
    assert not moved(only, go_on(world, job, 8))
    assert moved(only, go_on(world, job, 1)) == [(1, "peer_d")]


def test_what_passes_by_itself_moves_nothing(world, only):
    job = ready(world)
    for _ in range(5):
        measure(world, job, 0.3, 0.9, 0.3)
        assert not moved(only, go_on(world, job, 2))
        measure(world, job, 0.3, 0.3, 0.3)
        assert not moved(only, go_on(world, job, 1))


def test_only_what_the_same_segment_has_cost_counts(world, only):
    job = ready(world)
    for slow in (1, 2, 1, 2):
        paces = [0.3, 0.3, 0.3]
        measure(world, job, *paces)
        paces[slow] = 0.9
        measure(world, job, *paces)
        assert not moved(only, go_on(world, job, 2))


def test_a_faster_peer_that_becomes_ready_is_used_too(world, only):
    job = ready(world, {"peer_d": 0.1}, level="store")
    assert not moved(only, measure(world, job, 0.1, 0.3, 0.1))
    assert not moved(only, go_on(world, job, 20)), "nobody is ready: nothing is lost by waiting"
    assert not moved(only, world.reach(job, 1, "peer_d", "warm"))
    assert not moved(only, go_on(world, job, 6))
    assert moved(only, go_on(world, job, 1)) == [(1, "peer_d")]


@pytest.mark.parametrize(
    ("what", "paces", "more"),
    [
        ("all are equally slow: the prediction is wrong", (3.0, 3.0, 3.0), {}),
        ("a second one is as slow, so the pipeline would not gain", (0.3, 3.0, 2.9),
         {"times": {"peer_c": 2.9, "peer_d": USUAL_S}}),
        ("it gains less than a fifth", (0.25, 0.3, 0.25), {"times": {"peer_d": 0.25}}),
        ("first steps compile and warm up", (0.3, 3.0, 0.3), {"first": limits.PACE_STEPS - 1}),
        ("too little is left of the job to pay", (0.3, 0.9, 0.3), {"steps": 30}),
        ("the backup is not ready", (0.3, 3.0, 0.3), {"level": "store"}),
        ("the backup is as slow", (0.3, 3.0, 0.3), {"times": {"peer_d": 3.0}}),
        ("nothing is known of one segment", (0.3, 3.0), {}),
        ("nobody else can run it", (0.3, 3.0, 0.3), {"times": {"peer_e": 0.3}}),
    ],
)
def test_nothing_moves_where(world, only, what, paces, more):
    job = ready(world, **more) if "peer_e" not in more.get("times", {}) else never_able(world)
    commands = measure(world, job, *paces)
    left = world.broker.state.jobs[job].spec.training.steps - limits.PACE_STEPS
    commands += go_on(world, job, min(left - 1, 100))
    assert not moved(only, commands), what
    assert world.state_of(job) == "running"


def never_able(world):
    job = world.training("peer_a", "peer_b", "peer_c")
    world.connect("peer_d")
    world.rank(job, *[{"peer_a": 0.3, "peer_b": 0.3, "peer_c": 0.3}] * 3)
    world.advance(job, limits.PACE_STEPS)
    return job


def test_a_wrong_prediction_of_a_segment_is_corrected_for_it(world, only):
    """It takes 1.5 times as long as predicted: so it will on the backup, which gains nothing."""
    job = ready(world, {"peer_d": 0.28})
    measure(world, job, 0.3, 0.45, 0.3)
    assert not moved(only, go_on(world, job, 100))


def test_a_lone_segment_is_moved_only_by_what_its_own_prediction_says(world, only):
    """A wrong prediction cannot be told from a sick peer where there is nothing to compare."""
    job = world.training("peer_a")
    world.connect("peer_d")
    world.rank(job, {"peer_a": 0.3, "peer_d": 0.3})
    world.reach_all(job)
    world.advance(job, limits.PACE_STEPS)
    measure(world, job, 30.0)
    assert not moved(only, go_on(world, job, 100))


@pytest.mark.parametrize("pace_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pace_that_cannot_be_is_ignored(world, only, pace_s):
    job = ready(world)
    measure(world, job, 0.3, 0.3, 0.3)
    measure(world, job, 0.3, pace_s, 0.3)
    assert not moved(only, go_on(world, job, 100))
    assert world.broker.state.jobs[job].leases[1].pace_s == 0.3


def test_a_segment_that_moved_must_be_measured_again(world, only):
    job = ready(world)
    measure(world, job, 0.3, 3.0, 0.3)
    go_on(world, job, 1)
    world.report(ev.SegmentReady, job, 1)
    world.report(ev.SegmentReleased, job, 1, peer_id="peer_b", token=2,
                 number=world.numbers["peer_b"] + 1)
    measure(world, job, 0.3, 3.0, 0.3)
    assert not moved(only, go_on(world, job, limits.PACE_STEPS - 1)), "first steps say nothing"
