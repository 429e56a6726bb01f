"""How long a running job's state takes to where a new cut needs it.

A new segment takes its parameters' state by name from snapshots of the old segments that had them,
each of them whole. Who ran an old segment has its snapshot on its own disk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from dag.cost import link_seconds, optimizer_bytes
from dag.placement import SegmentPlacement
from dag.predict import Estimate


def recut_seconds(
    known: Estimate, before: Sequence[SegmentPlacement], after: Sequence[SegmentPlacement]
) -> float:
    """Predict how long it takes until every new segment has its state; lines are shared.

    Args:
        known: the graph's costs, and the links of all peers of both plans.
        before: the running segments, each on its peer of now.
        after: the segments that take their place.

    Cost: O(parameters * (segments of both)).
    """
    up: dict[str, float] = defaultdict(float)
    down: dict[str, float] = defaultdict(float)
    longest_s = 0.0
    for old in before:
        size_bytes = state_bytes(known, old)
        names = frozenset(old.segment.parameters)
        for new in after:
            if new.peer_id != old.peer_id and not names.isdisjoint(new.segment.parameters):
                link = known.links.between(old.peer_id, new.peer_id)
                up_s, down_s = known.links.lines_seconds(link, size_bytes)
                up[old.peer_id] += up_s
                down[new.peer_id] += down_s
                longest_s = max(longest_s, link_seconds(link, size_bytes))
    return max(longest_s, *up.values(), *down.values(), 0.0)


def state_bytes(known: Estimate, placed: SegmentPlacement) -> int:
    """What a snapshot of a segment takes, headers left out."""
    types, trainable = known.costs.graph.types, known.costs.trainable
    return sum(
        types[name].size_bytes + (
            optimizer_bytes(types[name].size_bytes, known.training.optimizer)
            if name in trainable else 0)
        for name in placed.segment.parameters)
