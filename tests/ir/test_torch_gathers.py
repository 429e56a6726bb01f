"""The forms with fixed sizes compute what torch's own operators compute, gradients included."""

import itertools

import pytest
import torch

from ir.frontends.torch_gathers import grouped_mm, histogram, masked_scatter


def draws(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def gradients(result: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 1, result.numel(), dtype=torch.float64).reshape(result.shape)
    return list(torch.autograd.grad((result * weights).sum(), leaves))


@pytest.mark.parametrize("mask", [
    torch.tensor([[True], [False], [True], [True]]),
    torch.tensor([[False], [False], [False], [False]]),
    torch.tensor([True, False, True]),
    torch.arange(12).reshape(4, 3) % 5 != 1,
    torch.tensor(True),
], ids=["rows", "none", "columns", "elements", "all"])
def test_masked_scatter(mask):
    target, source = draws(4, 3), draws(5, 3)
    expected = target.masked_scatter(mask, source)
    found = masked_scatter(target, mask, source)
    assert torch.equal(found, expected)
    for ours, theirs in zip(gradients(found, target, source),
                            gradients(expected, target, source), strict=True):
        assert torch.equal(ours, theirs)


COUNTS = [counts for counts in itertools.product(range(4), repeat=3) if sum(counts) <= 6]


@pytest.mark.parametrize("samples", [1, 2, 6, 7])
def test_grouped_mm(samples):
    rows, weights = draws(samples, 2), draws(3, 2, 4)
    for counts in (counts for counts in COUNTS if sum(counts) <= samples):
        ends = torch.tensor(counts).cumsum(0).to(torch.int32)
        groups = rows.split([*counts, samples - sum(counts)])
        parts = [group @ weights[number] for number, group in enumerate(groups[:-1])]
        expected = torch.cat([*parts, torch.zeros(len(groups[-1]), 4, dtype=torch.float64)])
        found = grouped_mm(rows, weights, ends)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        if not sum(counts):
            continue
        for ours, theirs in zip(gradients(found, rows, weights),
                                gradients(expected, rows, weights), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("bins", "low", "high"), [(4, 0, 3), (4, 0, 4), (7, -2, 2.5), (1, -1, 1)])
def test_histogram(bins, low, high):
    values = torch.tensor([-3, -2, -1, 0, 0, 1, 1.5, 2, 2.4, 2.5, 3, 3, 4, 9])
    assert torch.equal(histogram(values, bins, low, high),
                       torch.histc(values, bins, min=low, max=high))
    assert histogram(values, bins, 0, 0) is NotImplemented
