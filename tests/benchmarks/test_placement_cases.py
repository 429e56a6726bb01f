"""Reading a published profile; the lines are of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.placement_cases import cases, fleets, profiles, read_profile

GRAPH = (
    "node1 -- Input0 -- forward_compute_time=635.902, backward_compute_time=0.000, "
    "activation_size=1000.0, parameter_size=0.000\n"
    "node2 -- LSTM(8, 8) -- forward_compute_time=2.500, backward_compute_time=4.000, "
    "activation_size=[60.0; 30.0; 10.0], parameter_size=700.000\n"
    "node3 -- a -- b -- forward_compute_time=1.000, backward_compute_time=1.000, "
    "activation_size=5.000, parameter_size=0.000\n"
    "\tnode1 -- node2\n\tnode2 -- node3\n")


def test_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "translation" / "small" / "graph.txt"
    path.parent.mkdir(parents=True)
    path.write_text(GRAPH, encoding="utf-8")
    (profile,) = profiles(tmp_path)
    assert profile.name == "small"
    data, lstm, last = profile.nodes
    assert (data.compute_s, data.output_bytes) == (0.0, 1000.0)
    assert (lstm.compute_s, lstm.backward_s) == (0.0025, 0.004)
    assert (lstm.output_bytes, lstm.persistent_bytes) == (100.0, 2100.0)
    assert last.id == "node3"
    assert [(edge.src, edge.dst, edge.bytes) for edge in profile.edges] == [
        ("node1", "node2", 1000.0), ("node2", "node3", 100.0)]
    rows = list(cases(profile))
    assert len(rows) == len(fleets()) * 4
    assert {row.problem.graph.nodes for row in rows} == {3}


def test_a_line_that_is_neither_is_named(tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(GRAPH + "nonsense\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"graph\.txt:6"):
        read_profile(path)


def test_homes_are_as_slow_as_said() -> None:
    homes = next(fleet for fleet in fleets() if fleet.name == "homes")
    rates = [link.bandwidth_bytes_per_s * 8 / 1e6 for link in homes.links.values()]
    delays = [link.latency_s * 1e3 for link in homes.links.values()]
    assert (min(rates), max(rates)) == (100.0, 1000.0)
    assert (min(delays), max(delays)) == pytest.approx((5.0, 60.0))
