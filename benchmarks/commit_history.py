"""What really happened to a job: the broker's journal, applied again by the broker's own core.

The journal is the truth that survives every crash, with the time of each event. Applying it again
gives the moment of each commit, every grant, and every report that was refused; and the core checks
its invariants after each event once more.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.core import commands as do
from broker.core import views
from broker.core.machine import Broker
from broker.journal import Journal

STALE, LOST = "stale_token", "peer_lost"
"""Notes of the core."""
PAUSE_RATIO, PAUSE_S = 1.5, 0.5
"""So many usual pauses, and so many seconds more, are taken for the fault's doing."""
USUAL_COMMITS = 30
"""Before a fault, that say what is usual."""


def recovered_after(commits: Sequence[float], at_s: float, until_s: float) -> float:
    """Seconds from a fault to the commit that ended the longest pause after it.

    What was already under way at the fault may still be committed; it shows no recovery. Where no
    pause is clearly longer than usual, nobody stood still: then to the first commit.

    Args:
        commits: times of commits, Unix seconds, oldest first.
        at_s: when the fault happened.
        until_s: only pauses that end before count.

    Raises:
        LookupError: nothing was committed in that time.
    """
    usual_s = usual_pause([at for at in commits if at <= at_s][-USUAL_COMMITS:])
    times = [at_s, *(at for at in commits if at_s < at <= until_s)]
    if len(times) == 1:
        raise LookupError(f"no step was committed within {until_s - at_s:.1f} s of the fault")
    pauses = [(end - begin, end) for begin, end in itertools.pairwise(times)]
    longest_s, end_s = max(pauses)
    stood_still = longest_s > PAUSE_RATIO * usual_s + PAUSE_S
    return (end_s if stood_still else times[1]) - at_s


def usual_pause(commits: Sequence[float]) -> float:
    """Median seconds from commit to commit; 0 of fewer than two."""
    pauses = [end - begin for begin, end in itertools.pairwise(commits)]
    return statistics.median(pauses) if pauses else 0.0


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
        deaths: how often a peer was taken for dead while the job ran.
        broken: what the core found broken while the journal was applied again; "" for nothing.
    """

    commits: tuple[float, ...]
    grants: tuple[Grant, ...]
    stale_reports: int
    deaths: int = 0
    broken: str = ""

    def recovered_after(self, at_s: float, until_s: float) -> float:
        """As the function of this name, of this job's commits."""
        return recovered_after(self.commits, at_s, until_s)

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
    notes: Counter[str] = Counter()
    broken = ""
    for _, event in journal.replay():
        at_s = event.at_ns / 1e9
        try:
            commands: Sequence[do.AnyCommand] = core.apply(event)
        except Exception as error:  # it says which invariant, and that is the finding
            broken = f"{type(error).__name__}: {error}"
            break
        job = views.job(core, job_id)
        if job is None:
            continue
        for command in commands:
            if isinstance(command, do.AssignSegment) and command.job_id == job_id:
                # A peer that reconnects is told its lease again.
                grants.setdefault(command.token, Grant(
                    at_s=at_s, segment=command.segment.index, token=command.token,
                    peer_id=command.peer_id))
            elif isinstance(command, do.Note):
                notes[command.event] += 1
        if job.steps_done < len(commits):
            broken = f"{len(commits)} steps were done, then {job.steps_done}"
            break
        commits += [at_s] * (job.steps_done - len(commits))
        if job.has_ended:
            break
    return History(
        commits=tuple(commits), grants=tuple(grants.values()), stale_reports=notes[STALE],
        deaths=notes[LOST], broken=broken)
