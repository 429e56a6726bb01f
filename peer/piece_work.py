"""What this peer has of jobs that ended without a result: the parameters in its snapshots.

The broker asks a holder of a snapshot to store them. That takes disk and line and no device, so it
goes on beside whatever the peer does next, one piece at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from homespun.errors import HomespunError
from homespun.v1 import session_pb2
from peer.executor.snapshot_file import write_parameters
from peer.result_upload import upload_result
from peer.session_codec import source_of
from peer.standby_work import StandbyParts

log = structlog.get_logger(__name__)

PROBLEM_CHARACTERS_MAX = 2_000
Send = Callable[[session_pb2.PeerMessage], None]


class Pieces:
    """The pieces that a daemon is asked for."""

    def __init__(self, around: StandbyParts) -> None:
        """Take snapshots from the keeper of `around`, and make files in its scratch directory."""
        self._around = around
        self._turn = asyncio.Lock()
        self._at_work: set[tuple[str, int, int]] = set()

    async def store(self, request: session_pb2.StorePiece, send: Send) -> None:
        """Store a piece and say so, or why it cannot be; never raises.

        A request that comes again while it is at work changes nothing: its answer goes out on
        whatever stream is open then.
        """
        key = request.job_id, request.serial, request.position
        if key in self._at_work:
            return
        self._at_work.add(key)
        answer = session_pb2.PieceStored(
            job_id=request.job_id, serial=request.serial, position=request.position)
        try:
            async with asyncio.timeout(request.timeout_ms / 1_000), self._turn:
                answer.digest, answer.size_bytes = await self._stored(request)
        except TimeoutError:
            answer.problem = "there was no time left for it"
        except HomespunError as error:
            answer.problem = error.message[:PROBLEM_CHARACTERS_MAX]
        except OSError as error:
            answer.problem = f"its disk says: {error.strerror or error}"
        except Exception as error:  # a defect here must not end running work
            log.exception("piece_defect", job_id=request.job_id, serial=request.serial)
            answer.problem = f"a defect: {type(error).__name__}"
        finally:
            self._at_work.discard(key)
        if answer.problem:
            log.warning("piece_not_stored", job_id=request.job_id, reason=answer.problem)
        send(session_pb2.PeerMessage(piece_stored=answer))

    async def _stored(self, request: session_pb2.StorePiece) -> tuple[str, int]:
        """Digest and size of the stored piece."""
        around, job_id = self._around, request.job_id
        snapshot = await around.keeper.fetch(
            job_id, request.serial, request.position, source_of(request.source))
        path = around.scratch / f"{job_id}-{request.serial}-{request.position}-piece.safetensors"
        try:
            await asyncio.to_thread(_extract, snapshot, path, request.position)
            route = await around.broker_route(job_id)
            digest = await upload_result(path, job_id, around.broker_channel, route)
            return digest, path.stat().st_size
        finally:
            path.unlink(missing_ok=True)


def _extract(snapshot: Path, path: Path, position: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_parameters(path, snapshot, position)
