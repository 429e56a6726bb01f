"""Plans of a live network: what the broker says of its peers is what the planner plans with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from homespun.cli import cli

pytestmark = pytest.mark.e2e

PEERS = 3


def model(path):
    weight = numpy_helper.from_array(np.ones((8, 8), np.float32), "weight")
    shape = ["rows", 8]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])], "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], [weight])
    path.write_bytes(helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString())
    return path


def printed(network, *command):
    done = network.run(*command, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_live_network_and_its_saved_fleet_give_one_plan(network, tmp_path):
    assert "plan" in cli.list_commands(None)
    source, fleet = str(model(tmp_path / "one.onnx")), tmp_path / "fleet.json"
    options = ["--batch-size", "8", "--append-loss", "mse", "--optimizer", "sgd"]
    saved = printed(network, "homespun", "fleet", "save", str(fleet))
    assert saved["peers"] == PEERS
    live = printed(network, "homespun", "plan", source, *options)
    offline = printed(network, "homespun", "plan", source, *options, "--cluster", str(fleet))
    for value in (live, offline):
        assert value.pop("seconds_to_plan") >= 0
    assert live == offline
    ids = {peer["peer_id"] for peer in network.peers()}
    assert {peer["peer_id"] for peer in live["peers"]} <= ids
    kept = json.loads(fleet.read_text(encoding="utf-8"))
    assert {peer["id"] for peer in kept["peers"]} == ids
    assert "127.0.0.1" not in fleet.read_text(encoding="utf-8")
