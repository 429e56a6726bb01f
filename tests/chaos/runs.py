"""Jobs under chaos: started, watched as events come in, and compared with the undisturbed run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks import churn_job, commit_history
from homespun.client import Client
from homespun.job import Job
from homespun.status import JobStatus
from tests.chaos.network import ChaosNetwork

WAIT_S = 180.0
"""Only so that what hangs fails with a name."""
SEGMENTS = 3
Weights = Mapping[str, bytes]


def arguments(steps: int, **changes: Any) -> dict[str, Any]:
    """Arguments of `Client.train`: a small transformer, with everything that has state or waits.

    Dropout draws numbers, clipping waits for all segments, the tied embedding crosses them.
    """
    return churn_job.arguments(steps) | changes


class JobFailed(AssertionError):  # noqa: N818 - what has happened, not an error of this program
    """A job did not do what it must under every fault."""


class Run:
    """One job, watched from a thread of its own.

    Attributes:
        job: the job.
        steps: how many it has.
        reference: weights of the undisturbed run of the same job.
    """

    reference: Weights

    def __init__(self, network: ChaosNetwork, job: Job, steps: int) -> None:
        self._network = network
        self.steps = steps
        self.job = job
        self.watch = churn_job.JobWatch(job)

    @classmethod
    def submit(
        cls, network: ChaosNetwork, client: Client, given: Mapping[str, Any],
        peers: int = SEGMENTS,
    ) -> Run:
        """Start a job."""
        return cls(network, client.train(**given, peers=peers), given["steps"])

    def until(
        self, is_so: Callable[[JobStatus], bool], what: str, timeout_s: float = WAIT_S
    ) -> JobStatus:
        """Wait until the job's status is as wanted; it must not end before."""
        in_time = self.watch.wait_for(is_so, timeout_s)
        status = self.watch.status
        if status is None or not in_time:
            raise JobFailed(f"not so within {timeout_s:.0f} s: {what}; the job: {shown(status)}")
        if not is_so(status):
            raise JobFailed(f"the job ended before {what}: {shown(status)}")
        return status

    def until_step(self, step: int, timeout_s: float = WAIT_S) -> JobStatus:
        """Wait until every segment has applied so many steps."""
        return self.until(
            lambda status: status.steps_done >= step, f"{step} steps are done", timeout_s)

    def until_moved(self, segment: int, token: int, beyond: int = 2) -> JobStatus:
        """Wait until a segment has another lease than `token`, and the job gets on with it."""
        moved = self.until(
            lambda status: status.state == "running" and status.segments[segment].token != token,
            f"segment {segment} has a new holder")
        return self.until_step(min(self.steps, moved.steps_done + beyond))

    def finished(self) -> JobStatus:
        """Wait for the end; it must have succeeded."""
        status = self.until(lambda status: status.is_final, "its end", 2 * WAIT_S)
        if status.state != "succeeded":
            raise JobFailed(f"the job has not succeeded: {shown(status)}")
        return status

    def weights(self, folder: Path) -> Weights:
        """Name -> bytes of each trained tensor, at the end."""
        self.finished()
        result = self.job.result(folder / f"{self.job.id}.safetensors")
        return {name: tensor.contiguous().view(torch.uint8).numpy().tobytes()
                for name, tensor in result.state_dict().items()}

    def history(self) -> commit_history.History:
        """What the journal says, at the end."""
        self.finished()
        return commit_history.read(self._network.broker_directory, self.job.id)

    def violations(self, folder: Path, reference: Weights) -> list[str]:
        """What must never be, in words: of the history, of the watcher, of the final weights."""
        found = self.history().violations(self.steps)
        if self.watch.seen != list(range(self.steps)):
            found.append("the watcher did not see each step once, in order")
        weights = self.weights(folder)
        different = [name for name in reference if weights.get(name) != reference[name]]
        if different or weights.keys() != reference.keys():
            found.append(f"{len(different)} of {len(reference)} tensors differ from the "
                         f"undisturbed run's, such as {different[:1]}")
        return found


def shown(status: JobStatus | None) -> str:
    """A status for a failed test."""
    if status is None:
        return "unknown"
    segments = [(segment.peer_name, segment.phase, segment.step, segment.waiting_for)
                for segment in status.segments]
    return (f"{status.state}, step {status.steps_done}, {status.error_code} "
            f"{status.error_message}, segments {segments}")
