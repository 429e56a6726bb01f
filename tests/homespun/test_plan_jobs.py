"""`homespun plan` for jobs, on saved fleets: figures, refusals, pictures. No network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from dag.cluster import Link, PeerRates, PeerResources
from homespun.cli import cli
from homespun.fleet import Fleet, FleetPeer, write_fleet
from homespun.plan import own_machine
from homespun.tensor_file import pack

WIDTH, LAYERS = 128, 8
PARAMETER_BYTES = LAYERS * WIDTH * WIDTH * 4
FAST = PeerRates(matmul_flops_per_s=1e12, attention_flops_per_s=1e12, memory_bytes_per_s=1e12)
SLOW = PeerRates(matmul_flops_per_s=1e9, attention_flops_per_s=1e9, memory_bytes_per_s=1e9)
TRAIN = ["--batch-size", "64", "--microbatches", "4", "--append-loss", "mse"]


@pytest.fixture(autouse=True)
def _no_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMESPUN_PEER_DIR", str(tmp_path / "nobody"))


def model(tmp_path: Path, rows: int | str = "batch", length: int | str = 3) -> Path:
    """A stack of layers over x[rows, length, WIDTH]."""
    nodes, weights, at = [], [], "x"
    for layer in range(LAYERS):
        weights.append(numpy_helper.from_array(
            np.full((WIDTH, WIDTH), layer, np.float32), f"w{layer}"))
        nodes += [helper.make_node("MatMul", [at, f"w{layer}"], [f"h{layer}"]),
                  helper.make_node("Relu", [f"h{layer}"], [f"r{layer}"])]
        at = f"r{layer}"
    shape = [rows, length, WIDTH]
    graph = helper.make_graph(
        nodes, "stack", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(at, TensorProto.FLOAT, shape)], weights)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def saved(tmp_path: Path, *, memory_bytes: int = 1 << 30, rates: PeerRates = FAST,
          measured: bool = True, peers: int = 3) -> Path:
    """A fleet of equal peers, each pair at 1 GB/s and 0.1 ms."""
    ids = [f"peer_{number}" for number in range(peers)]
    links = tuple(
        Link(source=a, target=b, latency_s=1e-4, bandwidth_bytes_per_s=1e9)
        for a in ids for b in ids if a != b) if measured else ()
    path = tmp_path / "fleet.json"
    path.write_text(write_fleet(Fleet(links=links, peers=tuple(
        FleetPeer(name=f"<{peer_id[-1]}>", resources=PeerResources(
            peer_id=peer_id, memory_bytes=memory_bytes, rates=rates, executor="torch"))
        for peer_id in ids))), encoding="utf-8")
    return path


def plan(*arguments: object, status: int = 0) -> Result:
    done = CliRunner().invoke(
        cli, ["plan", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == status, done.output + done.stderr
    return done


def planned(*arguments: object, status: int = 0) -> Any:
    return json.loads(plan(*arguments, "--json", status=status).stdout)


def test_memory_cuts_the_job_and_every_figure_is_there(tmp_path):
    value = planned(
        model(tmp_path), "--cluster", saved(tmp_path, memory_bytes=2 << 20), *TRAIN)
    peers = value["peers"]
    assert len(peers) > 1
    assert all(0 < peer["memory_bytes"] <= peer["of_bytes"] for peer in peers)
    assert sum(peer["parameters"] for peer in peers) == LAYERS
    assert value["best_single_peer"]["step_s"] is None
    assert "bytes" in value["best_single_peer"]["reason"] or (
        "takes" in value["best_single_peer"]["reason"])
    one_way = 64 * 3 * WIDTH * 4  # activations of all microbatches, float32
    assert {line["bytes_per_step"] for line in value["links"]} == {one_way}
    assert len(value["links"]) == 2 * (len(peers) - 1)  # gradients come back
    assert all(line["measured"] for line in value["links"])
    low, high = value["steps_per_s_range"]
    assert low < value["steps_per_s"] < high
    assert value["samples_per_s"] == pytest.approx(64 * value["steps_per_s"])
    assert value["own_machine"] is None
    assert value["limited_by"]


def test_links_that_were_not_measured_widen_the_range(tmp_path):
    source = model(tmp_path)
    ranges = []
    for measured in (True, False):
        fleet = saved(tmp_path, memory_bytes=2 << 20, measured=measured)
        value = planned(source, "--cluster", fleet, *TRAIN)
        assert all(line["measured"] == measured for line in value["links"])
        low, high = value["steps_per_s_range"]
        ranges.append(high / low)
    assert ranges[1] > ranges[0]


def test_inference_without_data(tmp_path):
    value = planned(model(tmp_path), "--infer", "--batch-size", 8, "--cluster", saved(tmp_path))
    assert value["kind"] == "infer"
    assert value["samples_per_s"] == pytest.approx(8 * value["steps_per_s"])
    assert value["best_single_peer"]["step_s"] >= value["step_s"]


def test_data_gives_the_same_plan_as_its_shapes(tmp_path):
    source, fleet = model(tmp_path), saved(tmp_path, memory_bytes=2 << 20)
    data = tmp_path / "rows.safetensors"
    columns = {name: np.ones((64, 3, WIDTH), np.float32) for name in ("x", "target")}
    data.write_bytes(pack(columns))
    without = planned(source, "--cluster", fleet, *TRAIN)
    given = planned(source, "--cluster", fleet, *TRAIN, "--data", data, "--optimizer", "adamw",
                    "--lr", 1e-3, "--steps", 5)
    assert given["peers"] == without["peers"]
    assert given["step_s"] == without["step_s"]


def test_the_optimizer_takes_memory(tmp_path):
    source, fleet = model(tmp_path), saved(tmp_path, peers=1)
    taken = [
        planned(source, "--cluster", fleet, *TRAIN, "--optimizer", kind)["peers"][0]["memory_bytes"]
        for kind in ("sgd", "adamw")]
    assert taken[1] - taken[0] == 2 * PARAMETER_BYTES


def test_open_axes(tmp_path):
    source, fleet = model(tmp_path, length="seq"), saved(tmp_path)
    error = plan(source, "--cluster", fleet, *TRAIN, status=2).stderr
    assert "--axis seq=N" in error
    short = planned(source, "--cluster", fleet, *TRAIN, "--axis", "seq=2")
    long = planned(source, "--cluster", fleet, *TRAIN, "--axis", "seq=4000")
    assert short["step_s"] < long["step_s"]
    assert "no open axis 'size'" in plan(
        source, "--cluster", fleet, *TRAIN, "--axis", "size=2", status=2).stderr
    plan(source, "--cluster", fleet, *TRAIN, "--axis", "seq", status=2)


def test_rows_of_the_model_are_the_batch(tmp_path):
    value = planned(model(tmp_path, rows=16), "--infer", "--cluster", saved(tmp_path))
    assert value["batch_size"] == 16
    error = plan(model(tmp_path), "--infer", "--cluster", saved(tmp_path), status=2).stderr
    assert "--batch-size" in error


def test_what_does_not_fit_says_how_many_bytes_are_missing(tmp_path):
    source, fleet = model(tmp_path), saved(tmp_path, memory_bytes=100_000)
    value = planned(source, "--cluster", fleet, *TRAIN, status=7)
    assert value["peers"] is None
    assert value["missing_bytes"] > 0
    assert value["refusals"]
    text = plan(source, "--cluster", fleet, *TRAIN, status=7).stdout
    assert f"{value['missing_bytes']} bytes of device memory are missing" in text


def test_more_peers_than_there_are(tmp_path):
    value = planned(model(tmp_path), "--cluster", saved(tmp_path), *TRAIN, "--peers", 5, status=7)
    assert value["refusals"][0]["rule"] == "count"


def test_text_names_peers_and_says_why_others_are_idle(tmp_path):
    done = plan(model(tmp_path), "--cluster", saved(tmp_path), *TRAIN)
    assert "steps/s" in done.stdout
    assert "limited by" in done.stdout
    assert "best single peer" in done.stdout
    assert "your own machine: not measured" in done.stdout
    assert "idle: <" in done.stdout
    assert "peer_1" not in done.stdout


def test_the_own_machine_is_compared(tmp_path, monkeypatch):
    mine = PeerResources(
        peer_id=own_machine.OWN_ID, memory_bytes=1 << 30, rates=SLOW, executor="torch")
    monkeypatch.setattr("homespun.plan.jobs.own_machine", lambda: mine)
    source, fleet = model(tmp_path), saved(tmp_path)
    value = planned(source, "--cluster", fleet, *TRAIN)
    assert value["own_machine"]["step_s"] > value["step_s"]
    assert "your own machine: " in plan(source, "--cluster", fleet, *TRAIN).stdout


@pytest.mark.parametrize("kept", [None, "{", "[]", '{"report": {"memory_bytes": 1}}'])
def test_a_machine_without_measurements_is_none(tmp_path, monkeypatch, kept):
    monkeypatch.setenv("HOMESPUN_PEER_DIR", str(tmp_path))
    if kept is not None:
        (tmp_path / "hardware.json").write_text(kept, encoding="utf-8")
    assert own_machine.own_machine() is None


def test_the_picture(tmp_path):
    source, fleet = model(tmp_path), saved(tmp_path, memory_bytes=2 << 20)
    picture = tmp_path / "plan.svg"
    plan(source, "--cluster", fleet, *TRAIN, "--svg", picture)
    root = ElementTree.parse(picture).getroot()
    titles = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any("microbatch 3 backward" in title for title in titles)
    assert any("segment 1 on <" in title for title in titles)
    first = picture.read_bytes()
    plan(source, "--cluster", fleet, *TRAIN, "--svg", picture)
    assert picture.read_bytes() == first


def test_a_fleet_is_not_a_cluster_of_cost_graphs(tmp_path):
    other = tmp_path / "cluster.json"
    other.write_text('{"schema": "homespun.cluster/1"}', encoding="utf-8")
    error = plan(model(tmp_path), "--cluster", other, *TRAIN, status=2).stderr
    assert "homespun.fleet/1" in error
    assert "fleet save" in error


@pytest.mark.parametrize("options", [["--batch-size", "8"], ["--axis", "a=1"], ["--rows", "3"]])
def test_options_of_models_do_not_go_with_a_cost_graph(tmp_path, options):
    file = tmp_path / "any.json"
    file.write_text("{}", encoding="utf-8")
    assert options[0] in plan("--graph", file, "--cluster", file, *options, status=2).stderr
