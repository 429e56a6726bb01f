"""What really happened to a job: the broker's journal, applied again by the broker's own core.

The journal is the truth that survives every crash, with the time of each event. Applying it again
gives the moment of each commit, every grant, and every report that was refused; and the core checks
its invariants after each event once more.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.core import commands as do
from broker.core import views
from broker.core.machine import Broker
from broker.journal import Journal

STALE = "stale_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One lease that the broker granted."""

    at_s: float
    segment: int
    token: int
    peer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One job's past.

    Attributes:
        commits: when step `i` had been applied by every segment, Unix seconds, at index `i`.
        grants: every lease, oldest first.
        stale_reports: reports that were refused for an old token.
        broken: what the core found broken while the journal was applied again; "" for nothing.
    """

    commits: tuple[float, ...]
    grants: tuple[Grant, ...]
    stale_reports: int
    broken: str = ""

    def recovered_after(self, at_s: float, until_s: float) -> float:
        """Seconds from a fault to the commit that ended the longest pause after it.

        What was already under way at the fault may still be committed; it shows no recovery.

        Args:
            at_s: when the fault happened, Unix seconds.
            until_s: only pauses that end before count.

        Raises:
            LookupError: nothing was committed in that time.
        """
        times = [at_s, *(at for at in self.commits if at_s < at <= until_s)]
        if len(times) == 1:
            raise LookupError(f"no step was committed within {until_s - at_s:.1f} s of the fault")
        pauses = [(end - begin, end) for begin, end in itertools.pairwise(times)]
        return max(pauses)[1] - at_s

    def violations(self, steps: int) -> list[str]:
        """What must never be, in words; empty when all is well."""
        found = [self.broken] if self.broken else []
        if len(self.commits) != steps:
            found.append(f"{len(self.commits)} steps were committed, not {steps}")
        tokens = [grant.token for grant in self.grants]
        if len(set(tokens)) != len(tokens):
            found.append("a token was granted twice")
        return found


def read(broker_directory: Path, job_id: str) -> History:
    """The history of a job, from a copy of the journal. The broker may run, but must be idle."""
    with tempfile.TemporaryDirectory() as folder:
        for file in broker_directory.glob("journal.sqlite*"):
            shutil.copy(file, folder)
        (Path(folder) / "journal.sqlite-shm").unlink(missing_ok=True)
        journal = Journal.open(Path(folder) / "journal.sqlite")
        try:
            return _replayed(journal, job_id)
        finally:
            journal.close()


def _replayed(journal: Journal, job_id: str) -> History:
    core = Broker()
    commits: list[float] = []
    grants: dict[int, Grant] = {}
    stale, broken = 0, ""
    for _, event in journal.replay():
        at_s = event.at_ns / 1e9
        try:
            commands: Sequence[do.AnyCommand] = core.apply(event)
        except Exception as error:  # it says which invariant, and that is the finding
            broken = f"{type(error).__name__}: {error}"
            break
        for command in commands:
            if isinstance(command, do.AssignSegment) and command.job_id == job_id:
                # A peer that reconnects is told its lease again.
                grants.setdefault(command.token, Grant(
                    at_s=at_s, segment=command.segment.index, token=command.token,
                    peer_id=command.peer_id))
            stale += isinstance(command, do.Note) and command.event == STALE
        job = views.job(core, job_id)
        done = 0 if job is None else job.steps_done
        if done < len(commits):
            broken = f"{len(commits)} steps were done, then {done}"
            break
        commits += [at_s] * (done - len(commits))
    return History(commits=tuple(commits), grants=tuple(grants.values()), stale_reports=stale,
                   broken=broken)
