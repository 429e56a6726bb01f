"""Tells peers why they run nothing: seldom, and only when that has changed."""

from __future__ import annotations

import time
from collections.abc import Callable

from broker.core.no_work import NoWorkReason, Refusals, counted_refusals, no_work
from broker.core.state import State
from broker.rpc.bounds import shown
from homespun.v1 import session_pb2

COUNT_EVERY_S = 10.0
"""Counting looks at every job's plan, for all peers at once."""


class NoWorkDesk:
    """Counts now and then, and remembers what each session was told."""

    def __init__(
        self, state: Callable[[], State], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Count over the state of a core."""
        self._state = state
        self._now_s = now_s
        self._counted: tuple[float, Refusals] | None = None

    def news_for(
        self, peer_id: str, told: tuple[NoWorkReason, ...]
    ) -> tuple[NoWorkReason, ...] | None:
        """What to tell a peer that was told something before; None for nothing new."""
        reasons = no_work(self._state(), peer_id, self._refusals())
        return None if reasons == told else reasons

    def _refusals(self) -> Refusals:
        now_s = self._now_s()
        if self._counted is None or now_s - self._counted[0] >= COUNT_EVERY_S:
            self._counted = now_s, counted_refusals(self._state())
        return self._counted[1]


def no_work_message(reasons: tuple[NoWorkReason, ...]) -> session_pb2.BrokerMessage:
    """The reasons for the wire."""
    return session_pb2.BrokerMessage(no_work=session_pb2.NoWork(reasons=[
        session_pb2.NoWorkReason(
            rule=each.rule, jobs=each.jobs, text=shown(each.text), change=each.change)
        for each in reasons]))
