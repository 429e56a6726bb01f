"""Neighbours over real mutual TLS: members that change, replays, back-pressure, old holders."""

import asyncio
import contextlib
import dataclasses

import grpc
import pytest

from homespun.errors import Code, HomespunError
from homespun.identity.channels import SERVER_OPTIONS, open_aio_channel, server_credentials
from peer import neighbours as neighbours_module
from peer.boundary_log import BoundaryLog
from peer.core.events import Member
from peer.frames import Kind, opaque_frame
from peer.links import LinkServer
from peer.neighbours import Neighbours

DEADLINE_S = 20
JOB = "job_000001"


class Place:
    """One lease's neighbours, on a peer with a server of its own."""

    def __init__(self, scene, name, segment, token, position=0):
        self.name, self.token, self.position = name, token, position
        self.index = segment
        self.credentials = scene.network.member("peer", name)
        self.frames, self.lost, self.broken = [], [], []
        self.changed = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()
        self.refusal = None
        self.log = BoundaryLog(scene.folder / f"{name}-{token}.log", position)
        self.neighbours = Neighbours(
            JOB, name, scene.tiny.segments[segment], token, with_lead=True,
            open_channel=lambda address, peer: open_aio_channel(self.credentials, address, peer),
            on_frame=self.take, on_lost=self.on_lost,
            on_broken=lambda peer, error: self.broken.append((peer, error)), log=self.log)

    async def serve(self):
        self.server = grpc.aio.server(options=SERVER_OPTIONS)
        links = LinkServer(lambda job, peer, token: self.neighbours.link_with(peer, token))
        self.server.add_generic_rpc_handlers((links.handler(),))
        self.port = self.server.add_secure_port(
            "127.0.0.1:0", server_credentials(self.credentials))
        await self.server.start()

    async def die(self):
        """The process is gone: nobody answers, and nothing is said before."""
        await self.server.stop(None)

    async def close(self):
        await self.neighbours.close()
        await self.server.stop(None)

    async def take(self, frame):
        async with self.changed:
            self.changed.notify_all()
        await self.gate.wait()
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal
        async with self.changed:
            self.frames.append(frame)
            self.changed.notify_all()

    def on_lost(self, member, error):
        self.lost.append((member.segment, member.peer_id, error))
        self.notifying = asyncio.get_running_loop().create_task(self.notify())

    async def notify(self):
        async with self.changed:
            self.changed.notify_all()

    async def until(self, condition):
        async with asyncio.timeout(DEADLINE_S), self.changed:
            await self.changed.wait_for(lambda: condition(self))

    def member(self, position=None):
        return Member(
            segment=self.index, peer_id=self.name, token=self.token,
            tensor_address=f"127.0.0.1:{self.port}",
            position=self.position if position is None else position)

    async def send(self, *steps, size=0):
        for step in steps:
            kind = Kind.SCALE if self.index == 0 else Kind.NORMS
            await self.neighbours.send(opaque_frame(
                kind, bytes(size), source=self.index, target=1 - self.index, step=step))

    @property
    def steps(self):
        return [frame.step for frame in self.frames]


class Scene:
    """A network, and places in it."""

    def __init__(self, network, tiny, folder):
        self.network, self.tiny, self.folder = network, tiny, folder
        self.stack = contextlib.AsyncExitStack()

    async def place(self, *args, **kwargs):
        place = Place(self, *args, **kwargs)
        await place.serve()
        self.stack.push_async_callback(place.close)
        return place

    async def pair(self):
        """Segment 0 on peer_a and segment 1 on peer_b, linked."""
        a, b = await self.place("peer_a", 0, 1), await self.place("peer_b", 1, 2)
        self.join(a, b)
        return a, b

    @staticmethod
    def join(*places):
        """Link them; whoever is there already has come as far as the newest has to begin at."""
        begin = max(place.position for place in places)
        members = tuple(place.member(max(place.position, begin)) for place in places)
        for place in places:
            place.neighbours.set_members(members)


VACANT = Member(segment=1, peer_id="", token=2, tensor_address="")


@pytest.fixture
def scene(peer_network, tiny, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    return Scene(peer_network, tiny, folder)


def run(scene, test):
    async def bounded():
        async with asyncio.timeout(DEADLINE_S), scene.stack:
            await test
    asyncio.run(bounded())


def test_a_new_holder_gets_the_log_from_its_position_and_what_follows(scene):
    async def scenario():
        a, b = await scene.pair()
        await a.send(0, 1, 2, 3, 4)
        await b.until(lambda place: len(place.frames) == 5)
        a.neighbours.set_members((a.member(), VACANT))
        assert a.neighbours.holder_of(1) == ""
        await a.send(5, 6)  # nobody is there, and nobody is waited for
        c = await scene.place("peer_c", 1, 3, position=3)
        scene.join(a, c)
        await a.send(7)
        await c.until(lambda place: len(place.frames) == 5)
        assert c.steps == [3, 4, 5, 6, 7]
        assert b.steps == [0, 1, 2, 3, 4]
        assert a.broken == b.broken == c.broken == []

    run(scene, scenario())


def test_a_replayed_segment_does_not_send_again_what_is_known_to_be_there(scene):
    async def scenario():
        a = await scene.place("peer_a", 0, 5, position=2)
        b = await scene.place("peer_b", 1, 2)
        b.position = 4  # it has reported four steps
        scene.join(a, b)
        await a.send(2, 3, 4, 5)
        await b.until(lambda place: len(place.frames) == 2)
        assert b.steps == [4, 5]

    run(scene, scenario())


def test_a_member_under_its_token_keeps_its_link(scene):
    async def scenario():
        a, b = await scene.pair()
        link = a.neighbours.link_with("peer_b", 2)
        await a.send(0)
        a.neighbours.set_members((a.member(), b.member(position=9)))
        assert a.neighbours.link_with("peer_b", 2) is link
        await a.send(10)
        await b.until(lambda place: len(place.frames) == 2)

    run(scene, scenario())


@pytest.mark.parametrize(("zombie", "successor"), [("peer_a", "peer_c"), ("peer_c", "peer_a")])
def test_an_old_holder_can_open_no_link(scene, zombie, successor):
    async def scenario():
        old = await scene.place(zombie, 0, 1)
        b = await scene.place("peer_b", 1, 2)
        scene.join(old, b)
        await old.send(0)
        await b.until(lambda place: len(place.frames) == 1)
        new = await scene.place(successor, 0, 3)
        scene.join(b, new)
        await old.send(1)  # it does not know yet
        await new.send(0, 1)
        await b.until(lambda place: len(place.frames) == 3)
        await old.until(lambda place: place.lost)
        assert b.steps == [0, 0, 1]
        assert {frame.source for frame in b.frames} == {0}
        assert new.lost == new.broken == b.broken == old.broken == []
        assert old.lost[0][2].code is Code.UNREACHABLE

    run(scene, scenario())


def test_a_peer_under_a_new_token_of_its_own_is_linked_anew(scene):
    """The segment comes back to the peer that had it."""
    async def scenario():
        a, b = await scene.pair()
        await a.send(0, 1, 2)
        await b.until(lambda place: len(place.frames) == 3)
        again = await scene.place("peer_b", 1, 4, position=1)
        scene.join(a, again)
        await again.until(lambda place: len(place.frames) == 2)
        assert again.steps == [1, 2]
        await again.send(1)
        await a.until(lambda place: place.frames)

    run(scene, scenario())


def test_a_neighbour_that_dies_is_reported(scene):
    async def scenario():
        a, b = await scene.pair()
        await a.send(0)
        await b.until(lambda place: place.frames)
        await b.die()
        await a.until(lambda place: place.lost)
        segment, peer_id, error = a.lost[0]
        assert (segment, peer_id, error.code) == (1, "peer_b", Code.UNREACHABLE)
        assert a.broken == []

    run(scene, scenario())


def test_a_log_that_was_cut_is_reported_as_a_conflict(scene):
    async def scenario():
        a, _ = await scene.pair()
        await a.send(0, 1, 2, 3)
        a.neighbours.forget_before(2)
        c = await scene.place("peer_c", 1, 3, position=1)
        scene.join(a, c)
        (found,) = a.lost
        assert found[:2] == (1, "peer_c")
        assert found[2].code is Code.CONFLICT
        assert "begins at position 2" in found[2].message
        assert "goes on at position 1" in found[2].message
        await a.send(4)  # the segment itself goes on until it is told otherwise

    run(scene, scenario())


def test_a_link_that_fails_goes_on_after_what_was_accepted(scene, monkeypatch):
    monkeypatch.setattr(neighbours_module, "RELINK_S", 0.01)

    async def scenario():
        a, b = await scene.pair()
        await a.send(0, 1, 2)
        await b.until(lambda place: len(place.frames) == 3)
        link = a.neighbours.link_with("peer_b", 2)
        await link.drain(DEADLINE_S)
        a.neighbours.forget_before(2)
        b.refusal = HomespunError(Code.INTERNAL, "a passing trouble")
        await a.send(3, 4)
        await b.until(lambda place: len(place.frames) == 5)
        assert b.steps == [0, 1, 2, 3, 4]
        assert a.neighbours.link_with("peer_b", 2) is not link
        assert Code.CONFLICT not in [error.code for _, _, error in a.lost + b.lost]
        assert a.broken == b.broken == []

    run(scene, scenario())


def test_what_no_correct_peer_sends_is_blamed(scene):
    async def scenario():
        a, b = await scene.pair()
        told = asyncio.Event()
        b.neighbours._on_broken = lambda peer, error: (b.broken.append((peer, error)), told.set())
        a.log.append(opaque_frame(Kind.SCALE, source=1, target=1, step=0))
        await a.send(0)
        await told.wait()
        assert b.broken[0][0] == "peer_a"
        assert b.broken[0][1].code is Code.NOT_ALLOWED
        assert b.frames == []

    run(scene, scenario())


def small_windows(monkeypatch, **changes):
    monkeypatch.setattr(neighbours_module, "SETTINGS", dataclasses.replace(
        neighbours_module.SETTINGS, window_bytes=4_000, **changes))
    monkeypatch.setattr(neighbours_module, "LAG_BYTES", 10_000)


def test_a_neighbour_that_takes_nothing_holds_the_sender_up(scene, monkeypatch):
    small_windows(monkeypatch)

    async def scenario():
        a, b = await scene.pair()
        b.gate.clear()
        sent = []

        async def send_all():
            for step in range(40):
                await a.send(step, size=1_000)
                sent.append(step)

        sending = asyncio.create_task(send_all())
        done, _ = await asyncio.wait((sending,), timeout=1.0)
        assert not done
        assert 10 <= len(sent) <= 15  # the window and the lag, no more
        b.gate.set()
        await sending
        await b.until(lambda place: len(place.frames) == 40)
        assert b.steps == list(range(40))

    run(scene, scenario())


def test_a_vacant_segment_frees_a_sender_that_waits(scene, monkeypatch):
    small_windows(monkeypatch)

    async def scenario():
        a, b = await scene.pair()
        b.gate.clear()
        sending = asyncio.create_task(a.send(*range(40), size=1_000))
        await asyncio.wait((sending,), timeout=0.5)
        assert not sending.done()
        a.neighbours.set_members((a.member(), VACANT))
        await sending
        assert a.log.end(1) == 40

    run(scene, scenario())


def test_a_replay_holds_nobody_up(scene, monkeypatch):
    small_windows(monkeypatch)

    async def scenario():
        a = await scene.place("peer_a", 0, 1)
        await a.send(*range(40), size=1_000)
        c = await scene.place("peer_c", 1, 3)
        c.gate.clear()
        scene.join(a, c)
        await a.send(40, size=1_000)  # 40 older ones wait for the link
        c.gate.set()
        await c.until(lambda place: len(place.frames) == 41)
        assert c.steps == list(range(41))

    run(scene, scenario())


def test_a_neighbour_that_accepts_nothing_for_long_is_told_of_and_served_on(scene, monkeypatch):
    small_windows(monkeypatch, send_timeout_s=0.2)

    async def scenario():
        a, b = await scene.pair()
        b.gate.clear()
        sending = asyncio.create_task(a.send(*range(10), size=1_000))
        await a.until(lambda place: place.lost)
        assert a.lost[0][2].code is Code.STALLED
        b.gate.set()
        await sending
        await b.until(lambda place: len(place.frames) == 10)
        assert b.steps == list(range(10))

    run(scene, scenario())


def test_the_log_goes_to_disk_and_a_new_holder_is_served_from_there(scene, monkeypatch):
    async def scenario():
        a, b = await scene.pair()
        a.log._memory_limit = 50_000
        await a.send(*range(50), size=10_000)
        await b.until(lambda place: len(place.frames) == 50)
        assert a.log.held_bytes[1] > 300_000
        c = await scene.place("peer_c", 1, 3, position=5)
        scene.join(a, c)
        await c.until(lambda place: len(place.frames) == 45)
        assert c.steps == list(range(5, 50))
        a.neighbours.forget_before(50)
        await a.close()
        assert list(scene.folder.iterdir()) == []

    run(scene, scenario())


def test_a_frame_for_a_segment_that_is_no_neighbour_is_refused(scene):
    async def scenario():
        a = await scene.place("peer_a", 0, 1)
        with pytest.raises(HomespunError) as caught:
            await a.neighbours.send(opaque_frame(Kind.SCALE, source=0, target=0))
        assert caught.value.code is Code.INTERNAL

    run(scene, scenario())
