"""Optimizers and learning-rate schedules, spelled as in `torch.optim`, checked when written.

They are values: nothing is computed here. `to_spec` gives the form that a job carries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from dag.job import OptimizerSpec, ScheduleSpec
from homespun.errors import Code, HomespunError


class Optimizer(Protocol):
    """Anything that can be written into a job as its update rule."""

    def to_spec(self) -> OptimizerSpec:
        """The update rule with every number."""
        ...


class Schedule(Protocol):
    """Anything that can be written into a job as its learning rate over steps."""

    def to_spec(self) -> ScheduleSpec:
        """The schedule with every number."""
        ...


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent, as `torch.optim.SGD`.

    Attributes:
        lr: learning rate, >= 0.
        momentum: in [0, 1).
        weight_decay: L2 factor, >= 0.
        nesterov: look-ahead form of the momentum; needs momentum > 0.
    """

    lr: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers outside their ranges."""
        _at_least_zero(self, lr=self.lr, weight_decay=self.weight_decay)
        _fraction(self, momentum=self.momentum)
        if self.nesterov and self.momentum == 0:
            raise HomespunError(
                Code.INVALID_ARGUMENT, "SGD: nesterov=True needs momentum > 0; it is 0.")

    def to_spec(self) -> OptimizerSpec:
        """The update rule with every number."""
        return OptimizerSpec(
            kind="sgd", learning_rate=float(self.lr), weight_decay=float(self.weight_decay),
            momentum=float(self.momentum), nesterov=bool(self.nesterov),
        )


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam with L2 weight decay, as `torch.optim.Adam`.

    Attributes:
        lr: learning rate, >= 0.
        betas: decay of the two running means, each in [0, 1).
        eps: added to the denominator, >= 0.
        weight_decay: L2 factor, >= 0.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers outside their ranges."""
        _at_least_zero(self, lr=self.lr, eps=self.eps, weight_decay=self.weight_decay)
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"{type(self).__name__}: betas must be two numbers; it is {self.betas!r}.")
        _fraction(self, beta1=self.betas[0], beta2=self.betas[1])

    def to_spec(self) -> OptimizerSpec:
        """The update rule with every number."""
        return OptimizerSpec(
            kind=type(self).__name__.lower(), learning_rate=float(self.lr),
            beta1=float(self.betas[0]), beta2=float(self.betas[1]), epsilon=float(self.eps),
            weight_decay=float(self.weight_decay),
        )


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`; attributes as of `Adam`."""

    weight_decay: float = 1e-2


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The optimizer's learning rate throughout, after `warmup_steps` of linear rise (>= 0)."""

    warmup_steps: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers outside their ranges."""
        _count(self, warmup_steps=self.warmup_steps)

    def to_spec(self) -> ScheduleSpec:
        """The schedule with every number."""
        return ScheduleSpec(kind="constant", warmup_steps=self.warmup_steps)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Linear decay to `final_ratio` of the learning rate.

    Attributes:
        warmup_steps: steps of linear rise before it, >= 0.
        total_steps: where the decay ends, warm-up included; 0 means the job's last step.
        final_ratio: share of the learning rate that is left then, in [0, 1].
    """

    warmup_steps: int = 0
    total_steps: int = 0
    final_ratio: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers outside their ranges."""
        _count(self, warmup_steps=self.warmup_steps, total_steps=self.total_steps)
        if not (_is_number(self.final_ratio) and 0 <= self.final_ratio <= 1):
            raise _wrong(self, "final_ratio", self.final_ratio, "a number from 0 to 1")

    def to_spec(self) -> ScheduleSpec:
        """The schedule with every number."""
        return ScheduleSpec(
            kind=type(self).__name__.lower(), warmup_steps=self.warmup_steps,
            total_steps=self.total_steps, final_ratio=float(self.final_ratio),
        )


@dataclass(frozen=True, kw_only=True)
class Cosine(Linear):
    """Cosine decay to `final_ratio` of the learning rate; attributes as of `Linear`."""


def _at_least_zero(owner: object, **values: float) -> None:
    for name, value in values.items():
        if not (_is_number(value) and value >= 0):
            raise _wrong(owner, name, value, "a finite number >= 0")


def _fraction(owner: object, **values: float) -> None:
    for name, value in values.items():
        if not (_is_number(value) and 0 <= value < 1):
            raise _wrong(owner, name, value, "a number >= 0 and < 1")


def _count(owner: object, **values: int) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise _wrong(owner, name, value, "a whole number >= 0")


def _is_number(value: object) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and math.isfinite(value))


def _wrong(owner: object, name: str, value: object, expected: str) -> HomespunError:
    return HomespunError(
        Code.INVALID_ARGUMENT,
        f"{type(owner).__name__}: {name} must be {expected}; it is {value!r}.",
        argument=name, value=value,
    )
