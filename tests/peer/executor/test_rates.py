"""How rates are taken: which runs count, what happens where a dtype is missing."""

import pytest
import torch

from peer.executor import overheads, rates
from peer.executor.overheads import Overheads, measured_overheads
from peer.executor.rates import RateWorkloads, measured_rates
from peer.executor.registry import create

OVERHEADS = Overheads(forward_s=1e-6, backward_s=2e-6)


class Device:
    """A device whose clock advances only by the work that it is given."""

    def __init__(self, flops_per_s, bytes_per_s, dtypes):
        self.now_s = 0.0
        self.flops_per_s, self.bytes_per_s, self.dtypes = flops_per_s, bytes_per_s, dtypes
        self.runs = 0

    def perf_counter(self):
        return self.now_s

    def takes(self, seconds):
        def run():
            self.runs += 1
            # Every third run is interrupted by other work.
            self.now_s += seconds * (3.0 if self.runs % 3 == 0 else 1.0)
        return run

    def dense(self, dtype, flops):
        if dtype not in self.dtypes:
            raise TypeError(f"no kernel for {dtype}")
        return self.takes(flops / self.flops_per_s / self.dtypes[dtype])

    def workloads(self):
        image = 2 * 28**2 * (256 * 64 * 2 + 9 * 64 * 64)
        return RateWorkloads(
            matmul=lambda dtype, n: self.dense(dtype, 2 * n**3),
            attention=lambda dtype, n: self.dense(dtype, 4 * 8 * 64 * n * n),
            convolution=lambda dtype, n: self.dense(dtype, n * image),
            addition=lambda n: self.takes(12 * n / self.bytes_per_s), is_asynchronous=True)


@pytest.mark.parametrize("flops_per_s", [1e9, 1e11, 1e14])
def test_the_rate_is_that_of_undisturbed_runs(monkeypatch, flops_per_s):
    device = Device(flops_per_s, 1e10, {"float32": 1.0, "bfloat16": 2.0})
    monkeypatch.setattr(rates, "time", device)
    found = measured_rates(device.workloads(), OVERHEADS)
    for name in ("matmul", "attention", "convolution"):
        assert getattr(found, f"{name}_flops_per_s") == pytest.approx(flops_per_s)
    assert found.memory_bytes_per_s == pytest.approx(1e10)
    (narrow,) = found.narrow  # this device has no float16
    assert narrow.dtype == "bfloat16"
    assert narrow.matmul_flops_per_s == pytest.approx(2 * flops_per_s)
    assert (found.forward_overhead_s, found.backward_overhead_s) == (1e-6, 2e-6)
    assert found.is_asynchronous
    assert device.now_s < 60.0


def test_a_device_that_only_emulates_a_dtype_is_not_kept_busy(monkeypatch):
    device = Device(1e11, 1e10, {"float32": 1.0, "bfloat16": 1e-3})
    monkeypatch.setattr(rates, "time", device)
    measured_rates(device.workloads(), OVERHEADS)
    assert device.now_s < 60.0


def test_overheads_are_the_difference_of_two_lengths(monkeypatch):
    class Clock:
        now_s = 0.0

        def perf_counter(self):
            return self.now_s

    clock = Clock()

    class Segment:
        def __init__(self, nodes):
            self.nodes = nodes

        def forward(self, key, data, incoming):
            clock.now_s += 1e-3 + 1e-5 * self.nodes

        def backward(self, key, gradients):
            clock.now_s += 2e-3 + 2e-5 * self.nodes

        def close(self):
            pass

    class Executor:
        def load(self, program, parameters):
            return Segment(len(program.graph.nodes))

    monkeypatch.setattr(overheads, "time", clock)
    found = measured_overheads(Executor())
    assert found.forward_s == pytest.approx(1e-5)
    assert found.backward_s == pytest.approx(2e-5)


def test_overheads_of_a_real_executor():
    found = measured_overheads(create("torch", "cpu", 1))
    assert 1e-7 < found.forward_s < 1e-2
    assert 1e-7 < found.backward_s < 1e-2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_rates_of_a_gpu():
    found = create("torch", "cuda:0", 1).measured_rates()
    assert found.is_asynchronous
    assert found.matmul_flops_per_s > 1e12
    assert {dense.dtype for dense in found.narrow} >= {"float16"}
