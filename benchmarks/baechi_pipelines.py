"""What m-ETF's and m-SCT's mappings of a chain would do as pipelines.

Both algorithms know one pass, not microbatches: as published they fill a device's memory before
they go on, and what follows has no room to overlap. So each is asked several times, with the
outputs of 1 to 64 microbatches reserved, and the fastest of its answers counts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import groupby

from dag.mapping.problem import LATENCY, Mapping, MappingProblem
from dag.placement import Refusal
from dag.placers.etf import m_etf
from dag.placers.sct import m_sct
from dag.replicas.chain_pipeline import ChainPlanner, Pipeline

RESERVED = (1, 4, 16, 64)
ALGORITHMS = {"m-etf": m_etf, "m-sct": m_sct}


class BaechiPlan:
    """A plan of a group for `dag.replicas.replicate`; all devices and links must be alike.

    Only groups of the given sizes are planned.
    """

    def __init__(self, problem: MappingProblem, name: str, sizes: Collection[int]) -> None:
        self._sizes = sizes
        self._problem = problem
        self._planner = ChainPlanner(problem)
        self._place = ALGORITHMS[name]
        self._found: dict[int, list[tuple[list[int], list[int]]]] = {}

    def __call__(self, group: Sequence[int], microbatches: int) -> Pipeline | Refusal:
        """The fastest of the algorithm's answers for so many devices."""
        if len(group) not in self._found:
            self._found[len(group)] = (
                self._mapped(len(group)) if len(group) in self._sizes else [])
        pipelines = [
            self._planner.pipeline([group[place] for place in places], bounds)
            for places, bounds in self._found[len(group)]]
        if not pipelines:
            return Refusal(subject="group", rule="memory", wanted=0.0, had=0.0,
                           text=f"It found no contiguous mapping on {len(group)} devices.")
        return min(pipelines, key=lambda one: one.seconds(microbatches))

    def _mapped(self, count: int) -> list[tuple[list[int], list[int]]]:
        """Distinct contiguous answers: places and bounds of the stages."""
        answers = []
        graph, known = self._problem.graph, self._problem.devices
        if graph.persistent_bytes.sum() > known.memory_bytes[:count].sum():
            return []
        some = replace(
            known, ids=known.ids[:count], speed=known.speed[:count], column=known.column[:count],
            memory_bytes=known.memory_bytes[:count], latency_s=known.latency_s[:count, :count],
            bandwidth_bytes_per_s=known.bandwidth_bytes_per_s[:count, :count])
        for reserved in RESERVED:
            found = self._place(MappingProblem(
                graph=replace(graph, output_bytes=reserved * graph.output_bytes), devices=some,
                objective=LATENCY))
            if isinstance(found, Mapping):
                runs = [(device, len(list(run))) for device, run in groupby(
                    found.device[graph.topological].tolist())]
                places = [device for device, _ in runs]
                bounds = [sum(size for _, size in runs[:n]) for n in range(len(runs) + 1)]
                if len(set(places)) == len(places) and (places, bounds) not in answers:
                    answers.append((places, bounds))
        return answers
