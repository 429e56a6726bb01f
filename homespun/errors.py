"""Every error a user can meet: one code, one exit code, one gRPC status, one remedy each.

An error travels between processes as data (code, message, details) and must mean the same at both
ends, so what counts is the `code`. For `except` there are a few subclasses of `HomespunError`, by
what to do about it: `HomespunError(code, ...)` makes the one of its code, at both ends. `CATALOG`
is the whole list; `docs/errors.md` is generated from it and a test proves that each code is
documented.

Exit codes: 0 ok, 1 the job or command failed, 2 usage, 3 not found, 4 denied, 5 unreachable or
timed out, 6 conflict, 7 cannot be placed, 8 cancelled, 9 incompatible version, 75 temporary (try
again), 78 bad configuration, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Code(StrEnum):
    """Stable error codes. The text of a code never changes its meaning."""

    UNSUPPORTED_OP = "UNSUPPORTED_OP"
    INVALID_GRAPH = "INVALID_GRAPH"
    EXPORT_FAILED = "EXPORT_FAILED"
    INVALID_JOB = "INVALID_JOB"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    CANNOT_PLACE = "CANNOT_PLACE"
    PEER_LOST = "PEER_LOST"
    LOSS_NOT_FINITE = "LOSS_NOT_FINITE"
    NOT_FINITE = "NOT_FINITE"
    STALLED = "STALLED"
    EXECUTOR_DIED = "EXECUTOR_DIED"
    EXECUTOR_FAILED = "EXECUTOR_FAILED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DISK_FULL = "DISK_FULL"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    WRONG_KEY = "WRONG_KEY"
    KEY_EXPIRED = "KEY_EXPIRED"
    CERTIFICATE_EXPIRED = "CERTIFICATE_EXPIRED"
    UNTRUSTED_BROKER = "UNTRUSTED_BROKER"
    NOT_AUTHENTICATED = "NOT_AUTHENTICATED"
    NOT_ALLOWED = "NOT_ALLOWED"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    STALE_TOKEN = "STALE_TOKEN"
    CANCELLED = "CANCELLED"
    INCOMPATIBLE_VERSION = "INCOMPATIBLE_VERSION"
    UNREACHABLE = "UNREACHABLE"
    TIMED_OUT = "TIMED_OUT"
    OVERLOADED = "OVERLOADED"
    BAD_CONFIGURATION = "BAD_CONFIGURATION"
    SHADOWED_MODULE = "SHADOWED_MODULE"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class CodeInfo:
    """What one code means to the outside."""

    exit_code: int
    grpc_status: str
    """Name of the `grpc.StatusCode` member that carries it."""
    meaning: str
    remedy: str


CATALOG: Mapping[Code, CodeInfo] = {
    Code.UNSUPPORTED_OP: CodeInfo(
        1, "INVALID_ARGUMENT", "The graph uses an operator outside the closed list.",
        "Rewrite that part of the model with supported operators (docs/operators.md)."),
    Code.INVALID_GRAPH: CodeInfo(
        1, "INVALID_ARGUMENT", "The graph is malformed, or its shapes contradict each other.",
        "Export the model again; the message names the node."),
    Code.EXPORT_FAILED: CodeInfo(
        1, "INVALID_ARGUMENT", "The model could not be exported to ONNX.",
        "Remove data-dependent control flow; the message quotes the exporter's reason."),
    Code.INVALID_JOB: CodeInfo(
        2, "INVALID_ARGUMENT", "The job's description contradicts itself.",
        "Correct the field that the message names."),
    Code.INVALID_ARGUMENT: CodeInfo(
        2, "INVALID_ARGUMENT", "An argument has a value that is not accepted.",
        "Correct the argument that the message names."),
    Code.LIMIT_EXCEEDED: CodeInfo(
        1, "RESOURCE_EXHAUSTED", "A size or count is over its limit.",
        "Make it smaller, or ask the operator to raise the limit that the message names."),
    Code.CANNOT_PLACE: CodeInfo(
        7, "FAILED_PRECONDITION", "The job fits on no set of the live peers.",
        "Add the memory that the message names, use fewer samples per microbatch, turn on "
        "recomputation, or start a peer with the executor that the message names."),
    Code.PEER_LOST: CodeInfo(
        1, "UNAVAILABLE", "A peer that held a segment of the job is gone.",
        "Nothing while another peer can take its place; else start one that can, or submit the job "
        "again. The message names the peer."),
    Code.LOSS_NOT_FINITE: CodeInfo(
        1, "ABORTED", "The loss, a value or a gradient became NaN or infinite.",
        "Lower the learning rate, clip gradients, or check the data at the step named."),
    Code.NOT_FINITE: CodeInfo(
        1, "ABORTED", "A peer sent a NaN or infinite value or gradient that it had to find itself.",
        "Look at the device of the peer that is blamed: its memory may be failing."),
    Code.STALLED: CodeInfo(
        1, "DEADLINE_EXCEEDED", "A segment waited longer than its deadline for a tensor.",
        "Look at the peer and the link that the message names."),
    Code.EXECUTOR_DIED: CodeInfo(
        1, "ABORTED", "The process that computes for a peer died.",
        "Look at the cause and the remedy that the peer found; its log says more."),
    Code.EXECUTOR_FAILED: CodeInfo(
        1, "ABORTED", "A segment's computation raised an error.",
        "The message names the node and the peer."),
    Code.OUT_OF_MEMORY: CodeInfo(
        1, "RESOURCE_EXHAUSTED", "A device had not enough memory for its segment.",
        "Use more microbatches, recomputation, or a peer with more memory."),
    Code.DISK_FULL: CodeInfo(
        1, "RESOURCE_EXHAUSTED", "A disk is full; nothing already stored was lost.",
        "Free space on the machine that the message names; uploads and downloads resume."),
    Code.DIGEST_MISMATCH: CodeInfo(
        1, "DATA_LOSS", "Bytes do not have the digest they were announced with.",
        "Try again; if it persists, the disk or memory of the machine named is failing."),
    Code.WRONG_KEY: CodeInfo(
        4, "UNAUTHENTICATED", "The join key is unknown, already used, or mistyped.",
        "Ask the operator for a new key: broker keys create."),
    Code.KEY_EXPIRED: CodeInfo(
        4, "UNAUTHENTICATED", "The join key has expired.",
        "Ask the operator for a new key: broker keys create."),
    Code.CERTIFICATE_EXPIRED: CodeInfo(
        4, "UNAUTHENTICATED", "This identity's certificate has expired.",
        "Check this machine's clock; join again with a new key."),
    Code.UNTRUSTED_BROKER: CodeInfo(
        4, "UNAUTHENTICATED", "The broker that answered is not the one the key was made by.",
        "Check the address; if it is right, somebody may be impersonating the broker."),
    Code.NOT_AUTHENTICATED: CodeInfo(
        4, "UNAUTHENTICATED", "The caller presented no identity of this network.",
        "Join with a key first."),
    Code.NOT_ALLOWED: CodeInfo(
        4, "PERMISSION_DENIED", "The caller's role does not permit this.",
        "Use credentials of a role that may do it."),
    Code.NOT_FOUND: CodeInfo(
        3, "NOT_FOUND", "No such thing.", "Check the id."),
    Code.CONFLICT: CodeInfo(
        6, "FAILED_PRECONDITION", "The thing is not in a state that allows this.",
        "Look at its state first."),
    Code.STALE_TOKEN: CodeInfo(
        6, "FAILED_PRECONDITION", "The lease this came from has been replaced.",
        "Nothing: the work belongs to another peer now."),
    Code.CANCELLED: CodeInfo(
        8, "CANCELLED", "The job was cancelled.", "Submit it again if that was not meant."),
    Code.INCOMPATIBLE_VERSION: CodeInfo(
        9, "FAILED_PRECONDITION", "The two sides speak protocol versions without overlap.",
        "Update the older side; the message says which it is."),
    Code.UNREACHABLE: CodeInfo(
        5, "UNAVAILABLE", "The other side cannot be reached.",
        "Check the address, the network, and that the other side runs."),
    Code.TIMED_OUT: CodeInfo(
        5, "DEADLINE_EXCEEDED", "No answer came before the deadline.", "Try again."),
    Code.OVERLOADED: CodeInfo(
        75, "RESOURCE_EXHAUSTED", "The broker is busy.", "Try again in a moment."),
    Code.BAD_CONFIGURATION: CodeInfo(
        78, "FAILED_PRECONDITION", "The configuration or the directory is not usable.",
        "Correct what the message names."),
    Code.SHADOWED_MODULE: CodeInfo(
        78, "FAILED_PRECONDITION", "A file of yours hides one of Homespun's packages.",
        "Rename the file that the message names, or start from another directory."),
    Code.INTERNAL: CodeInfo(
        1, "INTERNAL", "A defect in Homespun.", "Report it with the log; nothing was lost."),
}


class HomespunError(Exception):
    """An error with a code. The message says what, which, what was expected, what to do.

    Made with a code that has a narrower class in `CLASSES`, it is of that class.

    Attributes:
        code: what kind of error, from `Code`.
        message: one or two sentences for a person; names ids and values.
        details: the same facts as data (`{"wanted_bytes": "123"}`), for programs.
    """

    def __new__(cls, code: Code, message: str, **details: object) -> Self:
        """Take the narrowest class that the code has."""
        found = CLASSES.get(code, cls)
        return super().__new__(found if issubclass(found, cls) else cls, message)

    def __init__(self, code: Code, message: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: dict[str, str] = {name: str(value) for name, value in details.items()}

    @property
    def exit_code(self) -> int:
        """Exit code of a command that ends with this error."""
        return CATALOG[self.code].exit_code

    @property
    def remedy(self) -> str:
        """What the user can do about it."""
        return CATALOG[self.code].remedy

    def __str__(self) -> str:
        return f"{self.message} [{self.code}] {self.remedy}"


class InvalidModel(HomespunError):
    """The model cannot be used as it is. Change the part that the message names."""


class InvalidJob(HomespunError):
    """What was asked for contradicts itself or is too large. Correct what the message names."""


class JobFailed(HomespunError):
    """A job has ended in failure; `code` says of what kind.

    `Job.result` and `Job.outputs` raise it. `Job.timeline` says what led to it, and `Job.explain`
    where it ran.
    """


class CannotPlace(JobFailed):
    """The job fits on no set of the live peers. The message says what is missing."""


class JobCancelled(HomespunError):
    """Somebody has ended the job. Submit it again if that was not meant."""


class Unreachable(HomespunError):
    """The broker does not answer, or is too busy. Jobs go on meanwhile: try again later."""


class TimedOut(HomespunError):
    """Something took longer than it may. Look at what the message names, and wait again."""


class NotAuthorised(HomespunError):
    """One side does not accept who the other is, or what it may do. Join, or use another key."""


class NotFound(HomespunError):
    """There is no such thing. Check the id; `Client.jobs` lists what there is."""


class Conflict(HomespunError):
    """Not possible in the present state, or an id's beginning fits several. Look first."""


class BadConfiguration(HomespunError):
    """Something on this machine is missing or unusable. Put right what the message names."""


CLASSES: Mapping[Code, type[HomespunError]] = {
    Code.UNSUPPORTED_OP: InvalidModel,
    Code.INVALID_GRAPH: InvalidModel,
    Code.EXPORT_FAILED: InvalidModel,
    Code.INVALID_JOB: InvalidJob,
    Code.INVALID_ARGUMENT: InvalidJob,
    Code.LIMIT_EXCEEDED: InvalidJob,
    Code.CANNOT_PLACE: CannotPlace,
    Code.CANCELLED: JobCancelled,
    Code.UNREACHABLE: Unreachable,
    Code.OVERLOADED: Unreachable,
    Code.TIMED_OUT: TimedOut,
    Code.WRONG_KEY: NotAuthorised,
    Code.KEY_EXPIRED: NotAuthorised,
    Code.CERTIFICATE_EXPIRED: NotAuthorised,
    Code.UNTRUSTED_BROKER: NotAuthorised,
    Code.NOT_AUTHENTICATED: NotAuthorised,
    Code.NOT_ALLOWED: NotAuthorised,
    Code.NOT_FOUND: NotFound,
    Code.CONFLICT: Conflict,
    Code.BAD_CONFIGURATION: BadConfiguration,
    Code.SHADOWED_MODULE: BadConfiguration,
}
"""Class of the errors with a code; `HomespunError` itself for the others.

Any kind of error can end a job: `JobStatus.error` makes a `JobFailed` of it.
"""
