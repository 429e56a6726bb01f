"""Candidates of a job's plan, cut and predicted once each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dag.mapping.problem import IntArray
from dag.pipeline.blocks import Blocks
from dag.pipeline.split import Split
from dag.predict import Estimate, Prediction, predict
from ir.cut import cut
from ir.segment import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Which blocks run on which peer, in segment order.

    Attributes:
        parts: blocks of each segment; every value flows to the same or a later one.
        peers: positions in the cluster, one per segment, different.
    """

    parts: tuple[tuple[int, ...], ...]
    peers: tuple[int, ...]


def contiguous(split: Split) -> Pipeline:
    """A split as a pipeline."""
    return Pipeline(
        parts=tuple(tuple(range(first, end)) for first, end in pairwise(split.bounds)),
        peers=split.peers)


def mapped(device: IntArray, source: IntArray, target: IntArray) -> Pipeline | None:
    """A mapping of blocks as a pipeline; None if its segments would wait for each other in a ring.

    Args:
        device: peer of each block.
        source: blocks at which edges begin.
        target: blocks at which they end.
    """
    used = np.unique(device)
    place = {int(peer): number for number, peer in enumerate(used)}
    after: list[set[int]] = [set() for _ in used]
    waiting = [0] * len(used)
    for a, b in zip(device[source].tolist(), device[target].tolist(), strict=True):
        if a != b and place[b] not in after[place[a]]:
            after[place[a]].add(place[b])
            waiting[place[b]] += 1
    ready = [number for number in range(len(used)) if not waiting[number]]
    order: list[int] = []
    while ready:
        number = min(ready)
        ready.remove(number)
        order.append(number)
        for other in sorted(after[number]):
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    if len(order) < len(used):
        return None
    return Pipeline(
        parts=tuple(tuple(np.flatnonzero(device == used[n]).tolist()) for n in order),
        peers=tuple(int(used[n]) for n in order))


class Trials:
    """Predictions by pipeline; each is made once."""

    def __init__(self, known: Estimate, blocks: Blocks) -> None:
        self._known, self._blocks = known, blocks
        self._segments: dict[tuple[tuple[int, ...], ...], tuple[Segment, ...]] = {}
        self._predictions: dict[Pipeline, Prediction] = {}

    @property
    def made(self) -> int:
        """How many predictions were made."""
        return len(self._predictions)

    def predicted(self, pipeline: Pipeline) -> Prediction:
        """Cut and predict. Cost: O(nodes + microbatches * segments) the first time."""
        if pipeline not in self._predictions:
            peers = self._known.problem.cluster.peers
            self._predictions[pipeline] = predict(
                self._known, self._cut(pipeline.parts), [peers[p] for p in pipeline.peers])
        return self._predictions[pipeline]

    def fits(self, pipeline: Pipeline) -> bool:
        """Whether every segment fits into its peer's memory."""
        return not self.predicted(pipeline).shortage

    def step_s(self, pipeline: Pipeline) -> float:
        """Predicted step."""
        return self.predicted(pipeline).step_s

    def fastest(self, pipelines: Sequence[Pipeline]) -> Pipeline | None:
        """The one with the shortest step of those that fit; of equals fewer peers, then earlier."""
        fitting = [pipeline for pipeline in pipelines if self.fits(pipeline)]
        return min(fitting, default=None, key=lambda pipeline: (
            self.step_s(pipeline), len(pipeline.peers), pipeline.peers))

    def _cut(self, parts: tuple[tuple[int, ...], ...]) -> tuple[Segment, ...]:
        if parts not in self._segments:
            job = self._known.problem.job
            nodes = [
                sorted(index for block in part for index in self._blocks.nodes[block])
                for part in parts]
            self._segments[parts] = cut(
                self._known.problem.graph, nodes, job.trainable, job.kind)
        return self._segments[parts]
