"""When changing a running plan pays."""

from math import inf

import pytest

from dag.replanning.worth import seconds_to_pay, worth


def test_a_stop_is_weighed_against_shorter_steps():
    gain = worth(1.0, 0.5, stop_s=10.0, steps_left=100)
    assert gain.saved_s == 40.0
    # After 20 s: without, 20 steps; with, 10 s of nothing and then 20 steps of half a second.
    assert gain.payback_s == 20.0


@pytest.mark.parametrize(("after_s", "stop_s", "steps_left", "pays"), [
    (0.5, 10.0, 100, True), (0.5, 10.0, 70, False), (0.5, 25.0, 100, False),
    (0.81, 0.0, 1_000, False), (0.79, 0.0, 1_000, True), (1.5, 0.0, 1_000, False)])
def test_enough_must_be_saved_in_all_and_of_each_step(after_s, stop_s, steps_left, pays):
    gain = worth(1.0, after_s, stop_s, steps_left)
    assert gain.pays(least_saved_s=30.0, least_share=0.2) is pays


def test_what_is_no_faster_never_pays():
    assert worth(1.0, 1.0, 1.0, 100).payback_s == inf
    assert seconds_to_pay(1.0, 0.0, 1.0, 0.0) == inf
    assert seconds_to_pay(1.0, 0.0, 1.0, 2.0) == 0.0, "it begins earlier"
    assert seconds_to_pay(0.5, 1.0, 1.0, 5.0) == 0.0
