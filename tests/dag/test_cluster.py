"""What a peer may say of itself."""

from dataclasses import replace
from math import inf, nan

import pytest

from dag.cluster import (
    BACKWARD,
    FORWARD,
    Correction,
    DenseRates,
    PeerRates,
    problem_with_corrections,
    problem_with_rates,
)
from ir.operators import OpClass

NARROW = DenseRates(
    dtype="float16", matmul_flops_per_s=1.0, attention_flops_per_s=1.0,
    convolution_flops_per_s=1.0)
LEARNT = Correction(direction=FORWARD, op_class=OpClass.MATMUL, factor=1.5)
RATES = PeerRates(
    matmul_flops_per_s=1e12, attention_flops_per_s=1e12, memory_bytes_per_s=1e11, narrow=(NARROW,),
    corrections=(LEARNT, replace(LEARNT, direction=BACKWARD)))


def test_possible_rates():
    assert problem_with_rates(RATES) == ""
    assert problem_with_rates(replace(RATES, convolution_flops_per_s=1e12)) == ""


@pytest.mark.parametrize("changes", [
    *({name: bad} for bad in (0.0, -1.0, nan, inf, 1e30)
      for name in ("matmul_flops_per_s", "attention_flops_per_s", "memory_bytes_per_s")),
    {"convolution_flops_per_s": -1.0}, {"convolution_flops_per_s": nan},
    {"forward_overhead_s": -1e-9}, {"backward_overhead_s": nan}, {"forward_overhead_s": 1.0},
    {"narrow": (NARROW, NARROW)}, {"narrow": (replace(NARROW, dtype="int8"),)},
    {"narrow": (replace(NARROW, convolution_flops_per_s=0.0),)},
    {"corrections": (LEARNT, LEARNT)}, {"corrections": (replace(LEARNT, direction="up"),)},
    *({"corrections": (replace(LEARNT, factor=bad),)} for bad in (0.0, 0.2, 4.1, nan, inf))])
def test_impossible_rates(changes):
    assert problem_with_rates(replace(RATES, **changes))


def test_a_bad_correction_is_named():
    said = problem_with_corrections((replace(LEARNT, factor=9.0),))
    assert "matmul forward" in said
    assert "9.0" in said


def test_corrections_by_kind_of_work():
    assert RATES.correction(FORWARD, OpClass.MATMUL) == 1.5
    assert RATES.correction(FORWARD, OpClass.ATTENTION) == 1.0
