"""The workloads of `peer.executor.rates` in torch."""

from __future__ import annotations

from collections.abc import Callable

import torch

from dag.cluster import PeerRates
from peer.executor.rates import RateWorkloads, Run, measured_rates


def torch_rates(device: torch.device) -> PeerRates:
    """Measure float32 rates on a device, about 3 s in all."""
    with torch.inference_mode():
        return measured_rates(RateWorkloads(
            matmul=lambda n: _matmul(device, n), attention=lambda n: _attention(device, n),
            addition=lambda n: _addition(device, n)))


def _matmul(device: torch.device, n: int) -> Run:
    left, right = (torch.rand(n, n, device=device) for _ in range(2))
    return _finished(device, lambda: torch.mm(left, right))


def _attention(device: torch.device, length: int) -> Run:
    query, key, value = (torch.rand(1, 8, length, 64, device=device) for _ in range(3))
    attention = torch.nn.functional.scaled_dot_product_attention
    return _finished(device, lambda: attention(query, key, value))


def _addition(device: torch.device, elements: int) -> Run:
    left, right = (torch.rand(elements, device=device) for _ in range(2))
    result = torch.empty_like(left)
    return _finished(device, lambda: torch.add(left, right, out=result))


def _finished(device: torch.device, start: Callable[[], object]) -> Run:
    def run() -> None:
        start()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run
