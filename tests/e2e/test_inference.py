"""A model that only has to run: one peer and three give the same bits, and what PyTorch gives."""

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from homespun.errors import Code, HomespunError

pytestmark = pytest.mark.e2e

ROWS, SIZE, WIDTH = 99, 8, 24
"""The last microbatch is filled up: 99 rows are twelve microbatches of eight, and three rows."""


class Model(nn.Module):
    """Outputs of the first, a middle and the last layer; dropout and tied weights inside."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(6))
        self.layers[5].weight = self.layers[0].weight
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, shift):
        hidden = []
        for layer in self.layers:
            x = self.dropout(torch.tanh(layer(x) + shift[:, None])) + x
            hidden.append(x)
        return {"logits": x, "first": hidden[0], "label": hidden[3].argmax(1),
                "mean": hidden[2].mean(), "given": shift}


def data(rows=ROWS):
    draws = np.random.default_rng(1)
    return {"x": draws.standard_normal((rows, WIDTH)).astype(np.float32),
            "shift": draws.standard_normal(rows).astype(np.float32)}


@pytest.fixture(scope="module")
def alone(shared_client, lab):
    """What one peer gives."""
    job = shared_client.infer(Model(), data(), batch_size=SIZE, peers=1)
    lab.finished(job)
    return job.outputs()


def same(first, second):
    assert list(first) == list(second)
    return all(first[name].tobytes() == second[name].tobytes()
               and first[name].dtype == second[name].dtype
               and first[name].shape == second[name].shape for name in first)


def native(rows=ROWS):
    """The outputs of plain PyTorch; a mean is over one microbatch, the last filled up."""
    columns = {name: torch.from_numpy(column) for name, column in data(rows).items()}
    model = Model().eval()
    with torch.no_grad():
        whole = model(**columns)
        filled = torch.arange(-(-rows // SIZE) * SIZE).clamp(max=rows - 1).split(SIZE)
        whole["mean"] = torch.stack([
            model(columns["x"][part], columns["shift"][part])["mean"] for part in filled])
    return {name: tensor.numpy() for name, tensor in whole.items()}


def test_three_peers_give_what_one_does_and_what_pytorch_gives(client, lab, alone, tmp_path):
    job = client.infer(Model(), data(), batch_size=SIZE, peers=3, name="predictions")
    status = lab.finished(job)
    assert len(status.segments) == 3
    assert (status.kind, status.progress) == ("infer", (ROWS, ROWS, "row"))
    assert not status.has_loss
    outputs = job.outputs()
    assert same(outputs, alone)
    result = job.result(tmp_path)
    assert same(result.outputs(), alone)
    assert load_file(result.path).keys() == alone.keys()
    with pytest.raises(HomespunError) as caught:
        result.state_dict()
    assert caught.value.code is Code.CONFLICT
    expected = native()
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        assert (outputs[name].dtype, outputs[name].shape) == (array.dtype, array.shape)
        np.testing.assert_allclose(outputs[name], array, rtol=1e-5, atol=1e-5)


def test_the_broker_is_killed_in_the_middle(network, client, lab):
    rows = 8_000
    given = {"batch_size": SIZE, "peers": 3}
    undisturbed = client.infer(Model(), data(rows), **given)
    lab.finished(undisturbed)
    job = client.infer(Model(), data(rows), **given)
    reached = lab.watch_until(job, lambda status: status.samples_done > 0).samples_done
    assert reached < rows, "it was over before the kill"
    network.kill("broker")
    network.wait_until(
        lambda: all(lease["steps_done"] * SIZE > reached for lease in leases(network)),
        "the peers go on without the broker")
    network.start_broker()
    lab.finished(job)
    assert same(job.outputs(), undisturbed.outputs())


def leases(network):
    """What the peers themselves say they do, without a broker."""
    found = [
        lease for number in (0, 1, 2) for lease in json.loads(network.run(
            "peer", "status", "--json", "--dir", str(network.peer_directory(number))).stdout
        )["leases"]]
    assert len(found) == 3
    return found


SPEC = """
import numpy, torch
torch.manual_seed(3)
job = dict(kind="infer", model=torch.nn.Linear(4, 2), batch_size=4, name="from a file",
           data={"x": numpy.arange(40, dtype=numpy.float32).reshape(10, 4)})
"""


def test_commands_submit_watch_and_download(network, client, lab, tmp_path):
    spec, folder = tmp_path / "spec.py", tmp_path / "out"
    spec.write_text(SPEC)
    folder.mkdir()
    done = network.run("homespun", "submit", str(spec), "--watch")
    assert done.returncode == 0, done.stderr
    assert "row 10/10" in done.stderr
    job_id = done.stdout.strip()
    shown = network.run("homespun", "job", job_id)
    assert "row 10/10" in shown.stdout
    assert json.loads(network.run("homespun", "job", job_id, "--json").stdout)["job"][
        "kind"] == "infer"
    fetched = network.run("homespun", "download", job_id, "-o", str(folder))
    assert fetched.returncode == 0, fetched.stderr
    (array,) = load_file(folder / f"{job_id}.safetensors").values()
    torch.manual_seed(3)
    with torch.no_grad():
        expected = nn.Linear(4, 2)(torch.arange(40.0).reshape(10, 4)).numpy()
    np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-5)


def test_an_onnx_file_is_run_at_its_own_size(network, client, lab, tmp_path):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            model, (torch.zeros(4, 4),), tmp_path / "model.onnx", dynamo=True, verbose=False,
            input_names=["x"], output_names=["y"], external_data=False)
    x = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
    save_file({"x": x}, tmp_path / "rows.safetensors")
    job = client.infer(tmp_path / "model.onnx", {"x": x}, peers=2)
    lab.finished(job)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(job.outputs()["y"], expected, rtol=1e-5, atol=1e-5)
    done = network.run(
        "homespun", "submit", str(tmp_path / "model.onnx"), "--infer", "--data",
        str(tmp_path / "rows.safetensors"), "--watch", "--json")
    assert done.returncode == 0, done.stderr
    again = client.job(json.loads(done.stdout.splitlines()[0])["job_id"])
    np.testing.assert_allclose(again.outputs()["y"], expected, rtol=1e-5, atol=1e-5)


def test_a_failing_row_fails_the_job_with_its_name(client, lab):
    class Picks(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 2)

        def forward(self, index):
            return self.table(index)

    job = client.infer(Picks(), {"index": np.array([0, 1, 9])}, batch_size=1, peers=1)
    error = lab.failure(job)
    assert error.code in (Code.EXECUTOR_FAILED, Code.INVALID_ARGUMENT)
    assert "of 3 rows" in error.message
