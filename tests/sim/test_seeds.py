"""A thousand networks of real cores, a thousand things in each: safety after every one of them.

Peers die, streams break, acknowledgements get lost, brokers crash. What must hold after each event
is checked by the simulated shells themselves (`invariants.check` of both cores, the journal against
the state at every crash, what an executor is asked for). The first network of each part is then
left in peace, and the job must come to the end that an undisturbed one has. A failure prints its
seed: `python -m tests.sim.test_seeds SEED` repeats it.
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
    check_success,
    disturbed,
    outcome,
    undisturbed,
)

SEEDS = int(os.environ.get("SIM_SEEDS", "1000"))
"""`SIM_SEEDS=10000` looks longer."""
EVENTS = 1_000
PARTS = 40
"""Each is some seconds long, so that processes that share them end together."""


def disturb(seed: int) -> Network:
    """A network in which `EVENTS` things have happened since its job was submitted."""
    network = disturbed(seed)
    network.submit("s1", **work_of(seed))
    most = network.world.happened + EVENTS
    network.world.run(lambda: network.world.happened >= most, MOST)
    return network


def work_of(seed: int) -> dict[str, int]:
    """What the job of a seed does."""
    return {"rows": 300} if seed % 4 == 3 else {"steps": 8, "evaluate_every": 3}


def heal(seed: int, network: Network) -> None:
    """No more faults: the job ends as if there had been none."""
    network.is_calm = True
    assert network.world.run(lambda: network.all_ended(1), MOST), f"seed {seed}: no end"
    job = network.jobs()[0]
    check_success(job)
    check_applied_once(network, job)
    assert outcome(network) == undisturbed(seed % len(NAMES), tuple(work_of(seed).items()))


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_that_must_hold_is_ever_broken(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        print(f"seed {seed}")
        network = disturb(seed)
        if seed < PARTS:
            heal(seed, network)


if __name__ == "__main__":
    SEED = int(sys.argv[1])
    heal(SEED, disturb(SEED))
