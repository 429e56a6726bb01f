"""`homespun plan` for cost graphs: what it prints, what it refuses, what it draws."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from dag.mapping import judge
from dag.mapping.problem import LATENCY, Mapping
from dag.mapping.reading import read_problem
from dag.mapping.verify import verify
from homespun.cli import cli
from tests.dag.mapping.described import BAD, cluster_value, encoded, graph_value, spoilt, toy

ROOT = Path(__file__).resolve().parents[2]
FIELDS = ["schema", "objective", "algorithm", "seconds_to_plan", "predicted",
          "best_single_device", "placement", "start_s", "candidates", "explanation"]


def write(tmp_path: Path, graph: Any, cluster: Any) -> list[str]:
    """Both files, and the arguments that name them."""
    arguments = []
    for name, value in (("graph", graph), ("cluster", cluster)):
        path = tmp_path / f"{name}.json"
        path.write_bytes(value if isinstance(value, bytes) else encoded(value))
        arguments += [f"--{name}", str(path)]
    return arguments


def plan(tmp_path: Path, graph: Any, cluster: Any, *options: str, status: int = 0) -> Result:
    done = CliRunner().invoke(
        cli, ["plan", *write(tmp_path, graph, cluster), "--effort", "quick", *options],
        catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done


def planned(tmp_path: Path, graph: Any, cluster: Any, *options: str, status: int = 0) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    done = plan(tmp_path, graph, cluster, "--json", *options, status=status)
    assert len(done.stdout.splitlines()) == 1
    return json.loads(done.stdout, parse_constant=refuse)


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_the_plan_is_sound_and_its_figures_are_the_judges(tmp_path, objective):
    value = planned(tmp_path, graph_value(), cluster_value(), "--objective", objective)
    assert list(value) == FIELDS
    assert (value["schema"], value["objective"]) == ("homespun.plan/1", objective)
    problem = read_problem(
        encoded(graph_value()), encoded(cluster_value()), objective)
    device = [problem.devices.ids.index(value["placement"][node]) for node in problem.graph.ids]
    starts = [0.0] * 3 if objective != LATENCY else [
        value["start_s"][node] for node in problem.graph.ids]
    mapping = Mapping(algorithm="read", device=judge.np.array(device),
                      start_s=judge.np.array(starts))
    assert verify(mapping, problem) == ()
    name = "makespan_s" if objective == LATENCY else "bottleneck_s"
    assert value["predicted"][name] == pytest.approx(judge.value(problem, mapping))
    assert value["best_single_device"]["device"] == "fast"
    assert value["predicted"][name] <= value["best_single_device"][name]
    assert value["predicted"]["peak_bytes"] == {"fast": 115, "slow": 0}
    assert value["candidates"][0] == {
        "algorithm": value["algorithm"], "value_s": value["predicted"][name],
        "feasible": True, "reason": None}
    assert all(candidate["reason"] for candidate in value["candidates"][1:])
    assert (value["start_s"] is None) == (objective != LATENCY)


@pytest.mark.parametrize(("memory_bytes", "makespan_s"), [(4.0, 9.0), (1e9, 8.0)])
def test_the_toy_graph(tmp_path, memory_bytes, makespan_s):
    value = planned(tmp_path, *toy(memory_bytes))
    assert value["predicted"]["makespan_s"] <= makespan_s
    assert all(peak <= memory_bytes for peak in value["predicted"]["peak_bytes"].values())


@pytest.mark.parametrize(("which", "where", "field_value", "names"), BAD,
                         ids=[f"{which}:{where}={value!r:.20}" for which, where, value, _ in BAD])
def test_bad_input_exits_with_2_and_names_its_field(tmp_path, which, where, field_value, names):
    done = plan(tmp_path, *spoilt(which, where, field_value), status=2)
    assert f"{tmp_path / which}.json: {names}" in done.stderr
    assert "expected" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b"null", b"[" * 100_000, b"{} // x"])
def test_what_is_no_object_exits_with_2(tmp_path, text):
    assert "graph.json" in plan(tmp_path, text, cluster_value(), status=2).stderr
    done = plan(tmp_path, graph_value(), text, "--json", status=2)
    assert json.loads(done.stderr)["error"]["code"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("arguments", [
    [], ["--graph", "gone.json"], ["--cluster", "gone.json", "--graph", "gone.json"],
    ["--objective", "beauty"], ["--effort", "none"]])
def test_usage(arguments):
    assert CliRunner().invoke(cli, ["plan", *arguments]).exit_code == 2


def test_nothing_feasible_says_what_is_missing(tmp_path):
    value = planned(tmp_path, *toy(3.0), status=7)
    assert list(value) == FIELDS
    for name in ("algorithm", "predicted", "best_single_device", "placement", "start_s"):
        assert value[name] is None
    assert any("2 bytes are missing" in line for line in value["explanation"])
    assert "2 bytes are missing" in plan(tmp_path, *toy(3.0), status=7).stdout


@pytest.mark.parametrize("change", [
    {"compute_s": {"slow": 1.0}, "pin": "fast"},
    {"persistent_bytes": 5000},
    {"persistent_bytes": 900, "pin": "fast"},
])
@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_other_impossible_requests(tmp_path, change, objective):
    graph = graph_value()
    graph["nodes"][1] |= change
    value = planned(tmp_path, graph, cluster_value(), "--objective", objective, status=7)
    assert value["placement"] is None
    assert value["explanation"]


def test_an_idle_device_has_its_reason_with_figures(tmp_path):
    graph, cluster = toy(1e9)
    cluster["devices"] += [
        {"id": "far", "memory_bytes": 1e9}, {"id": "small", "memory_bytes": 0.5}]
    cluster["links"] = [
        {"src": a, "dst": b, "latency_s": 50, "bandwidth_bytes_per_s": 1}
        for name in ("d0", "d1") for a, b in ((name, "far"), ("far", name))]
    lines = planned(tmp_path, graph, cluster)["explanation"]
    assert any(line.startswith("'far' left idle: adding it would raise the makespan from 8 s to ")
               for line in lines)
    assert any(line.startswith("'small' left idle: ") for line in lines)


def test_a_graph_without_work_has_finite_figures(tmp_path):
    graph = {"schema": "homespun.cost-graph/1", "nodes": [{"id": "a", "compute_s": 0}]}
    for objective in ("latency", "throughput"):
        picture = tmp_path / "plan.svg"
        value = planned(tmp_path, graph, cluster_value(), "--objective", objective,
                        "--svg", str(picture))
        assert value["predicted"]["makespan_s"] == 0
        ElementTree.parse(picture)


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_the_picture_is_valid_tells_its_facts_and_escapes_names(tmp_path, objective):
    graph = json.loads(json.dumps(graph_value()).replace("middle", "<a & 'b'>\\u0007"))
    picture = tmp_path / "plan.svg"
    plan(tmp_path, graph, cluster_value(), "--objective", objective, "--svg", str(picture))
    root = ElementTree.parse(picture).getroot()
    name = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{name}svg"
    title, description = root.find(f"{name}title"), root.find(f"{name}desc")
    assert title is not None
    assert "3 nodes on 2 devices" in (title.text or "")
    assert description is not None
    assert "fast: 3 nodes" in (description.text or "")
    labels = [element.text or "" for element in root.iter(f"{name}title")]
    assert any("<a & 'b'>?" in label for label in labels) or objective != LATENCY
    assert "NaN" not in picture.read_text(encoding="utf-8")
    first = picture.read_bytes()
    plan(tmp_path, graph, cluster_value(), "--objective", objective, "--svg", str(picture))
    assert picture.read_bytes() == first


def test_text_names_devices_and_candidates(tmp_path):
    done = plan(tmp_path, *toy(1e9))
    assert "makespan 8 s" in done.stdout
    assert "why not" in done.stdout
    assert "d0" in done.stdout


def test_processes_agree_whatever_their_hash_seed(tmp_path):
    """Real processes; without torch, gRPC or a network."""
    arguments = write(tmp_path, *toy(4.0))
    said = []
    for seed in ("1", "2"):
        picture = tmp_path / f"{seed}.svg"
        probe = (
            "import sys\nfrom homespun.cli import main\n"
            f"try:\n    main({['plan', *arguments, '--json', '--svg', str(picture)]!r})\n"
            "finally:\n    print(sorted({'torch', 'grpc', 'onnx'} & set(sys.modules)), "
            "file=sys.stderr)\n")
        done = subprocess.run(
            [sys.executable, "-c", probe], cwd=ROOT, check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": seed}, timeout=300)
        assert done.stderr.strip() == "[]"
        value = json.loads(done.stdout)
        assert value.pop("seconds_to_plan") >= 0
        said.append((value, picture.read_bytes()))
    assert said[0] == said[1]
