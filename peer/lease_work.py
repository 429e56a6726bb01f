"""What the shell does for one lease: fetch, load, feed the executor, talk to neighbours, store.

The core decides; this carries out. Everything that happens is posted to the core as an event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import msgspec
import structlog

from homespun.blobs.store import BlobStore, digest_of
from homespun.blobs.transfer import download_aio, upload_aio
from homespun.errors import Code, HomespunError
from homespun.ids import JobId, PeerId
from homespun.v1 import blobs_pb2_grpc
from ir.segment import BoundaryKind
from peer.core import commands as do
from peer.core import events as ev
from peer.executor.messages import (
    Column,
    Done,
    Export,
    Exported,
    Failed,
    Load,
    Loaded,
    Message,
    Run,
    TensorFile,
)
from peer.executor_process import ExecutorProcess
from peer.frames import Frame, Kind, opaque_frame
from peer.links import Link, Traffic, dial
from peer.routes import LEAD, Routes

log = structlog.get_logger(__name__)

DRAIN_S = 20.0
"""How long a finished segment waits for its neighbours to take its last frames."""
FETCHES_AT_ONCE = 4
NO_EVENT_AT = 0
"""`at_ns` of an event that the daemon has yet to stamp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a lease's work needs of the daemon.

    Attributes:
        peer_id: this peer.
        executor, device, threads: what segments run on.
        blobs: the local cache of blobs.
        scratch: folder for results on their way out.
        broker_channel: opens an mTLS channel to the broker.
        peer_channel: opens an mTLS channel to (address, peer id).
        post: queues an event for the core.
    """

    peer_id: str
    executor: str
    device: str
    threads: int
    blobs: BlobStore
    scratch: Path
    broker_channel: Callable[[], grpc.aio.Channel]
    peer_channel: Callable[[str, str], grpc.aio.Channel]
    post: Callable[[ev.AnyEvent], None]


class LeaseWork:
    """One lease at work. Methods named like commands carry them out."""

    def __init__(self, command: do.LoadSegment, around: Surroundings) -> None:
        """Prepare; `load` begins."""
        self._lease: dict[str, Any] = {
            "job_id": command.job_id,
            "segment": command.segment,
            "token": command.token,
        }
        self._spec = command.spec
        self._program = command.program
        self._around = around
        self._process: ExecutorProcess | None = None
        self._routes: Routes | None = None
        self._links: dict[str, Link] = {}
        self._traffic: dict[str, Traffic] = {}
        self._is_closed = False
        self._orders: asyncio.Queue[Awaitable[None]] = asyncio.Queue()
        self._worker = asyncio.create_task(self._work(), name=f"lease {self.job_id}")

    @property
    def job_id(self) -> str:
        """The job."""
        return str(self._lease["job_id"])

    def link_with(self, peer_id: str) -> Link | None:
        """The link to a neighbour, for the server that its stream arrives at."""
        return self._links.get(peer_id)

    def traffic(self) -> dict[str, Traffic]:
        """Payload bytes by neighbour, so far."""
        return {peer_id: link.traffic for peer_id, link in self._links.items()} or self._traffic

    def order(self, work: Awaitable[None]) -> None:
        """Queue one of the commands below: they run one after the other, beside the core."""
        self._orders.put_nowait(work)

    # --- commands ------------------------------------------------------------------------------

    async def load(self) -> None:
        """Fetch the segment's blobs, start an executor, load."""
        try:
            request = await self._fetch()
            process = await ExecutorProcess.start(
                self._around.executor,
                self._around.device,
                self._around.threads,
                self._on_output,
                self._on_message,
                self._on_exit,
            )
            if self._is_closed:
                await process.close()
                return
            self._process = process
            await process.send_message(request)
        except HomespunError as error:
            self._break(error)
        except OSError as error:
            self._break(HomespunError(Code.DISK_FULL, f"on {self._around.peer_id}: {error}"))

    def open_links(self, command: do.OpenLinks) -> None:
        """Make a link to each neighbour; the peer with the smaller id dials."""
        routes = Routes(self._program, command.members)
        self._routes = routes
        for member in routes.neighbours(with_lead=self._spec.training.clip_norm > 0):
            if member.peer_id in self._links:
                continue
            link = Link(
                JobId(self.job_id),
                PeerId(self._around.peer_id),
                PeerId(member.peer_id),
                on_frame=self._on_frame,
                on_broken=lambda error, peer_id=member.peer_id: self._on_broken(peer_id, error),
                payload_limit=lambda frame, sender=member.peer_id: routes.payload_limit(
                    sender, frame
                ),
            )
            self._links[member.peer_id] = link
            if self._around.peer_id < member.peer_id:
                address, peer_id = member.tensor_address, member.peer_id
                dial(link, lambda a=address, p=peer_id: self._around.peer_channel(a, p))

    async def run_task(self, command: do.RunTask) -> None:
        """Hand a task to the executor; the answer comes as a message."""
        await self._to_executor(Run(task=command.task))

    async def send_acknowledge(self, command: do.SendAcknowledge) -> None:
        """Tell a producer that its activation was used."""
        tensor = next(t for t in self._program.incoming if t.edge == command.edge)
        frame = opaque_frame(
            Kind.ACKNOWLEDGE,
            mode=command.mode,
            edge=command.edge,
            source=self._program.index,
            target=tensor.source,
            step=command.step,
            microbatch=command.microbatch,
        )
        await self._send(frame)

    async def send_norms(self, command: do.SendNorms) -> None:
        """Send squared norms to the lead."""
        await self._send_numbers(Kind.NORMS, LEAD, command.step, command.squared_norms)

    async def send_scale(self, command: do.SendScale) -> None:
        """Send a gradient factor to another segment."""
        await self._send_numbers(Kind.SCALE, command.target, command.step, command.scale)

    async def store_result(self) -> None:
        """Have the executor write the parameters; `Exported` goes on from there."""
        self._around.scratch.mkdir(parents=True, exist_ok=True)
        await self._to_executor(Export(path=str(self._result_path())))

    async def unload(self) -> None:
        """Flush and close the links, end the executor. Not queued: it overtakes what waits."""
        self._is_closed = True
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        self._traffic = self.traffic()
        await asyncio.gather(*(link.close(DRAIN_S) for link in self._links.values()))
        self._links.clear()
        if self._process is not None:
            await self._process.close()
        with contextlib.suppress(OSError):
            self._result_path().unlink(missing_ok=True)
        self._post(ev.SegmentUnloaded)

    # --- what comes from the executor ----------------------------------------------------------

    async def _on_output(self, frame: Frame) -> None:
        await self._send(frame)

    async def _on_message(self, message: Message) -> None:
        match message:
            case Loaded():
                self._post(ev.SegmentLoaded)
            case Done():
                self._post(
                    ev.TaskFinished,
                    task=message.task,
                    loss=None if message.loss is None else float.fromhex(message.loss),
                    squared_norms=tuple(
                        (name, float.fromhex(value))
                        for name, value in zip(
                            message.norm_names, message.norm_values, strict=True
                        )
                    ),
                )
            case Failed():
                text = f"{message.message} (segment {self._program.index} on {self._me})"
                self._break(HomespunError(Code(message.code), text))
            case Exported():
                asyncio.get_running_loop().create_task(self._upload_result())
            case _:
                self._break(HomespunError(Code.INTERNAL, f"the executor sent a {type(message)}"))

    async def _on_exit(self, reason: str) -> None:
        self._break(HomespunError(Code.EXECUTOR_DIED, f"{reason} (on {self._me})"))

    async def _upload_result(self) -> None:
        """Put the result into the broker's store; a broker that is away is waited for."""
        path = self._result_path()
        try:
            digest = await asyncio.to_thread(digest_of, path)
            while not self._is_closed:
                try:
                    async with self._around.broker_channel() as channel:
                        stub = blobs_pb2_grpc.BlobServiceStub(channel)
                        await upload_aio(stub, digest, path)
                    break
                except HomespunError as error:
                    if error.code not in (Code.UNREACHABLE, Code.TIMED_OUT, Code.OVERLOADED):
                        raise
                    log.warning("result_upload_waits", job_id=self.job_id, reason=error.message)
                    await asyncio.sleep(1.0)  # the transfer has already backed off
            self._post(ev.ResultStored, digest=digest, size_bytes=path.stat().st_size)
        except HomespunError as error:
            self._break(error)
        except OSError as error:
            self._break(HomespunError(Code.DISK_FULL, f"on {self._me}: {error}"))

    # --- what comes from neighbours ------------------------------------------------------------

    async def _on_frame(self, frame: Frame) -> None:
        """A frame that the routes have accepted, in order."""
        if frame.kind is Kind.NORMS:
            norms = self._numbers(frame, tuple[tuple[str, float], ...])
            self._post(
                ev.NormsReceived, source=frame.source, step=frame.step, squared_norms=norms
            )
            return
        if frame.kind is Kind.SCALE:
            self._post(ev.ScaleReceived, step=frame.step, scale=self._numbers(frame, float))
            return
        if frame.kind is not Kind.ACKNOWLEDGE and self._process is not None:
            await self._process.send_frame(frame)
        self._post(
            ev.TensorReceived,
            kind=ev.TensorKind(frame.kind.value),
            edge=frame.edge,
            mode=frame.mode,
            step=frame.step,
            microbatch=frame.microbatch,
        )

    def _on_broken(self, peer_id: str, error: HomespunError) -> None:
        text = f"the link from {self._me} to {peer_id} broke: {error.message}"
        self._break(HomespunError(error.code, text), blamed_peer=peer_id)

    # --- parts ---------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            await (await self._orders.get())

    @property
    def _me(self) -> str:
        return self._around.peer_id

    async def _send(self, frame: Frame) -> None:
        """Send a frame to the peer of its target segment."""
        assert self._routes is not None, "the executor produced a tensor before the start"
        link = self._links.get(self._routes.peer_of(frame.target))
        if link is None or self._is_closed:
            return
        try:
            await link.send(frame)
        except HomespunError as error:
            if not self._is_closed:
                self._on_broken(link.remote_id, error)

    async def _send_numbers(self, kind: Kind, target: int, step: int, numbers: object) -> None:
        payload = msgspec.msgpack.encode(numbers)
        await self._send(
            opaque_frame(kind, payload, source=self._program.index, target=target, step=step)
        )

    def _numbers(self, frame: Frame, kind: Any) -> Any:
        try:
            return msgspec.msgpack.decode(frame.payload, type=kind)
        except msgspec.DecodeError as error:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"a {frame.title()} is unreadable: {error}"
            ) from error

    async def _to_executor(self, message: Message) -> None:
        if self._process is not None:
            await self._process.send_message(message)

    def _result_path(self) -> Path:
        name = f"{self.job_id}-{self._program.index}-{self._lease['token']}.safetensors"
        return self._around.scratch / name

    async def _fetch(self) -> Load:
        """Download the graph and only this segment's parameters and columns."""
        foreign = {
            t.value for t in self._program.incoming if t.kind is BoundaryKind.PARAMETER
        }
        names = foreign | set(self._program.parameters)
        parameters = [p for p in self._spec.parameters if p.name in names]
        columns = [c for c in self._spec.columns if c.name in self._program.data_inputs]
        blobs = [(self._spec.graph_digest, self._spec.graph_bytes)]
        blobs += [(p.digest, p.blob_bytes) for p in parameters]
        blobs += [(c.digest, c.blob_bytes) for c in columns]
        await self._download(blobs)
        path = self._around.blobs.path
        return Load(
            graph_path=str(path(self._spec.graph_digest)),
            segment=self._program,
            training=self._spec.training,
            trainable=tuple(p.name for p in self._spec.parameters if p.trainable),
            parameters=tuple(
                TensorFile(name=p.name, path=str(path(p.digest))) for p in parameters
            ),
            columns=tuple(
                Column(name=c.name, split=c.split, path=str(path(c.digest))) for c in columns
            ),
        )

    async def _download(self, blobs: list[tuple[str, int]]) -> None:
        gate = asyncio.Semaphore(FETCHES_AT_ONCE)
        async with self._around.broker_channel() as channel:
            stub = blobs_pb2_grpc.BlobServiceStub(channel)

            async def fetch(digest: str, size_bytes: int) -> None:
                async with gate:
                    await download_aio(stub, digest, size_bytes, self._around.blobs)

            try:
                async with asyncio.TaskGroup() as group:
                    for digest, size_bytes in dict(blobs).items():
                        group.create_task(fetch(digest, size_bytes))
            except* HomespunError as failures:
                raise failures.exceptions[0] from None

    def _break(self, error: HomespunError, blamed_peer: str = "") -> None:
        if not self._is_closed:
            self._post(
                ev.SegmentBroke,
                code=str(error.code),
                message=error.message,
                blamed_peer=blamed_peer,
            )

    def _post(self, event_class: type[ev.SegmentEvent], **fields: Any) -> None:
        event: Any = event_class(at_ns=NO_EVENT_AT, **self._lease, **fields)
        self._around.post(event)
