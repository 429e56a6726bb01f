"""What real tasks teach: found out by virtual devices of which the truth is known."""

from random import Random

import pytest

from dag.cluster import (
    BACKWARD,
    CORRECTION_MAX,
    CORRECTION_MIN,
    FORWARD,
    Correction,
    problem_with_corrections,
)
from dag.cost import WorkSeconds
from ir.operators import OpClass
from peer.core.refinement import refined

MATMUL, MEMORY, ATTENTION = OpClass.MATMUL, OpClass.MEMORY, OpClass.ATTENTION


def works(direction=FORWARD, **seconds):
    return tuple(WorkSeconds(direction=direction, op_class=OpClass(name), seconds=value)
                 for name, value in seconds.items())


def total(corrections, predicted, direction=FORWARD):
    factors = {(c.direction, c.op_class): c.factor for c in corrections}
    return sum(work.seconds * factors.get((direction, work.op_class), 1.0)
               for work in predicted if work.direction == direction)


def test_the_first_lease_is_believed_and_later_ones_by_half():
    predicted = works(matmul=1.0)
    once = refined((), predicted, {FORWARD: 1.21})
    assert once == (Correction(
        direction=FORWARD, op_class=MATMUL, factor=pytest.approx(1.21)),)
    assert total(refined(once, predicted, {FORWARD: 1.21 * 1.44}), predicted) == pytest.approx(
        1.21 * 1.2)


@pytest.mark.parametrize("seed", range(5))
def test_different_mixes_tell_the_classes_apart(seed):
    draw, truth = Random(seed), {MATMUL: 1.4, MEMORY: 0.6, ATTENTION: 2.5}
    corrections = ()
    for _ in range(200):
        predicted = works(**{str(kind): draw.uniform(0.01, 1.0) for kind in truth})
        real = sum(truth[work.op_class] * work.seconds for work in predicted)
        noisy = real * draw.lognormvariate(0.0, 0.05)
        corrections = refined(corrections, predicted, {FORWARD: noisy})
    for found in corrections:
        assert found.factor == pytest.approx(truth[found.op_class], rel=0.25), seed


def test_a_mixed_prediction_comes_right_in_a_few_leases():
    predicted, corrections = works(matmul=0.7, memory=0.3), ()
    for _ in range(6):
        corrections = refined(corrections, predicted, {FORWARD: 1.5})
    assert total(corrections, predicted) == pytest.approx(1.5, rel=0.03)


def test_one_wild_lease_moves_little():
    predicted = works(matmul=1.0)
    wild = refined(refined((), predicted, {FORWARD: 1.0}), predicted, {FORWARD: 1e6})
    assert total(wild, predicted) == pytest.approx(2**0.5)
    assert total(refined((), predicted, {FORWARD: 1e6}), predicted) == pytest.approx(2.0)
    for _ in range(4):
        wild = refined(wild, predicted, {FORWARD: 1.0})
    assert total(wild, predicted) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(("measured", "bound"), [(1e9, CORRECTION_MAX), (1e-9, CORRECTION_MIN)])
def test_corrections_stay_inside_their_bounds(measured, bound):
    corrections = ()
    for _ in range(50):
        corrections = refined(corrections, works(matmul=1.0, memory=0.1), {FORWARD: measured})
    assert problem_with_corrections(corrections) == ""
    assert corrections[0].factor == bound


@pytest.mark.parametrize("measured", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_teaches_nothing(measured):
    assert refined((), works(matmul=1.0), {FORWARD: measured}) == ()


def test_directions_are_learnt_apart_and_others_kept():
    predicted = (*works(matmul=1.0), *works(BACKWARD, matmul=2.0))
    known = (Correction(direction=FORWARD, op_class=ATTENTION, factor=3.0),)
    found = refined(known, predicted, {BACKWARD: 4.0})
    assert [(c.direction, c.op_class) for c in found] == [(BACKWARD, MATMUL), (FORWARD, ATTENTION)]
    assert found[0].factor == pytest.approx(2.0)
    assert refined(found, (), {FORWARD: 1.0}) == found
