"""Reports to the broker: numbered, kept until acknowledged, sent again after a reconnect."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from peer.core.commands import ReportBody, SendReport, StepsBody

MERGED_STEPS_MAX = 65_536
"""Steps in one merged report: half a megabyte of losses, far below the limit of a message."""


@dataclass(slots=True)
class ReportQueue:
    """What the broker has not journalled yet. Mutable; owned by `machine.Peer`.

    While the broker is away, consecutive `StepsBody` reports of one segment merge, so an outage
    costs a report per evaluation or `MERGED_STEPS_MAX` steps, and eight bytes per step.

    Attributes:
        next_number: number of the next report, >= 1.
        is_connected: whether a stream is up.
        unsent_from: reports from this number on were never sent, so they may still change.
        pending: numbered without gap, the last one `next_number - 1`.
    """

    next_number: int = 1
    is_connected: bool = False
    unsent_from: int = 1
    pending: list[SendReport] = field(default_factory=list)

    def add(self, job_id: str, segment: int, token: int, body: ReportBody) -> list[SendReport]:
        """Queue a report; returns what to send now."""
        report = SendReport(
            job_id=job_id, segment=segment, token=token, number=self.next_number, body=body
        )
        if not self.is_connected and self._merge(report):
            return []
        self.pending.append(report)
        self.next_number += 1
        if not self.is_connected:
            return []
        self.unsent_from = self.next_number
        return [report]

    def connect(self, last_report: int) -> list[SendReport]:
        """The stream is up and the broker knows reports through `last_report`: send the rest.

        What `last_report` acknowledges was given to `acknowledge` before.
        """
        if self.next_number <= last_report:
            self._renumber(last_report + 1)
        self.is_connected = True
        self.unsent_from = self.next_number
        return list(self.pending)

    def disconnect(self) -> None:
        """The stream ended."""
        self.is_connected = False

    def acknowledge(self, through_number: int) -> list[SendReport]:
        """Forget what is journalled; returns it."""
        done = [report for report in self.pending if report.number <= through_number]
        self.pending = [report for report in self.pending if report.number > through_number]
        return done

    def _renumber(self, first: int) -> None:
        """A restarted daemon counts from 1 again, but the broker's count goes on."""
        self.pending = [
            replace(report, number=first + offset) for offset, report in enumerate(self.pending)
        ]
        self.next_number = first + len(self.pending)

    def _merge(self, report: SendReport) -> bool:
        if not self.pending or not isinstance(report.body, StepsBody):
            return False
        last = self.pending[-1]
        mergeable = (
            isinstance(last.body, StepsBody)
            and last.number >= self.unsent_from
            and (last.job_id, last.segment, last.token)
            == (report.job_id, report.segment, report.token)
            and last.body.count < MERGED_STEPS_MAX
        )
        if mergeable and isinstance(last.body, StepsBody):
            body = replace(
                last.body,
                count=last.body.count + report.body.count,
                losses=last.body.losses + report.body.losses,
            )
            self.pending[-1] = replace(last, body=body)
        return mergeable
