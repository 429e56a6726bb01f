"""The order of phases, as the docstring of `peer.core.phases` has it."""

from __future__ import annotations

import pytest

from peer.core.phases import Mode, Phase, PhaseOrder
from sim.topologies import inference_spec_of, spec_of


def all_phases(order: PhaseOrder) -> list[str]:
    names, phase = [], order.at(0)
    while phase is not None:
        names.append(f"{phase.mode}({phase.step})")
        phase = order.after(phase)
    return names


def test_the_example_of_the_docstring():
    assert all_phases(PhaseOrder(5, 4, 2, 3)) == [
        "evaluate(0)", "train(0)", "train(1)", "evaluate(2)", "train(2)", "train(3)",
        "evaluate(4)", "train(4)", "evaluate(5)"]


@pytest.mark.parametrize(("every", "microbatches"), [(0, 3), (2, 0)])
def test_without_evaluation(every: int, microbatches: int):
    assert all_phases(PhaseOrder(2, 4, every, microbatches)) == ["train(0)", "train(1)"]


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (4, 2), (4, 3), (4, 9)])
def test_the_end_is_evaluated_once(steps: int, every: int):
    phases = all_phases(PhaseOrder(steps, 1, every, 1))
    assert phases[0] == "evaluate(0)"
    assert phases[-1] == f"evaluate({steps})"
    assert len(set(phases)) == len(phases)
    assert [p for p in phases if p.startswith("train")] == [f"train({s})" for s in range(steps)]


def test_microbatches_are_those_of_the_job():
    order = PhaseOrder.of(spec_of(1, microbatches=3, evaluate_every=1, evaluation_microbatches=5))
    first = order.at(0)
    assert first == Phase(Mode.EVALUATE, 0, 5)
    assert order.after(first) == Phase(Mode.TRAIN, 0, 3)


@pytest.mark.parametrize(("position", "expected"), [
    (0, "evaluate(0)"), (1, "train(1)"), (4, "evaluate(4)"), (5, "evaluate(5)")])
def test_a_position_is_before_the_evaluation_of_its_step(position: int, expected: str):
    phase = PhaseOrder(5, 4, 2, 3).at(position)
    assert f"{phase.mode}({phase.step})" == expected


@pytest.mark.parametrize("position", range(6))
def test_from_a_position_the_same_phases_follow_as_before(position: int):
    order = PhaseOrder(5, 4, 2, 3)
    phases, phase = [], order.at(position)
    while phase is not None:
        phases.append(f"{phase.mode}({phase.step})")
        phase = order.after(phase)
    assert phases == all_phases(order)[-len(phases):]
    assert all(int(name[-2]) >= position for name in phases)


def test_nothing_is_left_at_the_last_position_without_evaluation():
    assert PhaseOrder(5, 4, 0, 0).at(5) is None


def test_an_inference_is_one_phase_at_every_position():
    order = PhaseOrder.of(inference_spec_of(2, rows=7))
    assert [order.at(position) for position in (0, 3)] == 2 * [Phase(Mode.INFER, 0, 4)]
    assert order.at(4) is None
