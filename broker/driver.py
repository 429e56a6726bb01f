"""The one loop that owns the broker core.

Order, for every batch of events: take the events, append them to the journal and wait until they
are on disk (one transaction for the whole batch), `apply` each, carry out its commands in order. So
whatever anybody was told has happened is in the journal, and a restart replays it. Nobody else
calls `apply`; servicers `post` events and `ask` for answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import structlog

from broker.clock import Clock
from broker.core import commands as do
from broker.core.events import (
    AnyEvent,
    BrokerStarted,
    CancelRequested,
    DrainRequested,
    EnrolmentRequested,
    JobSubmitted,
    KeyCreated,
    KeyRevoked,
    LateRenewalRequested,
    MemberBanned,
    PeerAdmitted,
    PeerForgotten,
    PeerLabelled,
    is_journalled,
)
from broker.core.machine import Broker
from broker.core.policy import Policy
from broker.crash_point import Position, crash_point_asked_for
from broker.journal import Journal
from homespun.errors import Code, HomespunError

log = structlog.get_logger(__name__)

QUEUE_EVENTS_MAX = 10_000
"""Events that may wait; a full queue answers OVERLOADED instead of growing."""
BATCH_EVENTS_MAX = 256
"""Events in one journal transaction."""
ANSWER_TIMEOUT_S = 30.0

Question = (
    KeyCreated | KeyRevoked | EnrolmentRequested | JobSubmitted | CancelRequested | DrainRequested
    | PeerAdmitted | MemberBanned | PeerLabelled | LateRenewalRequested
    | PeerForgotten
)
"""Events that carry a `request_id` and are answered."""
Answer = do.Reply | do.Reject | do.AdmitIdentity
CarryOut = Callable[[do.AnyCommand], None]


def replayed(journal: Journal) -> tuple[Broker, int]:
    """The state that a journal gives, and the time of its last event. Cost: linear in it."""
    core, last_ns = Broker(), 0
    for _, event in journal.replay():
        core.apply(event)
        last_ns = event.at_ns
    return core, last_ns


class Driver:
    """Runs the core. `core` may be read through `broker.core.views` between events."""

    def __init__(self, core: Broker, journal: Journal, clock: Clock, carry_out: CarryOut) -> None:
        """Take over a core that has replayed `journal`."""
        self.core = core
        self._journal = journal
        self._clock = clock
        self._carry_out = carry_out
        self._queue: asyncio.Queue[tuple[AnyEvent, asyncio.Future[None]]] = asyncio.Queue()
        self._answers: dict[str, asyncio.Future[Answer]] = {}
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._changed = asyncio.Event()
        self._crash = crash_point_asked_for()
        self.changes = 0
        """Grows with every event applied; `wait_change` waits for it."""
        self.is_running = False
        """Whether events are taken and applied."""

    @classmethod
    def recover(cls, journal: Journal, carry_out: CarryOut) -> Driver:
        """Replay the journal into a fresh core; its commands were carried out in their time."""
        core, last_ns = replayed(journal)
        return cls(core, journal, Clock(last_ns), carry_out)

    async def run(self, policy: Policy) -> None:
        """Run until cancelled. The first event says that the broker has started.

        Raises:
            HomespunError: DISK_FULL when the journal cannot grow: nothing unjournalled was applied.
        """
        self.is_running = True
        try:
            await self._start(policy)
            while True:
                batch = await self._next_batch()
                await self._take(batch)
        except HomespunError as error:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(error)
            raise
        finally:
            self.is_running = False
            self._disk.shutdown()
            self._journal.close()

    async def _start(self, policy: Policy) -> None:
        """Before any deadline that passed while the broker was away: the core excuses those."""
        done = asyncio.get_running_loop().create_future()
        await self._take([(BrokerStarted(at_ns=0, policy=policy), done)])

    def post(self, event: AnyEvent, *, is_own: bool = False) -> asyncio.Future[None]:
        """Queue an event; the future ends when it is durable and applied.

        Args:
            event: what happened; the driver stamps it.
            is_own: what the broker's own parts have to say is never refused. It is bounded by what
                they do: a planner's answer, a tick of heartbeats, the end of a session.

        Raises:
            HomespunError: OVERLOADED when the queue is full.
        """
        if not is_own and self._queue.qsize() >= QUEUE_EVENTS_MAX:
            raise HomespunError(
                Code.OVERLOADED, f"{QUEUE_EVENTS_MAX} requests are already waiting at the broker"
            )
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((event, done))
        return done

    async def ask(self, event: Question) -> Answer:
        """Queue an event that the core answers, and wait for the answer.

        Raises:
            HomespunError: the core's `Reject`; OVERLOADED; TIMED_OUT.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[event.request_id] = answer
        try:
            self.post(event)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                result = await answer
        except TimeoutError:
            raise HomespunError(
                Code.TIMED_OUT, f"the broker took more than {ANSWER_TIMEOUT_S:.0f} s to decide"
            ) from None
        finally:
            del self._answers[event.request_id]
        if isinstance(result, do.Reject):
            raise HomespunError(Code(result.code), result.message)
        return result

    async def copy_journal(self, path: Path) -> None:
        """Write what is durable now to a file; events wait meanwhile.

        Raises:
            HomespunError: as `Journal.copy_to`.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._disk, self._journal.copy_to, path)

    def now_ns(self) -> int:
        """The time that an event posted now would carry."""
        return self._clock.now_ns()

    def session_of(self, peer_id: str) -> str:
        """The session that the core takes for the peer's current one; "" for none. Cost: O(1)."""
        peer = self.core.state.peers.get(peer_id)
        return "" if peer is None else peer.session_id

    def held_by(self, peer_id: str) -> frozenset[tuple[str, int]]:
        """(job, segment) of every lease that occupies a peer. Cost: O(its leases)."""
        peer = self.core.state.peers.get(peer_id)
        leases = () if peer is None else peer.leases.values()
        return frozenset((lease.job_id, lease.index) for lease in leases)

    async def wait_change(self, seen: int, timeout_s: float) -> None:
        """Wait until `changes` differs from `seen`, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.changes == seen:
                    await self._changed.wait()

    async def _next_batch(self) -> list[tuple[AnyEvent, asyncio.Future[None]]]:
        """Wait for an event or the core's next deadline; take along whatever else is queued.

        A deadline that is due goes first, however many events wait: a busy queue delays nothing.
        """
        batch: list[tuple[AnyEvent, asyncio.Future[None]]] = []
        wait_s = self._seconds_to_wakeup()
        try:
            if wait_s is not None and wait_s <= 0:
                raise TimeoutError
            async with asyncio.timeout(wait_s):
                batch.append(await self._queue.get())
        except TimeoutError:
            done = asyncio.get_running_loop().create_future()
            batch.append((self.core.timer(self._clock.now_ns()), done))
        while len(batch) < BATCH_EVENTS_MAX and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    def _seconds_to_wakeup(self) -> float | None:
        wakeup_ns = self.core.next_wakeup_ns()
        if wakeup_ns is None:
            return None
        return (wakeup_ns - self._clock.now_ns()) / 1e9

    async def _take(self, batch: list[tuple[AnyEvent, asyncio.Future[None]]]) -> None:
        stamped = [(replace(event, at_ns=self._clock.now_ns()), done) for event, done in batch]
        durable = [event for event, _ in stamped if is_journalled(event)]
        self._crash.reached(Position.BEFORE_COMMIT, durable)
        if durable:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._disk, self._journal.append, durable)
        self._crash.reached(Position.AFTER_COMMIT, durable)
        for event, done in stamped:
            commands = self.core.apply(event)
            self._crash.reached(Position.BEFORE_REPLY, (event,))
            for command in commands:
                self._execute(command)
            if not done.done():
                done.set_result(None)
        self.changes += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _execute(self, command: do.AnyCommand) -> None:
        if isinstance(command, do.Reply | do.Reject | do.AdmitIdentity):
            answer = self._answers.get(command.request_id)
            if answer is not None and not answer.done():
                answer.set_result(command)
        elif isinstance(command, do.Note):
            log.info(command.event, subject=command.subject, text=command.text)
        else:
            self._carry_out(command)
