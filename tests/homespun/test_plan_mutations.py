"""Files that somebody has spoilt anywhere: each is planned or refused, and nothing else."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from dag.mapping.reading import read_problem
from homespun.errors import Code, HomespunError
from homespun.fleet import read_fleet, write_fleet
from tests.dag.mapping.described import cluster_value, encoded, graph_value
from tests.homespun.test_fleet import fleet

STRANGE: tuple[Any, ...] = (
    None, True, 0, -0.0, -1, 1.5, 1e30, 1e31, 5e-324, float("nan"), float("inf"), 10**400, 2**63,
    "", "a", "fast", "fast->slow", "->", "\ud800", "\x00", "é" * 2000, [], {}, [[]], [None],
    {"a": 1}, {"id": "x"}, {"fast": 0}, {"->": 1})


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value but the whole."""
    if isinstance(value, dict | list):
        for name in (value if isinstance(value, dict) else range(len(value))):
            yield (*place, name)
            yield from places(value[name], (*place, name))


def spoil(draw: random.Random, value: Any) -> bytes:
    """One to three changes anywhere."""
    for _ in range(draw.randint(1, 3)):
        *path, last = draw.choice([*places(value)])
        holder = value
        for name in path:
            holder = holder[name]
        if draw.random() < 0.8:
            holder[last] = copy.deepcopy(draw.choice(STRANGE))
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            del holder[last]
    return encoded(value)


def refusal(read: Callable[[], object]) -> HomespunError | None:
    """The error with which something is refused."""
    try:
        read()
    except HomespunError as error:
        return error
    return None


def test_spoilt_cost_graphs_and_clusters() -> None:
    refused = 0
    for seed in range(1500):
        draw = random.Random(seed)
        graph, cluster = encoded(graph_value()), encoded(cluster_value())
        if seed % 2:
            graph = spoil(draw, graph_value())
        else:
            cluster = spoil(draw, cluster_value())
        error = refusal(lambda g=graph, c=cluster: read_problem(g, c, "latency"))
        refused += error is not None
        assert error is None or error.code is Code.INVALID_ARGUMENT, f"seed {seed}: {error}"
        assert error is None or error.message.encode(), f"seed {seed}"
    assert 0 < refused < 1500


def test_spoilt_fleets(tmp_path) -> None:
    whole, path, refused = json.loads(write_fleet(fleet())), tmp_path / "fleet.json", 0
    for seed in range(300):
        path.write_bytes(spoil(random.Random(seed), copy.deepcopy(whole)))
        error = refusal(lambda: read_fleet(path))
        refused += error is not None
        assert error is None or error.code is Code.INVALID_ARGUMENT, f"seed {seed}: {error}"
        assert error is None or error.message.encode(), f"seed {seed}"
    assert 0 < refused < 300
