from __future__ import annotations

import json

import numpy as np
import pytest

from dag.mapping import reading
from dag.mapping.problem import LATENCY, THROUGHPUT
from dag.mapping.reading import read_problem
from homespun.errors import Code, HomespunError
from tests.dag.mapping.described import BAD, cluster_value, encoded, graph_value, spoilt


def read(graph=None, cluster=None, objective=LATENCY):
    return read_problem(
        encoded(graph or graph_value()), encoded(cluster or cluster_value()), objective)


def refusal(graph, cluster):
    with pytest.raises(HomespunError) as caught:
        read_problem(graph, cluster, LATENCY)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.exit_code == 2
    return caught.value


def test_every_field_arrives():
    problem = read(objective=THROUGHPUT)
    graph, devices = problem.graph, problem.devices
    assert problem.objective == THROUGHPUT
    assert graph.ids == ("embed", "middle", "head")
    assert devices.ids == ("fast", "slow")
    assert problem.seconds().tolist() == [[0.25, 0.5], [1.0, 4.0], [0.125, 0.25]]
    assert problem.load_seconds().tolist() == [[0.25, 0.5], [3.0, 12.0], [0.375, 0.75]]
    assert graph.persistent_bytes.tolist() == [100, 0, 0]
    assert graph.output_bytes.tolist() == [10, 0, 0]
    assert graph.temporary_bytes.tolist() == [0, 5, 0]
    assert graph.group.tolist() == [0, 1, 0]
    assert graph.pin.tolist() == [0, -1, 0]
    assert devices.memory_bytes.tolist() == [1000, 2000]
    assert devices.serial
    assert problem.transfer_seconds(0, 0, 1) == 0.125  # its own
    assert problem.transfer_seconds(0, 1, 0) == 0.25 + 10 / 100  # the default link
    assert problem.transfer_seconds(1, 0, 1) == 0.5 + 20 / 10  # the pair's link


def test_what_may_be_left_out():
    problem = read(
        {"schema": "homespun.cost-graph/1", "nodes": [{"id": "a", "compute_s": 1}]},
        {"schema": "homespun.cluster/1", "devices": [{"id": "x", "memory_bytes": 1}]})
    assert problem.seconds().tolist() == [[1.0]]
    assert problem.devices.count == 1  # no pair, no link
    assert not problem.devices.serial


def test_all_pairs_need_no_default():
    cluster = cluster_value()
    del cluster["default_link"]
    cluster["links"].append(
        {"src": "slow", "dst": "fast", "latency_s": 1, "bandwidth_bytes_per_s": 1})
    assert read(cluster=cluster).devices.latency_s.tolist() == [[0, 0.5], [1, 0]]


def test_a_device_that_is_absent_cannot_run_the_node():
    graph = graph_value()
    graph["nodes"][1]["compute_s"] = {"slow": 1.0}
    assert np.isinf(read(graph).seconds()[1, 0])


@pytest.mark.parametrize(("which", "where", "value", "names"), BAD,
                         ids=[f"{which}:{where}={value!r:.20}" for which, where, value, _ in BAD])
def test_what_is_wrong_is_named(which, where, value, names):
    error = refusal(*spoilt(which, where, value))
    assert f"{which}: {names} " in error.message
    assert "expected" in error.message
    assert error.details["field"].startswith(names.partition("['")[0])


def test_ids_with_arrows():
    graph, cluster = graph_value(), cluster_value()
    text = json.dumps([graph, cluster]).replace("slow", "a->b")
    graph, cluster = json.loads(text)
    assert read(graph, cluster).transfer_seconds(0, 0, 1) == 0.125
    cluster["devices"] += [{"id": name, "memory_bytes": 1} for name in ("fast->a", "b")]
    error = refusal(encoded(graph), encoded(cluster))
    assert "edges[0].transfer_s['fast->a->b']" in error.message
    assert "rename" in error.message


@pytest.mark.parametrize(("text", "says"), [
    (b"", "line 1"),
    (b'{"schema": "homespun.cost-graph/1", // a remark\n', "no comments"),
    (b'{"nodes": [1, }', "line 1, column 15"),
    (b"\xff\xfe\xfa", "not JSON"),
    (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
    (b"[" * 200_000, "nested too deeply"),
    (b'{"schema": "homespun.cost-graph/1", "schema": "homespun.cost-graph/1"}', "given twice"),
    (b'{"nodes": [{"id": "enc0", "bytes": 1, "bytes": 2}]}', "'enc0'"),
])
def test_what_is_no_json(text, says):
    assert says in refusal(text, encoded(cluster_value())).message


def test_remarks_may_stay():
    graph = graph_value()
    graph["_source"] = "a profiler"
    graph["nodes"][0]["_line"] = 12
    read(graph)


def test_a_pair_of_devices_has_one_link():
    cluster = cluster_value()
    cluster["links"] *= 2
    assert "links[1].dst" in refusal(encoded(graph_value()), encoded(cluster)).message


def test_one_tensor_has_one_size():
    graph = graph_value()
    graph["edges"].append({"src": "embed", "dst": "head", "bytes": 11, "port": "out"})
    assert "edges[2].bytes" in refusal(encoded(graph), encoded(cluster_value())).message


def test_a_cycle_is_shown():
    graph = graph_value()
    graph["edges"] += [{"src": "head", "dst": "embed", "bytes": 1}]
    message = refusal(encoded(graph), encoded(cluster_value())).message
    assert all(f"'{name}'" in message for name in ("embed", "middle", "head"))


def test_swapped_files():
    message = refusal(encoded(cluster_value()), encoded(graph_value())).message
    assert '"homespun.cluster/1"' in message


@pytest.mark.parametrize(("limit", "value", "names"), [
    ("MAX_NODES", 2, "nodes has 3"), ("MAX_EDGES", 1, "edges has 2"),
    ("MAX_DEVICES", 1, "devices has 2"), ("MAX_BYTES", 100, "at most 100"),
    ("MAX_CELLS", 5, "3 nodes x 2 devices"),
])
def test_sizes_are_bounded(monkeypatch, limit, value, names):
    monkeypatch.setattr(reading, limit, value)
    assert names in refusal(encoded(graph_value()), encoded(cluster_value())).message
