"""The order of a job's phases: the same pure function on every peer, so nobody announces it.

With `evaluate_every = 2` and 5 steps: evaluate(0) train(0) train(1) evaluate(2) train(2) train(3)
evaluate(4) train(4) evaluate(5). Without evaluation: train(0) ... train(steps - 1). An inference
job has the one phase infer(0), over all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dag.job import JobSpec
from homespun.sampling import evaluation_microbatches
from ir.graph import INFER, TRAIN


class Mode(StrEnum):
    """What a phase does with its microbatches."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    INFER = "infer"


@dataclass(frozen=True, slots=True)
class Phase:
    """A run of microbatches between two points where parameters change.

    Attributes:
        mode: train, evaluate or infer; of these only train changes parameters.
        step: optimizer steps done before it.
        microbatches: how many flow, >= 1.
    """

    mode: Mode
    step: int
    microbatches: int


@dataclass(frozen=True, slots=True)
class PhaseOrder:
    """The phases of one job.

    Attributes:
        steps: optimizer steps in total; of inference its microbatches.
        microbatches: per training phase.
        evaluate_every: 0 for never.
        evaluation_microbatches: per evaluation phase; 0 for no evaluation.
        kind: of the job.
    """

    steps: int
    microbatches: int
    evaluate_every: int
    evaluation_microbatches: int
    kind: str = TRAIN

    @classmethod
    def of(cls, spec: JobSpec) -> PhaseOrder:
        """Read the order off a job."""
        training = spec.training
        size = training.batch_size // training.microbatches
        return cls(
            training.steps,
            training.microbatches,
            training.evaluate_every,
            evaluation_microbatches(spec.rows("validation"), size),
            spec.kind,
        )

    def at(self, position: int) -> Phase | None:
        """The phase that a job goes on with at a position, None at its end.

        Inference is one phase, whose first `position` microbatches are through.
        """
        if self.kind == INFER:
            return Phase(Mode.INFER, 0, self.steps) if position < self.steps else None
        if self._is_evaluated(position):
            return self._evaluate(position)
        return self._train(position) if position < self.steps else None

    def phase(self, mode: Mode, step: int) -> Phase | None:
        """The phase of a mode at a step; None if the job has none such."""
        if (mode is Mode.INFER) != (self.kind == INFER):
            return None
        if mode is Mode.INFER:
            return Phase(Mode.INFER, 0, self.steps) if step == 0 else None
        if mode is Mode.TRAIN:
            return self._train(step) if 0 <= step < self.steps else None
        is_one = 0 <= step <= self.steps and self._is_evaluated(step)
        return self._evaluate(step) if is_one else None

    def after(self, phase: Phase) -> Phase | None:
        """The phase that follows; None after the last."""
        if phase.mode is Mode.INFER:
            return None
        if phase.mode is Mode.TRAIN:
            done = phase.step + 1
            if self._is_evaluated(done):
                return self._evaluate(done)
        else:
            done = phase.step
        return self._train(done) if done < self.steps else None

    def _is_evaluated(self, done: int) -> bool:
        if self.evaluate_every == 0 or self.evaluation_microbatches == 0:
            return False
        return done % self.evaluate_every == 0 or done == self.steps

    def _train(self, step: int) -> Phase:
        return Phase(Mode.TRAIN, step, self.microbatches)

    def _evaluate(self, step: int) -> Phase:
        return Phase(Mode.EVALUATE, step, self.evaluation_microbatches)
