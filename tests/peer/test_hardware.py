import json
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from dag.cluster import Correction, PeerRates, problem_with_rates
from dag.support import everything
from homespun.errors import Code, HomespunError
from ir.operators import OPERATORS, OPSETS, OpClass
from peer import devices, hardware
from peer.cli.join import join
from peer.executor import installed
from peer.executor.registry import create
from peer.hardware import HardwareReport, hardware_report, measure, remember, resolve_device

ROOT = Path(__file__).resolve().parents[2]
REPORT = HardwareReport(
    device="cpu", device_name="test", memory_bytes=1 << 30, measured_unix_s=0,
    rates=PeerRates(
        matmul_flops_per_s=1e9, attention_flops_per_s=1e9, memory_bytes_per_s=1e9),
    platform="Linux x86_64", threads=1,
    executor="torch", support=everything(OPERATORS, OPSETS))


@pytest.fixture(scope="module")
def measured():
    return measure("cpu", 1)


@pytest.mark.parametrize(("cores", "threads"), [(8, 4), (3, 1), (1, 1), (None, 1)])
def test_half_of_the_cores_stay_their_owners(monkeypatch, cores, threads):
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: cores)
    assert hardware.resolve_threads(0) == threads
    assert hardware.resolve_threads(6) == 6


def test_measured_rates_make_sense(measured):
    assert measured.device == "cpu"
    assert measured.device_name
    assert measured.threads == 1
    # Far outside of these, a unit is wrong.
    rates = measured.rates
    assert 1e8 < rates.matmul_flops_per_s < 1e13
    assert 1e7 < rates.attention_flops_per_s < 1e13
    assert 1e7 < rates.convolution_flops_per_s < 1e13
    assert 1e8 < rates.memory_bytes_per_s < 1e12
    assert 1e-7 < rates.forward_overhead_s < 1e-2
    assert 1e-7 < rates.backward_overhead_s < 1e-2
    assert not rates.is_asynchronous
    assert [dense.dtype for dense in rates.narrow] == ["bfloat16", "float16"]
    assert problem_with_rates(rates) == ""
    assert measured.memory_bytes > 1 << 20
    assert measured.executor == "torch"
    assert measured.support == create("torch", "cpu", 1).capability().support


def test_cache_hit_does_not_measure(tmp_path, monkeypatch):
    cache = tmp_path / "new" / "hardware.json"
    calls = []

    def fake(device, threads, executor):
        calls.append((device, threads, executor))
        return REPORT

    monkeypatch.setattr(hardware, "measure", fake)
    assert hardware_report("cpu", 1, cache) == REPORT
    assert hardware_report("cpu", 1, cache) == REPORT
    assert calls == [("cpu", 1, "torch")]
    hardware_report("cpu", 2, cache)
    monkeypatch.setattr(installed, "_version", lambda _: "99.0")
    hardware_report("cpu", 2, cache)
    hardware_report("cpu", 2, cache, "null")
    hardware_report("cpu", 2, cache, "null")
    assert calls == [("cpu", 1, "torch"), ("cpu", 2, "torch"), ("cpu", 2, "torch"),
                     ("cpu", 2, "null")]


@pytest.mark.parametrize("spoil", [
    lambda text: "",
    lambda text: text[:-10],
    lambda text: "[]",
    lambda text: json.dumps({**json.loads(text), "report": {}}),
    lambda text: json.dumps(
        {**json.loads(text), "report": asdict(replace(
            REPORT, rates=replace(REPORT.rates, matmul_flops_per_s=-1.0)))}),
    lambda text: json.dumps(
        {**json.loads(text), "report": {**json.loads(text)["report"], "support": {"x": 1}}}),
    lambda text: text + " " * hardware.CACHE_BYTES_MAX,
])
def test_spoiled_cache_is_measured_again(tmp_path, monkeypatch, spoil):
    cache = tmp_path / "hardware.json"
    calls = []
    monkeypatch.setattr(hardware, "measure", lambda *_: calls.append(1) or REPORT)
    hardware_report("cpu", 1, cache)
    cache.write_text(spoil(cache.read_text()))
    assert hardware_report("cpu", 1, cache) == REPORT
    assert len(calls) == 2


def test_a_fresh_measurement_passes_the_cache_by(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(hardware, "measure", lambda *_: calls.append(1) or REPORT)
    for fresh in (False, True, False):
        hardware_report("cpu", 1, tmp_path / "hardware.json", fresh=fresh)
    assert len(calls) == 2


def test_what_tasks_taught_is_there_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "measure", lambda *_: REPORT)
    cache = tmp_path / "hardware.json"
    hardware_report("cpu", 1, cache)
    learnt = (Correction(direction="forward", op_class=OpClass.MATMUL, factor=1.5),)
    refined = replace(REPORT, refined_unix_s=7, rates=replace(REPORT.rates, corrections=learnt))
    remember(refined, cache)
    assert hardware_report("cpu", 1, cache) == refined
    remember(refined, tmp_path / "hardware.json" / "no_folder")  # costs no more than the cache


def test_devices(monkeypatch):
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("cuda") == "cuda:0"
    assert resolve_device("cuda:3") == "cuda:3"
    monkeypatch.setattr(devices, "gpu_names", lambda: ["Some GPU"])
    monkeypatch.setattr(installed, "_version", lambda _: "2.13.0+cpu")
    assert resolve_device("auto") == "cpu"
    monkeypatch.setattr(installed, "_version", lambda _: "2.13.0")
    assert resolve_device("auto") == "cuda:0"
    monkeypatch.setattr(devices, "gpu_names", list)
    assert resolve_device("auto") == "cpu"


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:-1", "cpu; rm", "cuda:1000"])
def test_unknown_devices(device):
    with pytest.raises(HomespunError) as caught:
        resolve_device(device)
    assert caught.value.code == Code.BAD_CONFIGURATION


def test_a_device_that_torch_does_not_see():
    with pytest.raises(HomespunError) as caught:
        measure("cuda:77", 1)
    assert caught.value.code == Code.BAD_CONFIGURATION
    assert "cuda:77" in caught.value.message


def test_auto_does_without_a_gpu_that_torch_cannot_use(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "resolve_device", lambda *_: "cuda:0")

    def fake(device, threads, executor):
        if device != "cpu":
            raise HomespunError(Code.BAD_CONFIGURATION, "driver too old")
        return REPORT

    monkeypatch.setattr(hardware, "measure", fake)
    assert hardware_report("auto", 1, tmp_path / "a.json").device == "cpu"
    with pytest.raises(HomespunError):
        hardware_report("cuda:0", 1, tmp_path / "b.json")


@pytest.mark.parametrize("executor", ["", "tensorflow", "../torch"])
def test_unknown_executors(tmp_path, executor):
    with pytest.raises(HomespunError) as caught:
        hardware_report("cpu", 1, tmp_path / "a.json", executor)
    assert caught.value.code == Code.BAD_CONFIGURATION
    assert "torch" in caught.value.message


@pytest.mark.parametrize("executor", [name for name in installed.NAMES if name != "null"])
def test_an_executor_that_is_not_installed_says_what_to_install(tmp_path, monkeypatch, executor):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    monkeypatch.setattr(installed, "_version", lambda _: "")
    with pytest.raises(HomespunError) as caught:
        hardware_report("cpu", 1, tmp_path / "a.json", executor)
    assert caught.value.code == Code.BAD_CONFIGURATION
    wanted = f"'homespun[{executor}]'" if executor in project["optional-dependencies"] else executor
    assert f"pip install {wanted}." in caught.value.message


def test_joining_with_an_executor_that_is_not_installed_reaches_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(installed, "_version", lambda _: "")
    result = CliRunner().invoke(join, [
        "127.0.0.1:9", "--key", "none", "--executor", "jax", "--dir", str(tmp_path)])
    assert result.exit_code == 78
    assert "pip install 'homespun[jax]'" in result.output
    assert not list(tmp_path.iterdir())


def test_a_child_that_dies_is_reported(monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "not a number")
    with pytest.raises(HomespunError) as caught:
        measure("cpu", 1)
    assert caught.value.code == Code.EXECUTOR_DIED


def test_a_child_that_cannot_start_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware.sys, "executable", str(tmp_path / "none"))
    with pytest.raises(HomespunError) as caught:
        measure("cpu", 1)
    assert caught.value.code == Code.EXECUTOR_DIED
