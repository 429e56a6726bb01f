"""Jobs that are cut anew while peers come, die and are replaced: nothing of it shows in the end.

What must hold after each event is checked by the simulated shells (`invariants.check` of both
cores, the journal against the state at every crash). Each job must end as the undisturbed one in
its first cut, with each loss and evaluation there once. `python -m tests.sim.test_growth SEED`
repeats a failure.
"""

from __future__ import annotations

import os
import sys

import pytest

from sim.network import (
    MOST,
    NAMES,
    Network,
    check_applied_once,
    check_nothing_is_held,
    check_success,
    growing,
    outcome,
    settle,
    undisturbed,
)
from sim.world import SECOND

SEEDS = int(os.environ.get("GROWTH_SEEDS", "48"))
PARTS = 6


def work_of(seed: int) -> dict[str, float]:
    """What the job of a seed does."""
    return {"steps": 60, "microbatches": 2, "evaluate_every": 10,
            "clip_norm": float(seed // len(NAMES) % 2)}


def run(seed: int) -> Network:
    """A job that grows and shrinks for a minute, and then is left in peace."""
    network = growing(seed)
    network.world.after(60 * SECOND, lambda: setattr(network, "is_calm", True))
    work = work_of(seed)
    network.submit("s1", **work)
    assert network.world.run(lambda: network.all_ended(1), MOST), "no end"
    job = network.jobs()[0]
    check_success(job)
    check_applied_once(network, job)
    assert outcome(network) == undisturbed(seed % len(NAMES), tuple(work.items()))
    settle(network)
    check_nothing_is_held(network)
    return network


@pytest.mark.parametrize("part", range(PARTS))
def test_the_same_lineage_comes_out_of_every_cut(part: int) -> None:
    recuts = 0
    for seed in range(part, SEEDS, PARTS):
        print(f"seed {seed}")
        recuts += len(run(seed).jobs()[0].growth.recuts)
    assert recuts, "no job was cut anew: these seeds say nothing"


if __name__ == "__main__":
    run(int(sys.argv[1]))
