"""The workloads of `peer.executor.rates` in torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812

from dag.cluster import PeerRates
from peer.executor.overheads import Overheads
from peer.executor.rates import PIXELS, SLIM, WIDE, RateWorkloads, Run, measured_rates
from peer.executor.torch_executor.tensors import DTYPES


def torch_rates(device: torch.device, overheads: Overheads) -> PeerRates:
    """Measure the rates of a device, about 6 s in all."""
    with torch.inference_mode():
        return measured_rates(RateWorkloads(
            matmul=lambda dtype, n: _matmul(device, dtype, n),
            attention=lambda dtype, n: _attention(device, dtype, n),
            convolution=lambda dtype, n: _convolution(device, dtype, n),
            addition=lambda n: _addition(device, n),
            is_asynchronous=device.type == "cuda"), overheads)


def _matmul(device: torch.device, dtype: str, n: int) -> Run:
    left, right = (_drawn(device, dtype, n, n) for _ in range(2))
    return _finished(device, lambda: torch.mm(left, right))


def _attention(device: torch.device, dtype: str, length: int) -> Run:
    query, key, value = (_drawn(device, dtype, 1, 8, length, 64) for _ in range(3))
    return _finished(device, lambda: F.scaled_dot_product_attention(query, key, value))


def _convolution(device: torch.device, dtype: str, images: int) -> Run:
    x = _drawn(device, dtype, images, WIDE, PIXELS, PIXELS)
    narrow = _drawn(device, dtype, SLIM, WIDE, 1, 1)
    square = _drawn(device, dtype, SLIM, SLIM, 3, 3)
    widen = _drawn(device, dtype, WIDE, SLIM, 1, 1)
    return _finished(
        device, lambda: F.conv2d(F.conv2d(F.conv2d(x, narrow), square, padding=1), widen))


def _addition(device: torch.device, elements: int) -> Run:
    left, right = (_drawn(device, "float32", elements) for _ in range(2))
    result = torch.empty_like(left)
    return _finished(device, lambda: torch.add(left, right, out=result))


def _drawn(device: torch.device, dtype: str, *shape: int) -> torch.Tensor:
    return torch.rand(shape, device=device).to(DTYPES[dtype])


def _finished(device: torch.device, start: Callable[[], object]) -> Run:
    def run() -> None:
        start()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run
