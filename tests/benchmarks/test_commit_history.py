"""The gap after a fault, by times that are made up."""

import pytest

from benchmarks.commit_history import recovered_after

STEADY = [0.1 * step for step in range(100)]


@pytest.mark.parametrize(("commits", "gap"), [
    ([9.95, 12.5, 12.6, 12.7], 2.55),  # one step was under way
    ([12.5, 12.6], 2.55),
    ([10.0, 10.1, 10.25], 0.05),  # nobody stood still
    ([9.96, 9.98, 10.3, 13.0, 13.1], 3.05)])
def test_the_longest_pause_is_the_faults(commits, gap):
    before = [at for at in STEADY if at < 9.95]
    assert recovered_after([*before, *commits], 9.95 - 1e-9, 20.0) == pytest.approx(gap)


def test_what_comes_later_does_not_count():
    assert recovered_after([1.0, 2.0, 2.1, 30.0], 1.5, 10.0) == pytest.approx(0.5)


def test_nothing_is_committed_any_more():
    with pytest.raises(LookupError):
        recovered_after(STEADY, 50.0, 60.0)
