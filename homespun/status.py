"""What the broker says about a job, as frozen values (fields as in `jobs.proto`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from dag.placement import Refusal
from homespun.errors import Code, HomespunError, JobFailed
from ir.graph import INFER, TRAIN

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """Payload bytes that a segment's peer has sent to another peer for this job."""

    to_peer: str
    sent_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStatus:
    """Where a segment runs and how far it is.

    Attributes:
        segment: its number.
        peer_id: the peer that holds its lease.
        peer_name: that peer's name for people.
        token: the lease's fencing number.
        phase: `assigned`, `ready`, `running`, `finished`, `revoked` or `released`; with the last
            two nobody holds the segment.
        step: optimizer steps that it has applied.
        waiting_for: what it waits for; empty while it computes.
        waiting_ms: for how long it has waited.
        nodes: how many graph nodes it runs.
        parameter_bytes: size of its own parameters.
        memory_bytes: predicted peak of device memory.
        links: traffic to its neighbours.
    """

    segment: int
    peer_id: str
    peer_name: str
    token: int
    phase: str
    step: int
    waiting_for: str
    waiting_ms: int
    nodes: int
    parameter_bytes: int
    memory_bytes: int
    links: tuple[LinkStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recut:
    """A job was cut into other segments while it ran, as that pays with the peers that came.

    Attributes:
        position: step at which all segments of the new cut began.
        segments_before: their number.
        segments_after: their number since.
        before_s: time of a step, measured before.
        after_s: expected time of a step.
        stop_s: expected pause.
        saved_s: expected to be saved in all.
        payback_s: after how long as much is done as without.
        unix_ms: when.
    """

    position: int
    segments_before: int
    segments_after: int
    before_s: float
    after_s: float
    stop_s: float
    saved_s: float
    payback_s: float
    unix_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialResult:
    """What a training job that was cancelled or has failed leaves: parameters, at a step.

    Attributes:
        position: the step before which they were so: so many updates had been made.
        pieces: blobs that make them up, of one segment each.
        stored: those that the broker has.
        until_unix_ms: others are waited for until then at most; 0 once nothing more comes.
        missing: then, a sentence for each that could not be had. Empty: all are here.
    """

    position: int
    pieces: int
    stored: int
    until_unix_ms: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobStatus:
    """A job at one moment.

    Attributes:
        job_id: its id.
        name: its name for people.
        owner_id: who submitted it.
        owner_name: what its owner calls itself; "" where that is not known.
        state: `submitted`, `planning`, `preparing`, `running`, `recovering` (a segment moves to
            another peer, or waits for one), `succeeded`, `failed`, `cancelled`.
        steps_done: optimizer steps that every segment has applied.
        steps_total: optimizer steps to do.
        last_loss: loss of step `last_loss_step`; only where `has_loss`.
        has_loss: whether a loss is known.
        last_loss_step: the step of `last_loss`.
        first_loss: loss of step 0.
        error_code: an error code where it failed, else empty.
        error_message: why it failed; before its end, why it waits (see `reason`).
        submitted_unix_ms: when it came.
        finished_unix_ms: when it ended; 0 before.
        segments: in segment order; empty until placed.
        idle: peers that are left out, and why.
        algorithm: the placer whose plan is used.
        predicted_step_s: predicted time of a step.
        batch_size: samples per step.
        samples_done: samples worked on so far.
        last_validation_loss: the latest one; only where `has_validation_loss`.
        has_validation_loss: whether one is known.
        kind: `train` or `infer`. A step of inference is one microbatch of `batch_size` rows.
        samples_total: samples that the whole job works on; of inference the rows to predict.
        growth: what was decided last about peers that came, and why; "" before the first time.
        recuts: when it was cut into other segments for peers that came, oldest first.
        partial: what it leaves, if it has ended without a result and leaves something.
    """

    job_id: str
    name: str
    owner_id: str
    state: str
    steps_done: int
    steps_total: int
    last_loss: float
    has_loss: bool
    last_loss_step: int
    first_loss: float
    error_code: str
    error_message: str
    submitted_unix_ms: int
    finished_unix_ms: int
    segments: tuple[SegmentStatus, ...]
    idle: tuple[Refusal, ...]
    algorithm: str
    predicted_step_s: float
    batch_size: int
    samples_done: int
    last_validation_loss: float
    has_validation_loss: bool
    kind: str = TRAIN
    samples_total: int = 0
    growth: str = ""
    recuts: tuple[Recut, ...] = ()
    owner_name: str = ""
    partial: PartialResult | None = None

    @property
    def owner(self) -> str:
        """Who submitted it, for people: name and id."""
        return f"{self.owner_name} ({self.owner_id})" if self.owner_name else self.owner_id

    def __repr__(self) -> str:
        from homespun.progress import headline_of

        return f"JobStatus({self.job_id}: {headline_of(self)})"

    def _repr_html_(self) -> str:
        from homespun.notebook import job_html
        from homespun.progress import Progress

        progress = Progress()
        progress.see(JobUpdate(status=self, steps=(), evaluations=()))
        return job_html(self.job_id, progress)

    @property
    def progress(self) -> tuple[int, int, str]:
        """What is done, of how much, in which unit: steps, or rows where they are predicted."""
        if self.kind == INFER:
            return self.samples_done, self.samples_total, "row"
        return self.steps_done, self.steps_total, "step"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended, one way or another."""
        return self.state in FINAL_STATES

    @property
    def reason(self) -> str:
        """Why a job that has not ended waits or recovers; empty if it does neither."""
        return "" if self.is_final else self.error_message

    def error(self) -> HomespunError | None:
        """Why the job did not succeed, as the error to raise; None while it has not failed."""
        done, total, unit = self.progress
        if self.state == "cancelled":
            return HomespunError(
                Code.CANCELLED, f"Job {self.job_id} was cancelled after {done} of {total} {unit}s."
                                f"{self._left()}", job=self.job_id)
        if self.state != "failed":
            return None
        known = self.error_code in Code.__members__
        code = Code(self.error_code) if known else Code.INTERNAL
        return JobFailed(
            code, f"Job {self.job_id} failed after {done} of {total} {unit}s: "
                  f"{self.error_message or self.error_code}{self._left()}", job=self.job_id)

    def _left(self) -> str:
        """A sentence about what can still be had of it, if anything can."""
        if self.partial is None or self.partial.missing:
            return ""
        return (f" Its parameters of step {self.partial.position} can be had: "
                f"homespun download {self.job_id} --partial, or result(partial=True) in Python.")

    def to_dict(self) -> dict[str, object]:
        """The same as plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetric:
    """Training loss of one step (numbered from 0), and when it was reported."""

    step: int
    loss: float
    unix_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationMetric:
    """Validation loss after `step` optimizer steps, and when it was reported."""

    step: int
    loss: float
    unix_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobMetrics:
    """The curves of a job, by step."""

    steps: tuple[StepMetric, ...]
    evaluations: tuple[EvaluationMetric, ...]

    def __repr__(self) -> str:
        last = f", the last {self.steps[-1].loss:.4f}" if self.steps else ""
        return (f"JobMetrics({len(self.steps)} training losses{last}; "
                f"{len(self.evaluations)} validation losses)")

    def to_dict(self) -> dict[str, object]:
        """The same as plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUpdate:
    """What changed since the update before: the status, and metrics that are new."""

    status: JobStatus
    steps: tuple[StepMetric, ...]
    evaluations: tuple[EvaluationMetric, ...]
