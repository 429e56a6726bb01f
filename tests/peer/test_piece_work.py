"""Storing the parameters in a snapshot: what is answered, and that nothing goes on behind it.

The upload is the broker's side and replaced here; `tests/e2e/test_partial_result.py` has it.
"""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from homespun.errors import Code, HomespunError
from homespun.tensor_file import unpack
from homespun.v1 import session_pb2
from peer import piece_work
from peer.executor.snapshot_file import Owner, write_snapshot
from peer.metering import UNMETERED
from peer.piece_work import Pieces
from peer.snapshots.keeper import SnapshotKeeper

JOB = "job_000001"
DEADLINE_S = 60
STATE = {"parameter/w": np.arange(4, dtype=np.float32), "optimizer/w/m": np.ones(4, np.float32)}


class Scene:
    """Pieces over a real keeper; uploads end as the test says."""

    def __init__(self, folder, monkeypatch):
        self.sent, self.uploads = [], []
        self.problem = None
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.scratch = folder / "results"
        self.keeper = SnapshotKeeper(folder / "snapshots", lambda address, peer: None)

        async def route(job_id):
            return UNMETERED

        async def upload(path, job_id, channel, route):
            self.uploads.append(path.read_bytes())
            self.begun.set()
            await self.gate.wait()
            if self.problem is not None:
                raise self.problem
            return "d" * 64

        monkeypatch.setattr(piece_work, "upload_result", upload)
        self.pieces = Pieces(SimpleNamespace(
            keeper=self.keeper, scratch=self.scratch, broker_route=route,
            broker_channel=lambda: None))

    async def keep(self):
        path = self.keeper.path_for(JOB, 3, 8)
        write_snapshot(path, Owner(segment=0, program="p"), 8, STATE)
        kept = await self.keeper.keep(JOB, 3, 8, path)
        return session_pb2.StorePiece(
            job_id=JOB, serial=3, position=8, timeout_ms=1_000 * DEADLINE_S,
            source=session_pb2.SnapshotSource(
                digest=kept.digest, size_bytes=kept.size_bytes, data_shards=1))

    async def store(self, request):
        await self.pieces.store(request, self.sent.append)

    @property
    def answers(self):
        return [message.piece_stored for message in self.sent]


@pytest.fixture
def run(tmp_path, monkeypatch):
    def bounded(test):
        async def scenario():
            scene = Scene(tmp_path, monkeypatch)
            async with asyncio.timeout(DEADLINE_S):
                await test(scene)
            assert not list(scene.scratch.glob("*")), "files are left"
        asyncio.run(scenario())
    return bounded


def test_the_parameters_are_uploaded_and_nothing_else(run):
    async def scenario(scene):
        await scene.store(await scene.keep())
        (answer,) = scene.answers
        assert (answer.job_id, answer.serial, answer.position) == (JOB, 3, 8)
        assert (answer.digest, answer.problem) == ("d" * 64, "")
        (data,) = scene.uploads
        assert answer.size_bytes == len(data)
        found = unpack(data, "piece")
        assert found.keys() == {"w"}
        assert np.array_equal(found["w"], STATE["parameter/w"])

    run(scenario)


def test_a_request_that_comes_again_meanwhile_changes_nothing(run):
    async def scenario(scene):
        request = await scene.keep()
        scene.gate.clear()
        first = asyncio.create_task(scene.store(request))
        await scene.begun.wait()
        await scene.store(request)
        scene.gate.set()
        await first
        assert (len(scene.answers), len(scene.uploads)) == (1, 1)
        await scene.store(request)
        assert len(scene.answers) == 2, "later it is answered again: the answer may have been lost"

    run(scenario)


def test_what_cannot_be_is_said(run):
    async def scenario(scene):
        request = await scene.keep()
        scene.problem = HomespunError(Code.NOT_ALLOWED, "not you")
        await scene.store(request)
        scene.problem = RuntimeError("a bug")
        await scene.store(request)
        request.source.digest = "e" * 64
        await scene.store(request)
        request.source.digest = "no digest"
        await scene.store(request)
        problems = [answer.problem for answer in scene.answers]
        assert problems[:2] == ["not you", "a defect: RuntimeError"]
        assert all(problems)
        assert len(problems) == 4
        assert not any(answer.digest for answer in scene.answers)

    run(scenario)


def test_time_runs_out(run):
    async def scenario(scene):
        request = await scene.keep()
        request.timeout_ms = 0
        scene.gate.clear()
        await scene.store(request)
        assert scene.answers[0].problem == "there was no time left for it"

    run(scenario)
