"""The daemon's ear for its owner: what becomes an event, and when the daemon may go."""

import asyncio
import contextlib
import time
from dataclasses import replace
from datetime import UTC
from types import SimpleNamespace

import pytest

from peer.core import events as ev
from peer.core.events import Availability
from peer.core.state import LeasePhase, PeerState
from peer.live_settings import LiveSettings
from peer.owner.core.readings import Reading, Readings
from peer.owner.core.wish import NO_WISH, Wish
from peer.owner.watch import OwnerLeaves, OwnerWatch
from peer.owner.wish_file import read_wish, write_wish
from peer.settings import PeerDirectory, PeerSettings

DEADLINE_S = 20
GRACE_S = 5.0
LEASE = SimpleNamespace(phase=LeasePhase.RUNNING, key=("job_000001", 1, 7))
FINISHED = SimpleNamespace(phase=LeasePhase.FINISHED, key=("job_000001", 2, 8))
STANDBY = SimpleNamespace(asked=SimpleNamespace(job_id="job_000002", segment=0, token=9))


class Daemon:
    """What a watch sees of a daemon."""

    def __init__(self, folder):
        self.place = PeerDirectory(folder)
        self.state = PeerState()
        self.posted = asyncio.Queue()
        self.is_connected = self.is_working = True
        self.machine, self.asked = {}, []
        self.settings = PeerSettings(name="attic", grace_s=GRACE_S)
        self.start()

    def start(self):
        self.watch = OwnerWatch(
            self.place, LiveSettings(self.place, self.settings, {}), self.state,
            self.posted.put_nowait, is_connected=lambda: self.is_connected,
            is_working=lambda: self.is_working, sense=self.sense)

    def sense(self, limits):
        self.asked.append(limits)
        return Readings(now_s=0.0, unix_s=0.0, zone=UTC, **self.machine)

    def wish(self, name, availability, deadline_ms=0):
        write_wish(self.place, Wish(id=name, availability=availability, deadline_ms=deadline_ms))

    def free(self):
        self.state.leases.clear()
        self.state.standbys.clear()
        self.is_working = False


@pytest.fixture
def play(tmp_path):
    """Run a scenario beside the watch, which it may outlive."""

    def play(scenario, *, ends):
        async def run():
            daemon = Daemon(tmp_path)
            async with asyncio.timeout(DEADLINE_S):
                await daemon.watch.begin()
                running = asyncio.create_task(daemon.watch.run())
                await scenario(daemon)
                if not ends:
                    assert not running.done()
                    running.cancel()
                with contextlib.suppress(asyncio.CancelledError), pytest.raises(OwnerLeaves):
                    await running
                assert ends is not running.cancelled()

        asyncio.run(run())

    return play


def test_a_wish_becomes_an_event_and_stays_on_disk(play):
    async def scenario(daemon):
        daemon.wish("a", Availability.PAUSED, 30_000)
        assert await daemon.posted.get() == ev.AvailabilityChanged(
            at_ns=0, availability=Availability.PAUSED, deadline_ms=30_000)
        assert (daemon.watch.availability, daemon.watch.wish_id) == (Availability.PAUSED, "a")
        daemon.wish("b", Availability.OPEN)
        assert (await daemon.posted.get()).availability is Availability.OPEN
        assert read_wish(daemon.place).id == "b"

    play(scenario, ends=False)


def test_what_was_wished_before_the_start_holds(tmp_path, play):
    write_wish(PeerDirectory(tmp_path), Wish(id="a", availability=Availability.PAUSED))

    async def scenario(daemon):
        assert (await daemon.posted.get()).availability is Availability.PAUSED

    play(scenario, ends=False)


def test_a_broken_file_and_a_removed_one_change_nothing(play):
    async def scenario(daemon):
        daemon.wish("a", Availability.PAUSED)
        await daemon.posted.get()
        daemon.place.wish.write_bytes(b"nonsense")
        await daemon.watch.news(1.0)
        daemon.place.wish.unlink()
        await daemon.watch.news(1.0)
        assert daemon.watch.availability is Availability.PAUSED
        assert daemon.posted.empty()

    play(scenario, ends=False)


def test_it_leaves_when_nothing_is_held_and_the_next_start_is_open(play):
    async def scenario(daemon):
        daemon.state.leases["job_000001", 1] = LEASE
        daemon.wish("a", Availability.LEAVING)
        assert (await daemon.posted.get()).availability is Availability.LEAVING
        await daemon.watch.news(DEADLINE_S)
        daemon.free()

    play(scenario, ends=True)
    play(scenario, ends=True)  # the wish of the first is not for the second


def test_a_wish_to_leave_is_for_the_daemon_that_ran_then(tmp_path, play):
    write_wish(PeerDirectory(tmp_path), Wish(id="a", availability=Availability.LEAVING))

    async def scenario(daemon):
        daemon.free()
        daemon.wish("b", Availability.FINISHING)
        assert (await daemon.posted.get()).availability is Availability.FINISHING

    play(scenario, ends=False)


def test_it_leaves_at_the_deadline_whatever_is_held(play):
    async def scenario(daemon):
        daemon.state.leases["job_000001", 1] = LEASE
        daemon.wish("a", Availability.LEAVING, 1)
        await daemon.posted.get()

    play(scenario, ends=True)


def test_at_the_deadline_of_a_pause_all_that_takes_memory_is_given_up(play):
    async def scenario(daemon):
        daemon.state.leases |= {("job_000001", 1): LEASE, ("job_000001", 2): FINISHED}
        daemon.state.standbys["job_000002", 0] = STANDBY
        daemon.wish("a", Availability.PAUSED, 1)
        await daemon.posted.get()
        given_up = [await daemon.posted.get() for _ in range(2)]
        assert {type(event) for event in given_up} == {ev.RevokeReceived}
        assert [(event.job_id, event.segment, event.token) for event in given_up] == [
            ("job_000001", 1, 7), ("job_000002", 0, 9)]
        assert "owner" in given_up[0].reason
        daemon.free()
        await daemon.watch.news(DEADLINE_S)
        assert daemon.posted.empty(), "once is enough"

    play(scenario, ends=False)


def test_it_does_not_leave_while_it_stands_by_or_works(play):
    async def scenario(daemon):
        daemon.state.standbys["job_000002", 0] = STANDBY
        daemon.is_working = False
        daemon.wish("a", Availability.LEAVING)
        await daemon.posted.get()
        daemon.state.standbys.clear()
        daemon.is_working = True
        await daemon.watch.news(0.6)

    play(scenario, ends=False)


def test_a_signal_lets_it_hand_over_within_the_grace(tmp_path, play):
    async def scenario(daemon):
        daemon.wish("a", Availability.PAUSED)
        await daemon.posted.get()
        daemon.watch.leave()
        assert await daemon.posted.get() == ev.AvailabilityChanged(
            at_ns=0, availability=Availability.LEAVING, deadline_ms=int(GRACE_S * 1000))
        daemon.wish("b", Availability.OPEN)
        await daemon.watch.news(1.0)
        assert daemon.watch.availability is Availability.LEAVING, "a signal is the last word"
        daemon.free()

    play(scenario, ends=True)
    assert read_wish(PeerDirectory(tmp_path)).id == "b", "what was wished is for the next start"


def test_a_signal_without_a_broker_has_nobody_to_hand_over_to(play):
    async def scenario(daemon):
        daemon.is_connected = False
        daemon.watch.leave()

    play(scenario, ends=True)


def test_a_wish_to_leave_waits_for_the_broker(play):
    async def scenario(daemon):
        daemon.is_connected = False
        daemon.wish("a", Availability.LEAVING, 30_000)
        await daemon.posted.get()
        await daemon.watch.news(0.6)

    play(scenario, ends=False)


def test_an_idle_daemon_goes_at_once(tmp_path, play):
    async def scenario(daemon):
        daemon.free()
        daemon.watch.leave()

    play(scenario, ends=True)
    assert read_wish(PeerDirectory(tmp_path)) == NO_WISH


# --- limits --------------------------------------------------------------------------------------


def limit(daemon, **limits):
    daemon.place.save_settings(replace(
        daemon.settings, limits=replace(daemon.settings.limits, **limits)))


def test_what_stands_against_lending_is_known_before_anything_is_told(play):
    async def scenario(daemon):
        daemon.machine = {"is_on_battery": Reading(True, "test")}
        daemon.start()
        await daemon.watch.begin()
        assert daemon.watch.availability is Availability.PAUSED
        told = await daemon.posted.get()
        assert told.availability is Availability.PAUSED
        assert told.deadline_ms == round(daemon.settings.limits.handover_s * 1000)
        assert [each.kind for each in daemon.watch.allowance.reasons] == ["on_battery"]

    play(scenario, ends=False)


def test_a_limit_that_is_changed_holds_at_once(play):
    async def scenario(daemon):
        watching = asyncio.create_task(daemon.watch.watch_machine())
        daemon.machine = {"free_memory_bytes": Reading(5, "test")}
        limit(daemon, free_memory_bytes=10)
        told = await daemon.posted.get()
        assert told.availability is Availability.PAUSED
        assert daemon.asked[-1].free_memory_bytes == 10
        watching.cancel()

    play(scenario, ends=False)


def test_settings_that_cannot_be_read_change_nothing(play):
    async def scenario(daemon):
        limit(daemon, on_battery=True)
        await daemon.watch.news(1.0)
        daemon.place.settings.write_bytes(b"nonsense")
        await daemon.watch.news(0.6)
        assert daemon.watch.availability is Availability.OPEN

    play(scenario, ends=False)


def test_a_pause_for_a_while_ends_by_itself_and_is_forgotten(play):
    async def scenario(daemon):
        write_wish(daemon.place, Wish(
            id="a", availability=Availability.PAUSED,
            until_unix_ms=round(time.time() * 1000) + 700))
        assert (await daemon.posted.get()).availability is Availability.PAUSED
        assert daemon.watch.allowance.reasons[0].until_unix_ms > 0
        assert (await daemon.posted.get()).availability is Availability.OPEN
        assert read_wish(daemon.place) == NO_WISH

    play(scenario, ends=False)
