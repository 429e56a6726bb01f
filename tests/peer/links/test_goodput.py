"""A sender's estimate of a path, against simulated paths of which the truth is known."""

from random import Random

import pytest

from peer.links.goodput import REPORT_EVERY_S, SAMPLES_MIN, Goodput

MIB = 1 << 20


class Path:
    """Carries one stretch after the other; its own clock."""

    def __init__(self, bandwidth, trip_s):
        self.bandwidth, self.trip_s, self.now_s = bandwidth, trip_s, 100.0
        self.goodput = Goodput()

    def carry(self, *sizes, waits_s=0.0):
        """Send frames; `waits_s` is how long the sender had nothing to send before the last."""
        for number, size in enumerate(sizes):
            self.goodput.sent(size, self.now_s, is_first=number == 0)
        self.now_s += self.trip_s + waits_s + sum(sizes) / self.bandwidth
        self.goodput.all_accepted(self.now_s)
        self.now_s += 0.01


@pytest.mark.parametrize("trip_s", [0.0005, 0.005, 0.06])
@pytest.mark.parametrize("bandwidth", [1e6, 12.5e6, 125e6])
def test_the_bandwidth_is_found(bandwidth, trip_s):
    path = Path(bandwidth, trip_s)
    for _ in range(8):
        path.carry(64)
        path.carry(8 * MIB, 8 * MIB)
    assert path.goodput.bytes_per_s() == pytest.approx(bandwidth, rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_stretches_in_which_the_sender_idled_do_not_count_for_much(seed):
    draw, path = Random(seed), Path(100e6, 0.002)
    for _ in range(40):
        path.carry(64)
        path.carry(16 * MIB, 64, waits_s=draw.choice([0.0, 0.0, 0.5, 2.0]))
    assert path.goodput.bytes_per_s() == pytest.approx(100e6, rel=0.02), seed


def test_a_path_that_became_slower_is_noticed():
    path = Path(100e6, 0.002)
    for _ in range(40):
        path.carry(16 * MIB)
    path.bandwidth = 10e6
    for _ in range(32):
        path.carry(16 * MIB)
    assert path.goodput.bytes_per_s() == pytest.approx(10e6, rel=0.05)


def test_too_little_says_nothing():
    path = Path(100e6, 0.002)
    for _ in range(SAMPLES_MIN - 1):
        path.carry(16 * MIB)
    for _ in range(100):
        path.carry(100_000)  # never outgrows the start of a connection
    assert path.goodput.bytes_per_s() is None
    assert path.goodput.report(path.now_s) is None


def test_a_transfer_that_is_short_beside_the_round_trip_says_nothing():
    path = Path(1e9, 0.2)
    path.carry(64)
    for _ in range(10):
        path.carry(2 * MIB)
    assert path.goodput.bytes_per_s() is None


def test_an_interrupted_stretch_is_no_sample():
    goodput = Goodput()
    for start_s in range(10):
        goodput.sent(16 * MIB, start_s, is_first=True)
        goodput.interrupted()
        goodput.all_accepted(start_s + 0.5)
    assert goodput.bytes_per_s() is None


def test_news_are_reported_once_and_seldom():
    path = Path(100e6, 0.0)
    for _ in range(SAMPLES_MIN):
        path.carry(16 * MIB)
    assert path.goodput.report(path.now_s) == pytest.approx(100e6)
    assert path.goodput.report(path.now_s) is None
    path.now_s += REPORT_EVERY_S
    assert path.goodput.report(path.now_s) is None  # nothing new
    for _ in range(SAMPLES_MIN):
        path.carry(16 * MIB)
    assert path.goodput.report(path.now_s) == pytest.approx(100e6)
