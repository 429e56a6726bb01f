"""What co-location groups take of a device, for placers that fill devices one group at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dag.compiled import compiled
from dag.mapping.problem import CostGraph, FloatArray, IntArray, MappingProblem

ROUNDING = 1.0 + 1e-12
"""Sums of bytes may round by so much above a limit."""


class GroupCosts(NamedTuple):
    """Per co-location group, what compiled code needs.

    Attributes:
        held: persistent and output bytes, [groups].
        temporary: largest temporary bytes of a member, [groups].
        members: node numbers ordered by group, [nodes].
        first: members of group g are `members[first[g]:first[g + 1]]`, [groups + 1].
        pin: device or -1, [groups].
    """

    held: FloatArray
    temporary: FloatArray
    members: IntArray
    first: IntArray
    pin: IntArray


def group_costs(graph: CostGraph) -> GroupCosts:
    """Add up the members of each group. Cost: O(nodes log nodes)."""
    held = np.bincount(
        graph.group, weights=graph.persistent_bytes + graph.output_bytes, minlength=graph.groups)
    temporary = np.zeros(graph.groups)
    np.maximum.at(temporary, graph.group, graph.temporary_bytes)
    members = np.argsort(graph.group, kind="stable")
    first = np.searchsorted(graph.group[members], np.arange(graph.groups + 1)).astype(np.int64)
    pin = np.full(graph.groups, -1, dtype=np.int64)
    np.maximum.at(pin, graph.group, graph.pin)
    return GroupCosts(held.astype(np.float64), temporary, members, first, pin)


def group_seconds(problem: MappingProblem, seconds: FloatArray) -> FloatArray:
    """Time of every group on every device, [groups, devices]; infinite where a member cannot run.

    Args:
        problem: the problem.
        seconds: of every node on every device, [nodes, devices].
    """
    total = np.zeros((problem.graph.groups, seconds.shape[1]))
    np.add.at(total, problem.graph.group, seconds)
    return total


@compiled
def has_room(
    group: int, device: int, costs: GroupCosts, held: FloatArray, temporary: FloatArray,
    limit: FloatArray,
) -> bool:
    """Whether a group still fits on a device that holds so much already."""
    if costs.pin[group] >= 0 and costs.pin[group] != device:
        return False
    largest = max(temporary[device], costs.temporary[group])
    return bool(held[device] + costs.held[group] + largest <= limit[device] * ROUNDING)
