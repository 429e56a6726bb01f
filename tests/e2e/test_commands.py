"""The three commands on a running network: what they print is what the library says."""

import json

import pytest

from homespun.cli import cli
from tests.dag.mapping.described import cluster_value, encoded, graph_value
from tests.schemas import commands, problems

pytestmark = pytest.mark.e2e

SPEC = """
import homespun
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
job = {
    "model": nn.Linear(4, 1), "loss": nn.MSELoss(), "data": {"x": x, "y": x.sum(1, keepdim=True)},
    "optimizer": homespun.SGD(lr=0.1), "steps": 5, "batch_size": 16, "name": "from a file",
}
"""

UNSUPPORTED = """
import homespun
import torch
from torch import nn

class Distinct(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4))

    def forward(self, x):
        return torch.unique(x).sum() * x @ self.weight

x = torch.ones(8, 4)
job = {
    "model": Distinct(), "loss": nn.MSELoss(), "data": {"x": x, "y": x},
    "optimizer": homespun.SGD(lr=0.1), "steps": 1, "batch_size": 8,
}
"""

COMMANDS = {
    "submit": [["submit", "{spec}"]],
    "watch": [["watch", "{job}"]],
    "jobs": [["jobs"]],
    "job": [["job", "{job}"], ["job", "{job}", "--metrics"]],
    "explain": [["explain", "{job}"], ["explain", "{job}", "0"]],
    "timeline": [["timeline", "{job}"], ["timeline", "{job}", "--chrome", "{folder}/trace.json"]],
    "download": [["download", "{job}", "-o", "{folder}/weights"],
                 ["download", "{job}", "--partial", "-o", "{folder}/weights"]],
    "error": [["error"], ["error", "CANNOT_PLACE"]],
    "fleet save": [["fleet", "save", "{folder}/fleet.json"]],
    "plan": [["plan", "{spec}"], ["plan", "{spec}", "--cluster", "{folder}/tiny.json"],
             ["plan", "--graph", "{folder}/graph.json", "--cluster", "{folder}/cluster.json"]],
    "cancel": [["cancel", "{endless}"]],
    "join": [["join", "{address}", "--key", "-", "--credentials", "{folder}/identity"]],
}
"""Every command with `--json` -> how it is called, in this order."""
STATUS = {"{folder}/tiny.json": 7}
"""Exit codes other than 0: no peer is large enough."""


def printed(network, *command, status=0, secret=""):
    """What a command prints with `--json`: objects, one a line."""
    done = network.run(*command, "--json", secret=secret)
    assert done.returncode == status, done.stderr
    lines = done.stdout.splitlines()
    assert [problems(line) for line in lines] == [[]] * len(lines), command
    return [json.loads(line) for line in lines]


def test_from_a_file_to_the_weights(network, client, tmp_path):
    """Submitted, watched, looked at and fetched by commands, each a process of its own."""
    spec = tmp_path / "spec.py"
    spec.write_text(SPEC, encoding="utf-8")
    submitted, = printed(network, "homespun", "submit", str(spec), "--steps", "7")
    job_id = submitted["job_id"]
    updates = printed(network, "homespun", "watch", job_id)
    assert updates[-1]["status"]["state"] == "succeeded"
    assert [step["step"] for update in updates for step in update["steps"]] == list(range(7))
    shown, = printed(network, "homespun", "job", job_id, "--metrics")
    assert (shown["job"]["name"], shown["job"]["steps_done"]) == ("from a file", 7)
    assert len(shown["metrics"]["steps"]) == 7
    fetched, = printed(network, "homespun", "download", job_id, "-o", str(tmp_path / "cli"))
    result = client.job(job_id).result(tmp_path / "library.safetensors")
    assert (tmp_path / "cli").read_bytes() == result.path.read_bytes()
    assert fetched["path"] == str(tmp_path / "cli")
    assert set(result.state_dict()) == {"weight", "bias"}


def test_what_is_printed_is_what_the_schema_says(network, client, lab, tmp_path):
    (tmp_path / "spec.py").write_text(SPEC, encoding="utf-8")
    (tmp_path / "graph.json").write_bytes(encoded(graph_value()))
    (tmp_path / "cluster.json").write_bytes(encoded(cluster_value()))
    words = {"spec": tmp_path / "spec.py", "folder": tmp_path, "address": network.address,
             "endless": client.train(**lab.endless(), peers=1).id}
    seen = set()
    for calls in COMMANDS.values():
        for call in calls:
            filled = [each.format(**words) for each in call]
            secret = network.join_key("submitter") if call[0] == "join" else ""
            documents = printed(network, "homespun", *filled, secret=secret, status=max(
                STATUS.get(each, 0) for each in call))
            seen |= {document["schema"] for document in documents}
            if call[0] == "submit":
                words["job"] = documents[0]["job_id"]
            if call[0] == "fleet":
                make_tiny(tmp_path / "fleet.json", tmp_path / "tiny.json")
    assert seen == {
        "submitted", "job_update", "jobs", "job", "explanation", "timeline", "result",
        "fleet_saved", "job_plan", "homespun.plan/1", "identity", "errors"}


def make_tiny(saved, tiny):
    """The same peers with a byte of memory each."""
    fleet = json.loads(saved.read_text(encoding="utf-8"))
    for peer in fleet["peers"]:
        peer["memory_bytes"] = 1
    tiny.write_text(json.dumps(fleet), encoding="utf-8")


def test_every_command_that_asks_or_acts_has_json_and_is_tried():
    assert commands(cli) == (set(COMMANDS), {"completion"})


def test_a_file_that_cannot_be_trained(network, client, tmp_path):
    spec = tmp_path / "spec.py"
    spec.write_text(UNSUPPORTED, encoding="utf-8")
    jobs = client.jobs()
    done = network.run("homespun", "submit", str(spec), "--json")
    error = json.loads(done.stderr)["error"]
    assert done.returncode == error["exit_code"] == 1
    assert error["code"] == "UNSUPPORTED_OP"
    for part in ("Unique", "Node", "no executor runs", "spec.py, line 12"):
        assert part in error["message"]
    assert client.jobs() == jobs


def test_a_unique_prefix_finds_a_job(client, lab):
    job = client.train(**lab.arguments(steps=1), peers=1)
    assert client.job(job.id).id == job.id
    assert job.id in [status.job_id for status in client.jobs()]
    lab.finished(job)


def test_what_the_operator_sees(network, client, lab):
    job = client.train(**lab.endless(), peers=2)
    status = lab.until_step(job, 1)
    place = ("--dir", str(network.broker_directory))
    peers, = printed(network, "broker", "peers", *place)
    assert {peer["name"] for peer in peers["peers"]} == {"peer-0", "peer-1", "peer-2"}
    assert sorted(lease["job_id"] for peer in peers["peers"] for lease in peer["leases"]) == (
        [job.id] * 2)
    jobs, = printed(network, "broker", "jobs", *place)
    assert jobs["jobs"][0]["job_id"] == job.id
    one, = printed(network, "broker", "job", job.id, *place)
    assert [segment["peer_id"] for segment in one["job"]["segments"]] == [
        segment.peer_id for segment in status.segments]
    keys, = printed(network, "broker", "keys", "list", *place)
    assert keys["keys"]
    busy = int(status.segments[0].peer_name.removeprefix("peer-"))
    mine = ("peer", "status", "--dir", str(network.peer_directory(busy)))
    network.wait_until(
        lambda: printed(network, *mine)[0]["leases"], "the peer's own note names its lease")
    note, = printed(network, *mine)
    assert (note["running"], note["connected"]) == (True, True)
    assert note["leases"][0]["job_id"] == job.id
    for command in (("broker", "peers", *place), ("broker", "jobs", *place), mine,
                    ("broker", "job", job.id, *place), ("homespun", "jobs")):
        done = network.run(*command)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
    job.cancel()
