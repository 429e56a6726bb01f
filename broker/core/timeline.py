"""Timelines: who had which segment of a job, and when. For people, no part of the state.

Read off the leases after each event, so a replay gives the same.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from broker.core import limits
from broker.core.state import JobRecord, LeasePhase, LeaseRecord, State

_OVER = frozenset({LeasePhase.FINISHED, LeasePhase.REVOKED, LeasePhase.RELEASED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One peer's time with one segment; times are Unix time, 0 for not yet.

    Attributes:
        segment: its number.
        peer_id: who had it.
        token: of the lease.
        position: where the peer began.
        assigned_at_ns: when it was told to load the segment.
        running_at_ns: when it began to work.
        ended_at_ns: when it had the result stored, or the lease was taken back.
        end: `finished` or `revoked`; "" while it holds the segment.
        reason: why it had the segment, where another peer had it before; "" where it was planned.
    """

    segment: int
    peer_id: str
    token: int
    position: int
    assigned_at_ns: int
    running_at_ns: int = 0
    ended_at_ns: int = 0
    end: str = ""
    reason: str = ""


class Timelines:
    """Of the `limits.TIMELINES` jobs that changed last."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, dict[int, Span]] = OrderedDict()

    def record(self, state: State, touched: list[str]) -> None:
        """Look at the leases of the jobs among an event's subjects. Cost: O(their segments)."""
        for subject in touched:
            job = state.jobs.get(subject)
            if job is not None:
                self._look(state.now_ns, job)
        while len(self._jobs) > limits.TIMELINES:
            self._jobs.popitem(last=False)

    def of(self, job_id: str) -> tuple[Span, ...]:
        """The spans of a job by segment, then in order of time; empty when it has none."""
        spans = self._jobs.get(job_id, {}).values()
        return tuple(sorted(spans, key=lambda span: (span.segment, span.token)))

    def _look(self, now_ns: int, job: JobRecord) -> None:
        spans = self._jobs.setdefault(job.job_id, {})
        self._jobs.move_to_end(job.job_id)
        held = {lease.token: lease for lease in job.leases}
        for token, lease in held.items():
            known = spans.get(token)
            span = _advanced(known or _begun(now_ns, lease), now_ns, lease)
            if span is not known:
                spans[token] = span
        for token in [token for token, span in spans.items() if not span.end]:
            if token not in held:
                spans[token] = replace(spans[token], ended_at_ns=now_ns, end="revoked")
        while len(spans) > limits.TIMELINE_SPANS:
            del spans[min(spans)]


def _begun(now_ns: int, lease: LeaseRecord) -> Span:
    return Span(segment=lease.index, peer_id=lease.peer_id, token=lease.token,
                position=lease.position, assigned_at_ns=now_ns, reason=lease.reason)


def _advanced(span: Span, now_ns: int, lease: LeaseRecord) -> Span:
    """The span with what its lease says that is new; itself if nothing is."""
    if lease.phase is LeasePhase.RUNNING and not span.running_at_ns:
        return replace(span, running_at_ns=now_ns)
    if lease.phase in _OVER and not span.end:
        # The last segment of a job finishes and is revoked by one event.
        end = "finished" if lease.result_digest else "revoked"
        return replace(span, ended_at_ns=now_ns, end=end)
    return span
