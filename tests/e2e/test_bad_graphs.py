"""Graphs that cannot run are refused where they are submitted: code, words, exit code.

Symbolic files and appended losses go the whole way to trained weights.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from onnx import parser
from safetensors.torch import load_file

import homespun
from homespun.errors import Code, HomespunError
from homespun.local_network import LocalNetwork
from homespun.tensor_file import pack
from ir.frontends.opsets import ACCEPTED

pytestmark = pytest.mark.e2e

TIMEOUT_S = 240.0
ROWS, BATCH = 32, 8
X = np.random.default_rng(3).normal(size=(ROWS, 3)).astype(np.float32)
COLUMNS = {"x": X, "target": X @ np.array([[1.0], [-2.0], [3.0]], np.float32)}

LINE = """<ir_version: 10, opset_import: ["" : 17, "com.microsoft" : 1]>
main (float[batch, 3] x) => (float[batch, 1] y) <float[3, 1] w = {0, 0, 0}>
{ [middle] h = BODY  [last] y = MatMul(h, w) }"""
CASES = {
    "an operator of another domain": (
        LINE.replace("BODY", "com.microsoft.FastGelu(x)"), "UNSUPPORTED_OP", 1,
        ("'middle'", "com.microsoft.FastGelu", "without ONNX Runtime's optimiser")),
    "a shape that depends on data": (
        LINE.replace("BODY", "Unique<axis = 0>(x)"), "EXPORT_FAILED", 1,
        ("'middle' (Unique)", "depends on data", "select with a mask")),
    "shapes that contradict": (
        LINE.replace("BODY", "MatMul(x, x)"), "INVALID_GRAPH", 1, ("'middle' (MatMul)",)),
    "an opset that is too new": (
        LINE.replace('"" : 17', '"" : 99').replace("BODY", "Abs(x)"), "INVALID_GRAPH", 1,
        ("opset 99", f"{ACCEPTED[0]} to {ACCEPTED[-1]}")),
    "a loop that data ends": (
        LINE.replace("BODY", "Loop(n, , x) <body = b (int64 i, bool c, float[8, 3] v) => "
                     "(bool d, float[8, 3] u) { d = Identity(c)  u = Abs(v) }>").replace(
            "{ [middle]", "{ f = ReduceSum<keepdims = 0>(x)  n = Cast<to = 7>(f)  [middle]"),
        "UNSUPPORTED_OP", 1, ("'middle' (Loop)", "depends on data", "constant trip count")),
    "a column of another shape": (
        LINE.replace("float[batch, 3] x", "float[batch, 5] x").replace("BODY", "Abs(x)"),
        "INVALID_ARGUMENT", 2, ("axis 1 of input 'x'", "is 3", "5 in the model")),
}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        for name in ("HOMESPUN_ADDRESS", "HOMESPUN_CREDENTIALS", "HOMESPUN_PEER_DIR"):
            patch.delenv(name, raising=False)
        with LocalNetwork(tmp_path_factory.mktemp("network"), peers=1) as network:
            yield network


@pytest.fixture(scope="module")
def client(network):
    with network.client() as client:
        yield client


def model(text: str) -> bytes:
    return parser.parse_model(text).SerializeToString()


def submit(client, data: bytes, **options):
    return client.submit_graph(
        data, data=COLUMNS, optimizer=homespun.SGD(lr=0.1), batch_size=BATCH, loss="mse",
        **{"steps": 1, **options})


@pytest.mark.parametrize("case", CASES)
def test_bad_graphs_are_refused_before_anything_is_sent(client, case):
    text, code, _, parts = CASES[case]
    before = len(client.jobs())
    with pytest.raises(HomespunError) as caught:
        submit(client, model(text))
    assert caught.value.code == Code(code), caught.value
    for part in parts:
        assert part in caught.value.message
    assert len(client.jobs()) == before


def command(network, tmp_path, data: bytes, *options: str) -> subprocess.CompletedProcess[str]:
    graph, columns = tmp_path / "model.onnx", tmp_path / "columns.safetensors"
    graph.write_bytes(data)
    columns.write_bytes(pack(COLUMNS))
    return subprocess.run(
        [sys.executable, "-P", "-m", "homespun", "submit", str(graph), "--data", str(columns),
         "--optimizer", "sgd", "--lr", "0.1", "--batch-size", str(BATCH), "--append-loss", "mse",
         "--credentials", str(network.credentials), "--json", *options],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.parametrize("case", ["an operator of another domain", "a column of another shape"])
def test_the_command_says_it_with_its_exit_code(network, tmp_path, case):
    text, code, exit_code, parts = CASES[case]
    done = command(network, tmp_path, model(text), "--steps", "1")
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    error = json.loads(done.stderr.strip().splitlines()[-1])["error"]
    assert error["code"] == code
    for part in parts:
        assert part in error["message"]


def test_a_file_with_open_axes_and_without_a_loss_is_trained(network, client, tmp_path):
    data = model(LINE.replace("BODY", "Identity(x)"))
    done = command(network, tmp_path, data, "--steps", "60", "--watch")
    assert done.returncode == 0, done.stderr
    job = client.job(json.loads(done.stdout.splitlines()[0])["job_id"])
    target = job.result(tmp_path / "w.safetensors").path
    weights = load_file(target)["w"].flatten().tolist()
    assert weights == pytest.approx([1.0, -2.0, 3.0], abs=0.1)
