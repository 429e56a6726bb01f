"""The client and its commands against a real broker and a real peer."""

from __future__ import annotations

import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file

import homespun
from homespun.errors import Code, HomespunError
from homespun.local_network import LocalNetwork
from homespun.tensor_file import pack

pytestmark = pytest.mark.e2e

COMMAND_TIMEOUT_S = 240.0
ROWS, BATCH, MICROBATCH = 64, 8, 4

SPEC = """
import numpy, torch, homespun

class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
    def forward(self, x):
        return self.layer(x)

torch.manual_seed(5)
x = numpy.random.default_rng(5).normal(size=(64, 3)).astype(numpy.float32)
columns = {"x": x, "y": x.sum(axis=1, keepdims=True) + 2}
job = dict(
    model=Line(), loss=torch.nn.functional.mse_loss, data=columns, validation=columns,
    optimizer=homespun.SGD(lr=0.1), steps=30, batch_size=8, name="from a file",
)
"""


@pytest.fixture(scope="module", autouse=True)
def own_folders(tmp_path_factory):
    """Nothing of the person who runs the tests is read or written."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        for name in ("HOMESPUN_ADDRESS", "HOMESPUN_CREDENTIALS", "HOMESPUN_PEER_DIR"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def network(tmp_path_factory, own_folders):
    with LocalNetwork(tmp_path_factory.mktemp("network"), peers=1) as network:
        yield network


@pytest.fixture(scope="module")
def client(network):
    with network.client() as client:
        yield client


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.py"
    path.write_text(SPEC)
    return path


def run(*command: str, exit_code: int = 0, secret: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of ours in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command], input=secret, capture_output=True, text=True,
        timeout=COMMAND_TIMEOUT_S, check=False)
    assert done.returncode == exit_code, f"{command}: {done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def homespun_command(network, *arguments: str, exit_code: int = 0):
    name, *rest = arguments
    return run("homespun", name, "--credentials", str(network.credentials), *rest,
               exit_code=exit_code)


def key_for(network, role: str) -> str:
    made = run("broker", "keys", "create", "--role", role, "--json", "--dir",
               str(network.directory / "broker"))
    return json.loads(made.stdout)["key"]


def error_of(done) -> dict[str, object]:
    return json.loads(done.stderr.strip().splitlines()[-1])["error"]


def line_graph(dtype: int = TensorProto.FLOAT) -> bytes:
    """mean((x w - y)^2) with x [4, 3], y [4, 1]; a column of another dtype is cast first."""
    nodes = [
        helper.make_node("Cast", ["x"], ["x32"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x32", "w"], ["predicted"]),
        helper.make_node("Sub", ["predicted", "y"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["loss"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "line",
        [helper.make_tensor_value_info("x", dtype, [MICROBATCH, 3]),
         helper.make_tensor_value_info("y", TensorProto.FLOAT, [MICROBATCH, 1])],
        [helper.make_tensor_value_info("loss", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.zeros((3, 1), np.float32), "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    return model.SerializeToString()


def line_columns(dtype: object = np.float32) -> dict[str, np.ndarray]:
    x = np.random.default_rng(3).normal(size=(ROWS, 3)).astype(dtype)
    return {"x": x, "y": x.astype(np.float32) @ np.array([[1.0], [-2.0], [3.0]], np.float32)}


# --- joining -----------------------------------------------------------------------------------


def test_join_with_a_key_makes_an_identity_that_works(network, tmp_path):
    directory = str(tmp_path / "me")
    done = run("homespun", "join", network.address, "--key", "-", "--credentials", directory,
               "--json", secret=key_for(network, "submitter"))
    identity = json.loads(done.stdout)
    assert identity["role"] == "submitter"
    jobs = run("homespun", "jobs", "--credentials", directory, "--json")
    assert json.loads(jobs.stdout)["jobs"] == []


@pytest.mark.parametrize(("command", "wrong", "right"), [
    ("homespun", "peer", "submitter"), ("peer", "submitter", "peer")])
def test_a_key_of_another_role_is_refused_and_stays_usable(
        network, tmp_path, command, wrong, right):
    key = key_for(network, wrong)
    place = {"homespun": "--credentials", "peer": "--dir"}
    directory = tmp_path / "me"
    refused = run(command, "join", network.address, "--key", "-", place[command], str(directory),
                  "--json", secret=key, exit_code=4)
    error = error_of(refused)
    assert error["code"] == "WRONG_KEY"
    assert f"role {wrong}, not for '{right}'" in error["message"]
    assert not list(directory.rglob("key.pem"))
    other = {"homespun": "peer", "peer": "homespun"}[command]
    run(other, "join", network.address, "--key", "-", place[other], str(tmp_path / "other"),
        secret=key)


def test_a_spent_key_is_refused(network, tmp_path):
    key = key_for(network, "submitter")
    run("homespun", "join", network.address, "--key", key, "--credentials", str(tmp_path / "a"))
    again = run("homespun", "join", network.address, "--key", key, "--credentials",
                str(tmp_path / "b"), "--json", exit_code=4)
    assert error_of(again)["code"] == "WRONG_KEY"


def test_commands_without_an_identity_say_to_join(tmp_path):
    done = run("homespun", "jobs", "--credentials", str(tmp_path), exit_code=78)
    assert "Join a network first" in done.stderr


# --- a job from a Python file ------------------------------------------------------------------


def test_a_job_from_submission_to_download(network, spec, tmp_path):
    submitted = homespun_command(network, "submit", str(spec), "--steps", "20", "--json")
    job_id = json.loads(submitted.stdout)["job_id"]

    watched = homespun_command(network, "watch", job_id, "--json")
    updates = [json.loads(line) for line in watched.stdout.splitlines()]
    assert {update["schema"] for update in updates} == {"job_update"}
    assert updates[-1]["status"]["state"] == "succeeded"
    steps = [step for update in updates for step in update["steps"]]
    assert [step["step"] for step in steps] == list(range(20))
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert [value["step"] for update in updates for value in update["evaluations"]] == [0, 20]

    listed = json.loads(homespun_command(network, "jobs", "--json").stdout)["jobs"]
    assert [job["name"] for job in listed if job["job_id"] == job_id] == ["from a file"]

    shown = json.loads(homespun_command(network, "job", job_id, "--metrics", "--json").stdout)
    assert shown["job"]["steps_done"] == 20
    assert [step["loss"] for step in shown["metrics"]["steps"]] == [step["loss"] for step in steps]

    text = homespun_command(network, "job", job_id).stdout
    assert "succeeded, step 20/20" in text
    assert "peer-0" in text

    target = tmp_path / "new folder" / "trained.safetensors"
    fetched = homespun_command(network, "download", job_id, "-o", str(target), "--json")
    assert json.loads(fetched.stdout)["path"] == str(target)
    assert {name: tuple(value.shape) for name, value in load_file(target).items()} == {
        "layer.weight": (1, 3), "layer.bias": (1,)}


def test_submit_and_watch_in_one_command_prints_plain_lines(network, spec):
    done = homespun_command(network, "submit", str(spec), "--watch")
    assert done.stdout.startswith("job_")
    assert "segment 0 on peer-0" in done.stderr
    assert "succeeded, step 30/30" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(("options", "code"), [
    (("--steps", "0"), 2), (("--microbatches", "3"), 2), (("--peers", "5"), None),
    (("--lr", "1"), 2)])
def test_options_that_cannot_be(network, spec, options, code):
    if code is None:  # accepted, and then it waits or fails for want of peers
        done = homespun_command(network, "submit", str(spec), *options, "--json")
        job_id = json.loads(done.stdout)["job_id"]
        with network.client() as client:
            job = client.job(job_id)
            update = next(update for update in job.updates() if update.status.error_message)
            assert "5" in update.status.error_message
            if not update.status.is_final:
                job.cancel()
        return
    before = json.loads(homespun_command(network, "jobs", "--json").stdout)["jobs"]
    homespun_command(network, "submit", str(spec), *options, exit_code=code)
    after = json.loads(homespun_command(network, "jobs", "--json").stdout)["jobs"]
    assert len(after) == len(before)


def test_a_file_that_fails_shows_its_own_traceback(network, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module_anywhere\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "homespun", "submit", str(broken), "--credentials",
         str(network.credentials)], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S,
        check=False)
    assert done.returncode == 2
    assert "no_such_module_anywhere" in done.stderr
    assert str(broken) in done.stderr


# --- jobs from ONNX graphs ---------------------------------------------------------------------


def test_an_onnx_file_from_the_shell(network, tmp_path):
    graph, data = tmp_path / "line.onnx", tmp_path / "columns.safetensors"
    graph.write_bytes(line_graph())
    data.write_bytes(pack(line_columns()))
    done = homespun_command(
        network, "submit", str(graph), "--data", str(data), "--validation", str(data),
        "--optimizer", "sgd", "--lr", "0.1", "--steps", "60", "--batch-size", str(BATCH),
        "--schedule", "cosine", "--warmup-steps", "3", "--watch", "--json")
    job_id = json.loads(done.stdout.splitlines()[0])["job_id"]
    target = tmp_path / "w.safetensors"
    homespun_command(network, "download", job_id, "-o", str(target))
    weights = load_file(target)["w"].flatten().tolist()
    assert weights == pytest.approx([1.0, -2.0, 3.0], abs=0.05)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_submit_graph(client, tmp_path, dtype):
    onnx_type = {"float32": TensorProto.FLOAT, "bfloat16": TensorProto.BFLOAT16}[dtype]
    columns = line_columns(np.float32 if dtype == "float32" else ml_dtypes.bfloat16)
    job = client.submit_graph(
        line_graph(onnx_type), data=columns, optimizer=homespun.SGD(lr=0.1), steps=60,
        batch_size=BATCH, name=dtype)
    assert job.wait(COMMAND_TIMEOUT_S).state == "succeeded"
    weights = job.result(tmp_path).state_dict()["w"].flatten().tolist()
    assert weights == pytest.approx([1.0, -2.0, 3.0], abs=0.1)


def test_a_bfloat16_column_of_a_module(client, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(ROWS, 3).bfloat16()
    job = client.train(
        torch.nn.Linear(3, 1), data={"x": x, "y": x.float().sum(1, keepdim=True)},
        loss=lambda model, batch: ((model(batch["x"].float()) - batch["y"]) ** 2).mean(),
        optimizer=homespun.SGD(lr=0.1), steps=40, batch_size=BATCH)
    assert job.wait(COMMAND_TIMEOUT_S).state == "succeeded"
    weights = job.result(tmp_path).state_dict()["weight"].flatten().tolist()
    assert weights == pytest.approx([1.0, 1.0, 1.0], abs=0.1)


def test_a_graph_that_the_dataset_does_not_fit_is_refused_before_anything_is_sent(client):
    before = len(client.jobs())
    with pytest.raises(HomespunError) as caught:
        client.submit_graph(
            line_graph(), data={"x": line_columns()["x"]}, optimizer=homespun.SGD(lr=0.1),
            steps=1, batch_size=BATCH)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "'y'" in caught.value.message
    assert len(client.jobs()) == before


# --- ending early ------------------------------------------------------------------------------


@pytest.fixture
def endless(client):
    """A job that runs until it is cancelled."""
    job = client.submit_graph(
        line_graph(), data=line_columns(), optimizer=homespun.SGD(lr=1e-6), steps=1_000_000,
        batch_size=BATCH)
    next(update for update in job.updates() if update.status.steps_done)
    yield job
    if not job.status().is_final:
        job.cancel()


def test_cancel(network, endless):
    early = homespun_command(network, "download", endless.id, "--json", exit_code=6)
    assert error_of(early)["code"] == "CONFLICT"
    done = homespun_command(network, "cancel", endless.id, "--json")
    assert json.loads(done.stdout)["job"]["job_id"] == endless.id
    watched = homespun_command(network, "watch", endless.id, exit_code=8)
    assert "was cancelled after" in watched.stderr
    homespun_command(network, "cancel", endless.id, exit_code=6)
    late = homespun_command(network, "download", endless.id, "--json", exit_code=8)
    assert error_of(late)["code"] == "CANCELLED"


def test_the_operator_sees_and_ends_anybodys_job(network, endless):
    directory = ("--dir", str(network.directory / "broker"))
    listed = json.loads(run("broker", "jobs", "--json", *directory).stdout)["jobs"]
    assert endless.id in [job["job_id"] for job in listed]
    assert endless.id in run("broker", "job", endless.id, *directory).stdout
    assert run("broker", "cancel", endless.id, *directory).stdout == f"Cancelled {endless.id}.\n"
    assert endless.wait(COMMAND_TIMEOUT_S).state == "cancelled"


def test_unknown_jobs_and_others_jobs_are_not_found(network, endless, tmp_path):
    for name in ("job", "watch", "cancel", "download"):
        done = homespun_command(network, name, "job_zzzzzz", "--json", exit_code=3)
        assert error_of(done)["code"] == "NOT_FOUND"
    other = str(tmp_path / "other")
    run("homespun", "join", network.address, "--key", "-", "--credentials", other,
        secret=key_for(network, "submitter"))
    run("homespun", "cancel", endless.id, "--credentials", other, exit_code=3)
    assert not endless.status().is_final


def test_nobody_home(network):
    """gRPC itself says nothing; the command says it in one sentence."""
    done = run("homespun", "job", "job_1", "--credentials", str(network.credentials),
               "--address", "127.0.0.1:1", exit_code=5)
    assert done.stderr.startswith("Error: The broker at 127.0.0.1:1")
    _, remedy, more = done.stderr.splitlines()
    assert remedy.startswith("  Check the address")
    assert more == "  More about it: homespun error UNREACHABLE"
