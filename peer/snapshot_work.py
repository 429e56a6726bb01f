"""One lease's snapshots on their way: from the executor to this disk, from there to the holders.

All of it happens beside the segment's work. A holder that has got one gets the newest next, and
not those between.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from homespun.errors import Code, HomespunError
from peer.core import commands as do
from peer.core import events as ev
from peer.executor.messages import SnapshotWritten
from peer.snapshots.keeper import Kept, SnapshotKeeper

log = structlog.get_logger(__name__)

RETRY_FIRST_S = 0.5
RETRY_LONGEST_S = 30.0
OWN_POSITIONS_MAX = 8
"""Positions of its own segment, newer than the complete one, that a peer keeps."""
USELESS = frozenset({Code.NOT_ALLOWED, Code.LIMIT_EXCEEDED, Code.INVALID_ARGUMENT})
"""What a holder does not change its mind about soon; the broker names another if it must."""

Post = Callable[..., None]


class SnapshotWork:
    """The snapshots of one lease."""

    def __init__(
        self, job_id: str, serial: int, own_id: str, keeper: SnapshotKeeper, post: Post,
        first_serial: int = 0,
    ) -> None:
        """Prepare.

        Args:
            job_id: whose snapshots.
            serial: what they are filed under.
            own_id: this peer.
            keeper: of snapshots.
            post: makes an event of a class and fields for the core.
            first_serial: segments of the job's earlier cuts.
        """
        self._job_id, self._serial, self._own_id = job_id, serial, own_id
        self._first_serial = first_serial
        self._keeper, self._post = keeper, post
        self._holders: tuple[ev.Holder, ...] = ()
        self._data_shards = 1
        self._newest: Kept | None = None
        self._given: set[tuple[int, ev.Holder, int]] = set()
        self._tasks: dict[ev.Holder, asyncio.Task[None]] = {}
        self._giving: Counter[int] = Counter()
        """Positions that are on their way to holders."""
        self._keeping: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        """Set, and made anew, when there is something else to give or somebody else to give to."""
        self._is_closed = False

    def path(self, position: int) -> str:
        """Where the executor writes a snapshot."""
        return str(self._keeper.path_for(self._job_id, self._serial, position))

    def begin_with(self, kept: Kept) -> None:
        """The lease began with this snapshot: it is the newest that holders can be given."""
        self._newest = kept
        self._tell(kept, ev.Holder(peer_id=self._own_id, address=""), 1)

    def written(self, message: SnapshotWritten) -> None:
        """The executor has written one: keep it, then give it away."""
        self._beside(message.position, self._keep, message)

    def set_holders(self, command: do.SetHolders) -> None:
        """Somebody else is to have them, the newest one too."""
        self._holders, self._data_shards = command.holders, command.data_shards
        self._give()

    def forget_before(self, position: int) -> None:
        """Older ones than this may go, but for one."""
        self._beside(
            position, self._keeper.forget_before, self._job_id, self._serial, position,
            self._first_serial)

    async def close(self) -> None:
        """Stop giving; what is kept stays."""
        self._is_closed = True
        tasks = [*self._tasks.values(), *self._keeping]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _beside(
        self, position: int, work: Callable[..., Awaitable[None]], *args: object
    ) -> None:
        """Do something about a snapshot beside the segment's work."""
        task = asyncio.create_task(self._told(position, work, *args))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _told(
        self, position: int, work: Callable[..., Awaitable[None]], *args: object
    ) -> None:
        """Do something about a snapshot; what fails is told."""
        try:
            await work(*args)
        except HomespunError as error:
            self._failed(position, error)
        except Exception as error:  # a defect must not become a silent gap
            log.exception("snapshot_defect", job_id=self._job_id, serial=self._serial)
            self._failed(position, HomespunError(Code.INTERNAL, repr(error)))

    async def _keep(self, message: SnapshotWritten) -> None:
        kept = await self._keeper.keep(
            self._job_id, self._serial, message.position, Path(message.path))
        if self._newest is not None and self._newest.position >= kept.position:
            return
        self._newest = kept
        own = ev.Holder(peer_id=self._own_id, address="")
        self._tell(kept, own, 1, seconds=message.copy_s)
        self._give()
        await self._keeper.thin(
            self._job_id, self._serial, OWN_POSITIONS_MAX, frozenset(+self._giving))

    def _give(self) -> None:
        """Bring every holder the newest snapshot, and nobody else."""
        for holder in [known for known in self._tasks if known not in self._holders]:
            self._tasks.pop(holder).cancel()
        if self._newest is None or self._is_closed:
            return
        for holder in self._holders:
            task = self._tasks.get(holder)
            if task is None or task.done():
                self._tasks[holder] = asyncio.create_task(
                    self._told(self._newest.position, self._serve, holder))
        self._changed.set()
        self._changed = asyncio.Event()

    async def _serve(self, holder: ev.Holder) -> None:
        """Try until a holder has the newest snapshot.

        What is on its way is brought to its end though a newer one is there: over a line on which
        giving takes longer than the interval, nothing would ever arrive otherwise.
        """
        wait_s, now = RETRY_FIRST_S, asyncio.get_running_loop().time
        begun = (-1, 0.0)
        while (kept := self._newest) is not None:
            data_shards = self._data_shards
            if (kept.position, holder, data_shards) in self._given:
                return
            if begun[0] != kept.position:
                begun = kept.position, now()
            error = await self._try(kept, holder, data_shards)
            if error is None:
                self._given.add((kept.position, holder, data_shards))
                self._tell(kept, holder, data_shards, giving_s=now() - begun[1])
                wait_s = RETRY_FIRST_S
                continue
            self._failed(kept.position, error)
            wait_s = RETRY_LONGEST_S if error.code in USELESS else wait_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            wait_s = min(2 * wait_s, RETRY_LONGEST_S)

    async def _try(
        self, kept: Kept, holder: ev.Holder, data_shards: int
    ) -> HomespunError | None:
        self._giving[kept.position] += 1
        try:
            async with contextlib.aclosing(
                    self._keeper.give(kept, (holder,), data_shards)) as ends:
                async for given in ends:
                    return given.error
            return None
        finally:
            self._giving[kept.position] -= 1

    def _tell(
        self, kept: Kept, holder: ev.Holder, data_shards: int, *, seconds: float = 0.0,
        giving_s: float = 0.0,
    ) -> None:
        self._post(
            ev.SnapshotHeld, position=kept.position, digest=kept.digest,
            size_bytes=kept.size_bytes, holder=holder.peer_id, shard=holder.shard,
            data_shards=data_shards, seconds=seconds, giving_s=giving_s)

    def _failed(self, position: int, error: HomespunError) -> None:
        log.warning(
            "snapshot_failed", job_id=self._job_id, serial=self._serial, position=position,
            reason=error.message)
        self._post(
            ev.SnapshotFailed, position=position, code=str(error.code), message=error.message)
