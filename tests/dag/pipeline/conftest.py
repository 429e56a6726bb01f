"""What the search for a plan works with, of any problem; and fleets that the tests share."""

from dataclasses import dataclass

import numpy as np
import pytest

from dag.cluster import Cluster, Link
from dag.pipeline.blocks import Blocks, coarsen
from dag.pipeline.chain_model import split_problem
from dag.pipeline.ranges import Ranges, ranges
from dag.pipeline.split import SplitProblem
from dag.pipeline.trials import Trials
from dag.predict import Estimate, estimate


@dataclass(frozen=True, slots=True)
class Parts:
    """A problem in blocks, for peers that run everything."""

    known: Estimate
    blocks: Blocks
    tables: Ranges
    split_problem: SplitProblem
    trials: Trials
    runnable: dict


@pytest.fixture
def parts_of():
    def made(problem):
        known = estimate(problem)
        typical = np.mean(list(known.seconds.values()), axis=0)
        blocks = coarsen(known.costs, typical, known.training)
        tables = ranges(blocks, known.training)
        peers = problem.cluster.peers
        runnable = {n: np.ones(tables.count, dtype=np.bool_) for n in range(len(peers))}
        table = split_problem(
            known, blocks, tables, runnable, [peer.memory_bytes for peer in peers])
        return Parts(known, blocks, tables, table, Trials(known, blocks), runnable)
    return made


@pytest.fixture
def clustered(world):
    """Two houses of four peers each, listed in turns: fast lines inside, a slow one between."""
    peers = [world.peer(n, 1.0 + n / 100) for n in range(8)]

    def link(a, b):
        near = a % 2 == b % 2
        return Link(
            source=f"peer_{a}", target=f"peer_{b}", latency_s=1e-4 if near else 2e-3,
            bandwidth_bytes_per_s=1e8 if near else 4e6)

    links = tuple(link(a, b) for a in range(8) for b in range(8) if a != b)
    return world.problem(
        world.chain([256] * 17, rows=64), Cluster(peers=tuple(peers), links=links),
        microbatches=16)
