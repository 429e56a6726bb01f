"""The way into a network from Python: submit jobs and find them again."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from homespun.connection import Connection, open_connection
from homespun.dataset import Dataset
from homespun.errors import HomespunError
from homespun.fleet import Fleet, fleet_of
from homespun.job import Job
from homespun.job_list import JobList
from homespun.job_requests import JobRequests
from homespun.status import JobStatus
from homespun.submission import Notify, Wish, submit
from homespun.v1 import jobs_pb2
from homespun.wire import from_message

if TYPE_CHECKING:
    from homespun.identity.directory import Credentials
    from ir.frontends.imported import Imported

DEFAULT_TIMEOUT_S = 30.0
LOOK_TIMEOUT_S = 2.0
"""Longest that `connect` waits for what only people look at."""


def connect(
    address: str | None = None,
    credentials: Path | str | Credentials | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Client:
    """Connect to a broker with the identity that `homespun join` has saved.

    Args:
        address: `host:port`; None for the address that was joined.
        credentials: the identity or its directory; None for $HOMESPUN_CREDENTIALS or, without it,
            the user's own configuration directory.
        timeout_s: how long one call may take, retries included, > 0.

    Raises:
        HomespunError: BAD_CONFIGURATION without an identity; UNREACHABLE, TIMED_OUT,
            UNTRUSTED_BROKER, NOT_AUTHENTICATED or CERTIFICATE_EXPIRED when the broker cannot be
            talked to.
    """
    client = Client(open_connection(address, credentials, timeout_s))
    client.jobs(limit=1)  # so that a wrong address shows here, not after a long export
    client.look_around()
    return client


class Client(JobRequests[Job]):
    """A connection to one broker. Close it, or use it in a `with` statement."""

    def __init__(self, connection: Connection, notify: Notify | None = None) -> None:
        """Use an open connection; `connect` is the usual way here.

        Args:
            connection: to the broker.
            notify: told in one sentence what is going on during a submission.
        """
        super().__init__(notify)
        self._connection = connection
        self._seen: Fleet | None = None

    @property
    def connection(self) -> Connection:
        """The connection itself, for calls that have no method here."""
        return self._connection

    def __repr__(self) -> str:
        there = "" if self._seen is None else f", {self._seen.capacity} when last asked"
        return f"Client({self._connection.address!r}, as {self._connection.owner_id!r}{there})"

    def _repr_html_(self) -> str:
        from homespun import markup

        return markup.card(repr(self), markup.line(
            "train(), infer(), submit_graph() make a job; jobs(), job(id), fleet() look.",
            faint=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Jobs go on."""
        self._connection.close()

    def job(self, job_id: str) -> Job:
        """The job with this id; a unique beginning of it is enough.

        Also one that another program or machine has submitted with the same identity.

        Raises:
            HomespunError: NOT_FOUND; CONFLICT where several ids begin so; UNREACHABLE.
        """
        found = Job(self._connection, job_id)
        found.id = found.status().job_id
        return found

    def jobs(self, limit: int = 100) -> JobList:
        """The caller's jobs, newest first, at most `limit`: a tuple of `JobStatus`."""
        reply = self._connection.call("ListJobs", jobs_pb2.ListJobsRequest(limit=limit))
        return JobList(from_message(message, JobStatus) for message in reply.jobs)

    def fleet(self) -> Fleet:
        """The live peers as the planner knows them.

        Raises:
            HomespunError: what the broker answers; UNREACHABLE or TIMED_OUT when it does not.
        """
        self._seen = fleet_of(self._connection)
        return self._seen

    def look_around(self) -> None:
        """Remember the live peers for what a client shows of itself.

        Asks once, for a short time, and says nothing if that fails: nothing depends on it.
        """
        with contextlib.suppress(HomespunError):
            self._seen = fleet_of(self._connection, LOOK_TIMEOUT_S)

    def _submit(self, imported: Imported, dataset: Dataset, wish: Wish) -> Job:
        for note in imported.notes:
            self._notify(note)
        job_id = submit(self._connection, imported, dataset, wish, self._notify)
        self._notify(f"Submitted {job_id}.")
        return Job(self._connection, job_id)
