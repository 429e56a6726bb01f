"""Runs the cases of one network for `prediction`: started in the broker's network namespace.

    python -m benchmarks.prediction_worker --directory DIR --sites JSON --cases JSON

Starts a broker and the peers of each fleet in turn, waits until every link is measured, runs the
cases one after the other, and prints one line of JSON for each.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.prediction_models import MODELS
from dag.placement import Infeasible
from homespun.client import Client
from homespun.fleet import fleet_of
from homespun.job import Job
from homespun.job_requests import Answer, JobRequests
from homespun.local_network import LocalNetwork, Site
from homespun.optimizers import AdamW
from homespun.plan.job_plan import plan_job
from homespun.plan.job_problem import JobPlanner
from homespun.status import JobStatus

WARM_UP_STEPS = 2
MEASURED_STEPS = 8
PRACTICE_STEPS = 5
PRACTICE_JOBS = 2
"""On each torch peer before a job: real tasks correct what a peer's first measurement says of it,
half of the error at a time, so the plan that counts is that of a fleet which has seen such work."""
INFERENCE_MICROBATCHES = 100
"""So many that filling the pipeline hardly shows, and each is reported."""
JOB_TIMEOUT_S = 120.0
PACES = (0.010, 0.006, 0.008, 0.004)
"""Speeds of the paced peers, of 1 TFLOP/s: unequal, and slow enough that sleeping is exact."""
FLEETS: Mapping[str, int] = {"torch": 2, "paced": len(PACES)}
"""Fleet -> peers in it. Torch peers compute for real, so no more than the machine has cores."""
PACE_VARIABLE = "HOMESPUN_NULL_PACE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One configuration.

    Attributes:
        network: name of the emulated network.
        fleet: `torch` (real computing) or `paced` (computing takes the stated time, asleep).
        model: a name of `MODELS`.
        peers: how many the job asks for.
        microbatches: of a training step.
        batch: samples of a training step; rows of a microbatch for inference.
        kind: `train` or `infer`.
        clip_norm: as of the job.
    """

    network: str
    fleet: str
    model: str
    peers: int
    microbatches: int
    batch: int
    kind: str = "train"
    clip_norm: float = 0.0

    @property
    def name(self) -> str:
        """What tells it from all others."""
        flow = "inference" if self.kind == "infer" else f"{self.microbatches} microbatches"
        clipped = " clipped" if self.clip_norm else ""
        return (f"{self.network} {self.fleet} {self.model} {self.peers} peers {flow} of "
                f"{self.batch}{clipped}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came out.

    Attributes:
        case: which.
        predicted_s: the plan's step.
        first_predicted_s: the same before the peers had practised; 0 where they did not.
        limited_by: what the planner says limits it.
        step_s: the measured steps after warm-up; of inference their mean.
        moments_unix_s: when they began, and when the last one ended.
        segments: number of nodes of each.
        summaries: what each segment's peer said of its time.
    """

    case: Case
    predicted_s: float
    first_predicted_s: float
    limited_by: str
    step_s: tuple[float, ...]
    moments_unix_s: tuple[float, ...]
    segments: tuple[int, ...]
    summaries: tuple[Mapping[str, Any], ...]


class Bench:
    """A local network on which cases run one after the other."""

    def __init__(self, directory: Path, sites: Mapping[str, Site]) -> None:
        self._network = LocalNetwork(directory, 0, sites=sites)
        self._fleet: list[str] = []
        self._joined = 0

    def run(self, cases: Sequence[Case]) -> Iterator[Measured]:
        """Measure, fleet by fleet."""
        with self._network as network, network.client() as client:
            for fleet in dict.fromkeys(case.fleet for case in cases):
                mine = [case for case in cases if case.fleet == fleet]
                self._start(fleet)
                for case in mine:
                    yield self._measure(client, case)
                for name in self._fleet:
                    network.stop(name)

    def _start(self, fleet: str) -> None:
        """Start a fleet's peers one after the other, so that no probe disturbs another."""
        self._fleet = []
        for number in range(FLEETS[fleet]):
            place, environment = self._joined, {}
            flags = []
            if fleet == "paced":
                flags = ["--executor=null"]
                environment = {PACE_VARIABLE: str(PACES[number])}
            self._network.join_peer(place, *flags)
            self._network.start_peer(place, environment=environment)
            self._fleet.append(f"peer-{place}")
            self._joined += 1
            self._network.wait_for_peers(number + 1)
            self._network.wait_until(self._is_measured, "every link is measured")
        print(f"{fleet} peers are ready: lines of {self._bandwidths()} MB/s", file=sys.stderr)

    def _live(self) -> list[dict[str, Any]]:
        return [peer for peer in self._network.peers() if peer["state"] == "live"]

    def _bandwidths(self) -> str:
        """Of every measured line between live peers, for the log."""
        live = self._live()
        ids = {peer["peer_id"] for peer in live}
        return ", ".join(
            f"{link['bandwidth_bytes_per_s'] / 1e6:.3g}" for peer in live for link in peer["links"]
            if link["to_peer"] in ids)

    def _is_measured(self) -> bool:
        live = self._live()
        ids = {peer["peer_id"] for peer in live}
        links = sum(link["to_peer"] in ids for peer in live for link in peer["links"])
        return links >= len(ids) * (len(ids) - 1)

    def _measure(self, client: Client, case: Case) -> Measured:
        first_s = self._practise(client, case) if case.fleet == "torch" else 0.0
        limited_by = self._limit(client, case)
        job = _submit(client, case, WARM_UP_STEPS + MEASURED_STEPS)
        if case.kind == "infer":
            status, times, steps = _follow(job)
        else:
            status = job.wait(JOB_TIMEOUT_S)
            times = [metric.unix_ms / 1000 for metric in job.curves().steps][WARM_UP_STEPS - 1:]
            steps = [after - before for before, after in pairwise(times)]
        if (error := status.error()) is not None:
            raise error
        return Measured(
            case=case, predicted_s=status.predicted_step_s, first_predicted_s=first_s,
            limited_by=limited_by, step_s=tuple(steps),
            moments_unix_s=tuple(times),
            segments=tuple(segment.nodes for segment in status.segments),
            summaries=self._summaries(status))

    def _practise(self, client: Client, case: Case) -> float:
        """Run short jobs of the same kind; what the plan of the first one predicted."""
        predicted = []
        for _ in range(PRACTICE_JOBS * FLEETS[case.fleet] // case.peers):
            status = _submit(client, case, PRACTICE_STEPS).wait(JOB_TIMEOUT_S)
            if (error := status.error()) is not None:
                raise error
            predicted.append(status.predicted_step_s)
        return predicted[0]

    def _limit(self, client: Client, case: Case) -> str:
        """Plan the same job here, for what the planner says of it."""
        fleet = fleet_of(client._connection)
        plan = plan_job(_submit(JobPlanner(fleet.cluster), case, WARM_UP_STEPS + MEASURED_STEPS))
        if isinstance(plan, Infeasible):
            return plan.refusals[0].text
        text = plan.limited_by
        for peer in fleet.peers:
            text = text.replace(peer.resources.peer_id, peer.name)
        return text

    def _summaries(self, status: JobStatus) -> tuple[Mapping[str, Any], ...]:
        """What each peer logged when it let go of its segment."""
        found = []
        for segment in status.segments:
            deadline = time.monotonic() + 10.0
            while time.monotonic() < deadline:
                lines = [line for line in self._network.log(segment.peer_name).splitlines()
                         if '"lease_summary"' in line and status.job_id in line]
                if lines:
                    found.append(json.loads(lines[-1]))
                    break
                time.sleep(0.1)
        return tuple(found)


def _submit(asked: JobRequests[Answer], case: Case, steps: int) -> Answer:
    model = MODELS[case.model]
    if case.kind == "infer":
        rows = model.rows(case.batch * INFERENCE_MICROBATCHES)
        return asked.infer(
            model.make(), {name: rows[name] for name in model.inputs}, batch_size=case.batch,
            peers=case.peers, name=case.name[:100])
    return asked.train(
        model.make(), data=dict(model.rows(max(64, case.batch))), loss=model.loss,
        optimizer=AdamW(lr=1e-4), steps=steps, batch_size=case.batch,
        microbatches=case.microbatches, clip_norm=case.clip_norm, peers=case.peers,
        name=case.name[:100])


def _follow(job: Job) -> tuple[JobStatus, list[float], list[float]]:
    """Follow an inference job: its first and last report after warm-up, and the mean between."""
    seen: list[tuple[float, int]] = []
    for update in job.updates(timeout_s=JOB_TIMEOUT_S):
        done = update.status.steps_done
        if done >= WARM_UP_STEPS and (not seen or done > seen[-1][1]):
            seen.append((time.time(), done))
    (began_s, first), (ended_s, last) = seen[0], seen[-1]
    return update.status, [began_s, ended_s], [(ended_s - began_s) / (last - first)]


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--sites", type=json.loads, required=True)
    parser.add_argument("--cases", type=json.loads, required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started has to end, too
    torch.set_num_threads(1)
    sites = {name: Site(address=site["address"], command=tuple(site["command"]))
             for name, site in options.sites.items()}
    for measured in Bench(options.directory, sites).run([Case(**case) for case in options.cases]):
        print(json.dumps(asdict(measured)), flush=True)


if __name__ == "__main__":
    main()
