"""When what is sent arrives, where each peer has one uplink and one downlink for all it exchanges.

A middle peer of a pipeline sends activations on and gradients back over the same line, which at
home is the narrowest there is. First come, first served; real TCP shares fairly, which takes as
long in all.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One direction of a transfer, by segments, each of which has a peer of its own.

    Attributes:
        source, target: segments.
        takes_s: from an idle source to an idle target, without latency.
        up_s: how long it keeps others from the source's uplink, at most `takes_s`; 0: not at all.
        down_s: the same of the target's downlink.
        latency_s: after which what was sent arrives; occupies nothing.
    """

    source: int
    target: int
    takes_s: float
    up_s: float
    down_s: float
    latency_s: float


@dataclass(slots=True)
class Lines:
    """When each line is free again. Mutable: the state of one run in virtual time."""

    _pair: dict[tuple[int, int], float] = field(default_factory=dict)
    _up: dict[int, float] = field(default_factory=dict)
    _down: dict[int, float] = field(default_factory=dict)

    def arrival_s(self, sending: Sending, now_s: float) -> float:
        """When something arrives that is sent now. `now_s` never goes back."""
        pair = sending.source, sending.target
        begin_s = max(now_s, self._pair.get(pair, 0.0))
        if sending.up_s > 0:
            begin_s = max(begin_s, self._up.get(sending.source, 0.0))
            self._up[sending.source] = begin_s + sending.up_s
        end_s = begin_s + sending.takes_s
        if sending.down_s > 0:
            end_s = max(end_s, self._down.get(sending.target, 0.0) + sending.down_s)
            self._down[sending.target] = end_s
        self._pair[pair] = end_s
        return end_s + sending.latency_s
