"""When a change of what runs pays for what it costs: numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What changing a running plan is worth.

    Attributes:
        before_s: what a step takes now, > 0.
        after_s: what it should take then.
        stop_s: how long nothing new is done meanwhile.
        saved_s: what all steps that are left take less, the stop taken off; below 0: they take
            more.
        payback_s: after how long as much was done as without; infinite if never.
    """

    before_s: float
    after_s: float
    stop_s: float
    saved_s: float
    payback_s: float

    def pays(self, *, least_saved_s: float, least_share: float) -> bool:
        """Whether it saves enough: in all, and of each step, as predictions may be wrong."""
        return self.saved_s > least_saved_s and (
            self.before_s - self.after_s >= least_share * self.before_s)


def worth(before_s: float, after_s: float, stop_s: float, steps_left: int) -> Worth:
    """Weigh a stop against shorter steps after it.

    Args:
        before_s: what a step takes now, > 0.
        after_s: what it should take then, > 0.
        stop_s: how long nothing new is done meanwhile, >= 0.
        steps_left: to do, >= 0.
    """
    return Worth(
        before_s=before_s, after_s=after_s, stop_s=stop_s,
        saved_s=(before_s - after_s) * steps_left - stop_s,
        payback_s=seconds_to_pay(after_s, stop_s, before_s, 0.0))


def seconds_to_pay(
    value_s: float, move_s: float, base_value_s: float, base_move_s: float
) -> float:
    """After how long one way has made more passes than another; infinite if never.

    Solves (T - M') / v' = (T - M) / v for T.

    Args:
        value_s: what a pass takes in the one way.
        move_s: what has to be moved before its first pass.
        base_value_s: the same of the other way.
        base_move_s: the same of the other way.
    """
    if value_s >= base_value_s:
        return 0.0 if move_s < base_move_s else inf
    later = move_s * base_value_s - base_move_s * value_s
    return max(0.0, later / (base_value_s - value_s))
