"""Which update rules there are; the numbers are checked once, for every executor."""

from __future__ import annotations

from dag.job import OptimizerSpec
from homespun.errors import Code, HomespunError

KINDS = ("sgd", "adam", "adamw")


def check_rule(spec: OptimizerSpec) -> None:
    """Refuse an update rule that no executor can apply.

    Raises:
        HomespunError: INVALID_JOB if the kind is unknown or a number is out of range.
    """
    if spec.kind not in KINDS:
        raise HomespunError(
            Code.INVALID_JOB, f"Unknown optimizer '{spec.kind}'; use sgd, adam or adamw.",
            kind=spec.kind)
    at_least_zero = ("learning_rate", "epsilon", "weight_decay", "momentum")
    wrong = [name for name in at_least_zero if not getattr(spec, name) >= 0]
    wrong += [name for name in ("beta1", "beta2") if not 0 <= getattr(spec, name) < 1]
    if wrong:
        raise HomespunError(
            Code.INVALID_JOB,
            f"Optimizer {spec.kind}: {wrong[0]} is {getattr(spec, wrong[0])}, out of range.",
            field=wrong[0])
    if spec.kind == "sgd" and spec.nesterov and spec.momentum == 0:
        raise HomespunError(
            Code.INVALID_JOB, "Optimizer sgd: nesterov needs momentum > 0; it is 0.",
            field="nesterov")
