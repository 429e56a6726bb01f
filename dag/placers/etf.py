"""m-ETF: the node that can start first, where it can start first, under memory limits."""

from __future__ import annotations

import numpy as np

from dag.mapping.problem import Mapping, MappingProblem, Unmapped
from dag.placers.event_schedule import schedule


def m_etf(problem: MappingProblem) -> Mapping | Unmapped:
    """Baechi's memory-constrained earliest task first (Hwang et al. 1989 is its basis).

    Cost: O(nodes * ready nodes * devices), times the in-degree over serial channels.
    """
    return schedule(problem, np.full(problem.graph.nodes, -1, dtype=np.int64), "m-etf")
