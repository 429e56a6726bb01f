"""What a daemon and its executor process say to each other, besides tensors.

Frozen values, sent as JSON inside CONTROL frames. The process on the other side of the pipe is our
own child, but decoding is strict all the same: a mismatch is a defect and must be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from dag.cluster import PeerRates
from dag.cost import WorkSeconds
from dag.job import TrainingSpec
from homespun.errors import Code, HomespunError
from ir.segment import Segment
from peer.core.events import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFile:
    """A safetensors file with one tensor."""

    name: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a dataset split on disk."""

    name: str
    split: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Daemon to executor: compile a segment. Answer: `Loaded` or `Failed`.

    May come again in the same process: the segment that was loaded goes first.

    Attributes:
        kind: of the job, `train` or `infer`.
        rows: to predict, if it is inference; else 0.
        result_path: the file that predictions are written to meanwhile.
        rates: of the device, to say what the segment should take.
    """

    graph_path: str
    segment: Segment
    training: TrainingSpec
    trainable: tuple[str, ...]
    parameters: tuple[TensorFile, ...]
    columns: tuple[Column, ...]
    kind: str
    rows: int
    result_path: str
    rates: PeerRates


@dataclass(frozen=True, slots=True, kw_only=True)
class Unload:
    """Daemon to executor: drop the loaded segment and free what it took. Has no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Daemon to executor: take a loaded segment's state from its snapshot, or from several.

    Answer: `Restored` or `Failed`. Before `Restored` come, as frames of step `position`, the
    segment's parameters that other segments use: who goes on from there too has nobody else to get
    them from, and who has had them drops them.

    Attributes:
        path: its snapshot; "" where there are parts.
        position: optimizer steps done before it; of inference microbatches.
        parts: snapshots of other segments, which have its state together.
    """

    path: str
    position: int
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeSnapshot:
    """Daemon to executor: copy the state now, write it beside the next tasks.

    Answer: `SnapshotWritten` when the file is there, or `SnapshotNotWritten`; tasks may be answered
    before it. One is written at a time: a second one, and the tasks behind it, wait for the first.

    Attributes:
        path: overwritten if it is there; until then the file is `path` with ".part" behind it.
        position: where the segment is; of inference that many microbatches or more are predicted.
    """

    path: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The segment goes on from a snapshot."""

    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotWritten:
    """A snapshot is on disk.

    Attributes:
        path: where.
        position: which.
        size_bytes: of the file.
        copy_s: time that the segment stood still, waiting for an earlier snapshot included.
        write_s: time that writing took beside it.
    """

    path: str
    position: int
    size_bytes: int
    copy_s: float
    write_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotNotWritten:
    """A snapshot failed; the segment goes on."""

    position: int
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Daemon to executor: run a task; its tensors were sent before. Answer: `Done` or `Failed`."""

    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Daemon to executor: finish the result file. Answer: `Exported` or `Failed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The framework is loaded, or not: the first message of every executor process.

    Attributes:
        code, message: why it could not be loaded; "" if it was. It is tried again with a segment.
    """

    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The segment can run.

    Attributes:
        numeric_class: of the executor.
        predicted: what one microbatch should take, by kind of work.
        forward_flops, backward_flops: operations of one microbatch, as the operators' costs say;
            what is computed again for backward does not count.
    """

    numeric_class: str
    predicted: tuple[WorkSeconds, ...]
    forward_flops: int = 0
    backward_flops: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A task is finished; its tensors were sent before this.

    Attributes:
        task: which.
        loss: of a forward where the segment has the loss.
        has_deferred: whether a backward left weight gradients for later.
        norm_names: of a measure: trainable parameters.
        norm_values: their squared gradient norms, as text that keeps every bit (`float.hex`).
        compute_s: time in the executor, for the cost model.
        cpu_s: processor time of the executor process meanwhile, all threads.
    """

    task: Task
    loss: str | None
    has_deferred: bool
    norm_names: tuple[str, ...]
    norm_values: tuple[str, ...]
    compute_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The result file is written and closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What was asked for raised an error.

    Attributes:
        code, message: of the error.
        blamed_segment: the segment that caused it by what it sent; -1 if this one did.
    """

    code: str
    message: str
    blamed_segment: int = -1


Message = (
    Started | Load | Unload | Run | Export | Loaded | Done | Exported | Failed
    | Restore | Restored | TakeSnapshot | SnapshotWritten | SnapshotNotWritten
)
_CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Started, Load, Unload, Run, Export, Loaded, Done, Exported, Failed,
        Restore, Restored, TakeSnapshot, SnapshotWritten, SnapshotNotWritten,
    )
}


def encode(message: Message) -> bytes:
    """Serialise a message: its name, a newline, its fields as JSON."""
    return type(message).__name__.encode() + b"\n" + msgspec.json.encode(message)


def decode(data: bytes | bytearray | memoryview) -> Message:
    """Read a message.

    Raises:
        HomespunError: INTERNAL when the two sides do not agree on the message.
    """
    name, _, body = bytes(data).partition(b"\n")
    try:
        message: Message = msgspec.json.decode(body, type=_CLASSES[name.decode()])
    except (KeyError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise HomespunError(
            Code.INTERNAL, f"the executor's pipe carried an unreadable message: {error}"
        ) from error
    return message
