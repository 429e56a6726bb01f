"""Resting instead of switching: slow steps, a band in which nothing moves, a stop far above."""

from hypothesis import given, settings
from hypothesis import strategies as st

from peer.owner.core.throttle import (
    DUTY_MIN,
    FULL,
    STEP_S,
    Bound,
    Throttle,
    throttled,
)

BOUND = Bound(limit=80.0, release=76.0, stop=88.0)


def run(values, step_s=STEP_S, bound=BOUND):
    state, now_s, states = FULL, 0.0, []
    for value in values:
        state = throttled(state, value, bound, now_s)
        states.append(state)
        now_s += step_s
    return states


def test_above_the_limit_it_rests_more_and_below_the_band_less():
    duties = [state.duty for state in run([70, 82, 82, 78, 78, 75, 75])]
    assert duties == [1.0, 0.75, 0.5625, 0.5625, 0.5625, 0.6625, 0.7625]


def test_far_above_it_stops_until_it_is_below_the_band():
    states = run([70, 89, 85, 77, 75])
    assert [state.is_stopped for state in states] == [False, True, True, True, False]


def test_what_cannot_be_read_and_what_has_no_limit_slows_nothing():
    hot = Throttle(0.5, 0.0, is_stopped=True)
    assert throttled(hot, None, BOUND, 1.0) == FULL
    assert throttled(hot, 95.0, Bound(0.0, 0.0), 1.0) == FULL


@settings(max_examples=200, deadline=None, print_blob=True)
@given(st.lists(st.tuples(st.floats(20, 120), st.floats(0.1, 15)), min_size=1, max_size=60))
def test_duty_stays_in_its_range_and_steps_are_apart(readings):
    state, now_s, changed_s = FULL, 0.0, None
    for value, wait_s in readings:
        now_s += wait_s
        before, state = state, throttled(state, value, BOUND, now_s)
        assert DUTY_MIN <= state.duty <= 1
        if value >= BOUND.stop:
            assert state.is_stopped
        elif state.duty != before.duty:
            assert changed_s is None or now_s - changed_s >= STEP_S
        if state.changed_s == now_s:
            changed_s = now_s


@settings(max_examples=50, deadline=None, print_blob=True)
@given(st.floats(40, 70), st.floats(82, 100))
def test_it_comes_to_rest_where_the_heat_does(cold, hot):
    """A device whose temperature follows its duty, as devices do."""
    state, value = FULL, cold
    for second in range(4_000):
        state = throttled(state, value, BOUND, float(second))
        wanted = cold + (hot - cold) * (0.0 if state.is_stopped else state.duty)
        value += (wanted - value) * 0.05
        if second > 2_000:
            assert value < BOUND.limit + 3
