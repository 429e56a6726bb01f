"""TensorBoard, MLflow and Weights & Biases: what was told can be read back with their own tools."""

from __future__ import annotations

import logging
import sys

import pytest

from homespun.callbacks import MLflowCallback, TensorBoardCallback, WandbCallback
from homespun.callbacks.delivery import Reporter
from homespun.errors import Code, HomespunError

PATIENCE_S = 120.0
"""Only so that a defect ends the test; nothing depends on the value."""
CURVES = {
    "train/loss": [(0, 3.0), (1, 2.0), (2, 1.0)],
    "eval/loss": [(0, 3.5), (3, 1.5)],
    "train/recoveries": [(2, 1.0)],
}


@pytest.fixture
def tell(lab, caplog):
    """Tell a callback of a whole job; nothing may go wrong."""
    caplog.set_level(logging.WARNING, "homespun.callbacks")

    def tell(callback):
        lab.tell(Reporter([callback], settings={"learning_rate": 0.5}, end_s=PATIENCE_S))
        assert [record for record in caplog.records if record.name.startswith("homespun")] == []

    return tell


@pytest.mark.parametrize(("callback", "module"), [
    (TensorBoardCallback, "tensorboard"), (MLflowCallback, "mlflow"), (WandbCallback, "wandb")])
def test_a_missing_library_is_named_with_what_installs_it(callback, module, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(HomespunError) as caught:
        callback()
    assert caught.value.code is Code.BAD_CONFIGURATION
    assert f"{callback.__name__} needs {module}, which cannot be" in caught.value.message
    assert f"homespun[{module}]" in caught.value.message


def test_tensorboard(tell, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tell(TensorBoardCallback(tmp_path / "runs"))
    found = EventAccumulator(str(tmp_path / "runs" / "job_1")).Reload()
    assert {name: [(point.step, point.value) for point in found.Scalars(name)]
            for name in found.Tags()["scalars"]} == CURVES
    assert [point.wall_time for point in found.Scalars("train/loss")] == [0.0, 1.0, 2.0]


def test_mlflow(tell, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow`")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "store").as_uri()
    for _ in range(2):  # the second one finds the experiment there
        tell(MLflowCallback("trial", tracking_uri=uri))
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("trial")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    for run in runs:
        assert (run.info.status, run.info.run_name) == ("FINISHED", "tiny")
        assert run.data.params == {"learning_rate": "0.5"}
        assert run.data.tags["homespun.job_id"] == "job_1"
        assert {name: [(point.step, point.value)
                       for point in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics} == CURVES


def test_weights_and_biases(tell, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra `wandb`")
    from wandb.proto.wandb_internal_pb2 import Record

    for variable in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("WANDB_SILENT", "true")
    tell(WandbCallback("trial", mode="offline", dir=str(tmp_path)))
    path, = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    curves, name = {}, ""
    for record in map(Record.FromString, offline_records(path.read_bytes())):
        name = record.run.display_name or name
        values = {item.key or "/".join(item.nested_key): float(item.value_json)
                  for item in record.history.item}
        for curve in CURVES.keys() & values.keys():
            curves.setdefault(curve, []).append((values["train/global_step"], values[curve]))
    assert name == "tiny"
    assert curves == CURVES


def offline_records(data):
    """Records of an offline run: 7 bytes of header, then the format of LevelDB's logs."""
    block, header = 32_768, 7
    position, parts = header, []
    while position < len(data):
        if block - position % block < header:
            position += block - position % block
        length, kind = int.from_bytes(data[position + 4:position + 6], "little"), data[position + 6]
        parts.append(data[position + header:position + header + length])
        position += header + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield b"".join(parts)
            parts.clear()
