"""`peer rates`: figures and where they come from."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from dag.cluster import Correction, DenseRates, PeerRates
from dag.support import everything
from homespun.directory_lock import locked
from ir.operators import OPERATORS, OPSETS, OpClass
from peer import hardware
from peer.cli.rates import rates
from peer.hardware import HardwareReport, remember
from peer.settings import PeerDirectory, PeerSettings

REPORT = HardwareReport(
    device="cpu", device_name="Some CPU", memory_bytes=1 << 30, measured_unix_s=1_700_000_000,
    rates=PeerRates(
        matmul_flops_per_s=9e10, attention_flops_per_s=6e10, memory_bytes_per_s=2e10,
        convolution_flops_per_s=7e10, forward_overhead_s=2e-5, narrow=(DenseRates(
            dtype="bfloat16", matmul_flops_per_s=3e9, attention_flops_per_s=2e9,
            convolution_flops_per_s=1e9),)),
    platform="Linux x86_64", threads=1, executor="torch", support=everything(OPERATORS, OPSETS))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "measure", lambda *_: REPORT)
    place = PeerDirectory(tmp_path)
    place.save_settings(PeerSettings(name="attic", device="cpu", threads=1))
    return place


def said(place, *arguments):
    result = CliRunner().invoke(rates, ["--dir", str(place.root), *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_measured_rates_are_shown_with_their_time(place):
    text = said(place)
    assert "Some CPU (cpu, 1 threads, torch)" in text
    assert "90.0 GFLOP/s" in text
    assert "bfloat16" in text
    assert "starting an operator takes 20.0 us" in text
    assert "measured 2023-11-14T22:13:20Z" in text
    assert "no task has corrected this yet" in text


def test_corrections_are_shown_until_it_is_measured_anew(place):
    said(place)
    learnt = (Correction(direction="backward", op_class=OpClass.MEMORY, factor=1.25),)
    remember(replace(REPORT, refined_unix_s=1_700_000_060, rates=replace(
        REPORT.rates, corrections=learnt)), place.hardware)
    text = said(place)
    assert "corrected by tasks, last 2023-11-14T22:14:20Z" in text
    assert "1.25" in text
    assert "no task" in said(place, "--fresh")


def test_as_json(place):
    value = json.loads(said(place, "--json"))
    assert value["rates"]["narrow"][0]["matmul_flops_per_s"] == 3e9
    assert "support" not in value


def test_a_running_peer_is_not_measured_beside(place):
    with locked(place.root, "peer run"):
        said(place)
        result = CliRunner().invoke(rates, ["--dir", str(place.root), "--fresh"])
    assert result.exit_code == 78
    assert "stop it first" in result.output
