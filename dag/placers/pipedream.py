"""PipeDream's partition without replication: contiguous stages of near-equal load.

Narayanan et al. 2019 (SOSP, section 3.1): dynamic programming over where a stage ends and how many
devices are left, to make the slowest stage fastest. As published all devices count as alike, so
here each has the mean time and the mean link; stages go to devices in the cluster's order. We
differ: no stage is replicated, a stage must fit its own device's memory, a tensor that skips stages
counts like one between neighbours, and the order is one topological order of the graph, where the
published code walks antichains.
"""

from __future__ import annotations

from dag.mapping import judge
from dag.mapping.problem import Mapping, MappingProblem, Unmapped
from dag.mapping.units import acyclic_groups
from dag.placers.contiguous import cut, family, prefixes, readers

NAME = "pipedream"


def pipedream(problem: MappingProblem) -> Mapping | Unmapped:
    """Stages for throughput; for latency the same mapping.

    Cost: O(nodes**2 * devices); plan large graphs coarsened.
    """
    units = acyclic_groups(problem)
    tensors = readers(problem, units)
    found = cut(
        problem, units, tensors, family(prefixes(units), units, tensors),
        range(problem.devices.count), alike=True)
    if not found.bottleneck_s < float("inf"):
        return Unmapped(
            algorithm=NAME, reason="no contiguous stages on the devices in their given order "
            "satisfy memory and pins")
    return Mapping(algorithm=NAME, device=found.device,
                   start_s=judge.makespan(problem, found.device)[1])
