"""Peers come to a running job, and it is cut anew for them, on real processes."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import pytest
import torch
from torch import nn

import homespun

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STEPS = 200
"""Enough for the shorter steps to pay for the stop: starting executors takes seconds."""
WIDTH = 768
LATECOMERS = (1, 2)
"""Of three peers. One of them stays in the pool."""
SOON = {"growth_settle_ms": 1_000, "growth_pause_ms": 2_000, "growth_saved_min_ms": 0}
"""So that a test need not run for minutes."""


class Layers(nn.Module):
    """Equal layers that compute long for what they pass on."""

    def __init__(self, width=WIDTH, layers=6):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x):
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return x


def arguments():
    """A job for as many peers as pay, with clipping and evaluation."""
    torch.manual_seed(0)
    x = torch.randn(512, WIDTH)
    return {
        "model": Layers(), "loss": nn.MSELoss(), "data": {"x": x, "y": x.roll(1, 0)},
        "validation": {"x": x[:64], "y": x[:64]}, "optimizer": homespun.AdamW(lr=1e-3),
        "steps": STEPS, "batch_size": 512, "microbatches": 8, "clip_norm": 0.5,
        "evaluate_every": 40, "seed": 7}


@pytest.fixture(scope="module")
def household(start_network):
    """Three peers, of which the owners of two have other things to do for now."""
    network = start_network(1 + len(LATECOMERS), settings={"policy": SOON})
    for number in LATECOMERS:
        tell(network, "pause", number)
    return network


def tell(network, wish, number):
    done = network.run("peer", wish, "--dir", str(network.peer_directory(number)))
    assert done.returncode == 0, done.stderr


def paces(job, upto, after):
    """Median time between steps that one cut has done, before and after."""
    times = [metric.unix_ms for metric in job.curves().steps]
    return tuple(
        median(later - earlier for earlier, later in pairwise(part)) / 1_000
        for part in (times[:upto], times[after:]))


def test_a_job_is_cut_anew_for_peers_that_come(household, lab, tmp_path):
    with household.client() as client:
        alone = client.train(**arguments())
        undisturbed, curves = lab.weights(alone, tmp_path), lab.curves(alone)
        assert len(alone.status().segments) == 1
        job = client.train(**arguments())
        watcher = lab.Watcher(job)
        lab.until_step(job, 10)
        for number in LATECOMERS:
            tell(household, "resume", number)
        recut = lab.watch_until(job, lambda status: status.recuts).recuts[0]
        assert recut.segments_before == 1
        assert recut.segments_after > 1
        assert recut.after_s < 0.8 * recut.before_s
        assert lab.different(lab.weights(job, tmp_path), undisturbed) == []
        assert lab.curves(job) == curves
        assert watcher.join().error is None
        assert watcher.steps == list(range(STEPS)), "each step once, in order"
        status = job.status()
        assert len(status.segments) == recut.segments_after
        before_s, after_s = paces(job, recut.position, recut.position + 20)
        print(f"at {recut.position}: {recut.segments_before} -> {recut.segments_after} segments; "
              f"a step took {before_s:.3f} s, then {after_s:.3f} s; {recut}; {status.growth}")
