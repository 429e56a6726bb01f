"""The driver with a real core and a real journal on disk."""

import asyncio
from dataclasses import replace

import pytest

from broker.core import views
from broker.core.events import (
    BrokerStarted,
    HeartbeatsSeen,
    KeyCreated,
    KeyRevoked,
    PeerConnected,
    PeerDisconnected,
    PeerHardware,
)
from broker.core.policy import Policy
from broker.driver import QUEUE_EVENTS_MAX, Driver
from broker.journal import Journal
from dag.cluster import PeerRates
from homespun.errors import Code, HomespunError

DEADLINE_S = 60
POLICY = Policy()


def key(number):
    return KeyCreated(
        at_ns=0, request_id=f"r{number}", key_id=f"key_{number:08d}", secret_hash="0" * 64,
        role="peer", reusable=True, expires_at_ns=2**62)


def connected(peer_id="peer_a", session_id="s1"):
    hardware = PeerHardware(
        device="cpu", device_name="x", memory_bytes=1 << 30, executor="null", platform="x",
        threads=1, rates=PeerRates(matmul_flops_per_s=1e9, attention_flops_per_s=1e9,
                                   memory_bytes_per_s=1e9))
    return PeerConnected(
        at_ns=0, peer_id=peer_id, session_id=session_id, name="a", software_version="1",
        tensor_address="h:1", hardware=hardware, leases=())


def running(path, scenario, carry_out=lambda command: None, policy=POLICY, broken=False):
    """Run a driver on the journal at `path` while `scenario(driver)` lasts."""

    async def main():
        driver = Driver.recover(Journal.open(path), carry_out)
        async with asyncio.timeout(DEADLINE_S):
            task = asyncio.create_task(driver.run(policy))
            await asyncio.sleep(0)
            try:
                return await scenario(driver)
            finally:
                if not broken:
                    assert not task.done(), task
                    task.cancel()
                await asyncio.wait((task,))
                if broken:
                    with pytest.raises(HomespunError) as caught:
                        task.result()
                    assert caught.value.code is Code.DISK_FULL

    return asyncio.run(main())


def test_what_was_answered_is_there_after_a_restart(tmp_path):
    async def ask(driver):
        await asyncio.gather(*(driver.ask(key(n)) for n in range(50)))

    async def look(driver):
        return {view.key_id for view in views.keys(driver.core)}

    running(tmp_path / "journal", ask)
    assert running(tmp_path / "journal", look) == {f"key_{n:08d}" for n in range(50)}


def test_the_journal_is_released_when_the_driver_ends(tmp_path):
    async def nothing(driver):
        with pytest.raises(HomespunError) as caught:
            Journal.open(tmp_path / "journal")
        assert caught.value.code is Code.BAD_CONFIGURATION

    running(tmp_path / "journal", nothing)
    Journal.open(tmp_path / "journal").close()


def test_a_full_disk_ends_the_broker_and_loses_nothing_that_was_answered(tmp_path):
    path = tmp_path / "journal"

    async def fill(driver):
        await driver.ask(key(0))
        raw = driver._journal._connection.connection.dbapi_connection
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
        raw.execute(f"PRAGMA max_page_count={pages + 2}")
        numbers = iter(range(1, 10_000))
        with pytest.raises(HomespunError) as caught:
            await ask_on(driver, numbers)
        assert caught.value.code is Code.DISK_FULL
        return next(numbers) - 1

    async def ask_on(driver, numbers):
        for number in numbers:
            await driver.ask(key(number))

    async def count(driver):
        return len(views.keys(driver.core))

    answered = running(path, fill, broken=True)
    assert running(path, count) == answered > 1


def test_a_full_queue_refuses_strangers_and_takes_what_the_broker_itself_says(tmp_path):
    async def flood(driver):
        done = [driver.post(key(n)) for n in range(QUEUE_EVENTS_MAX - 1)]
        while driver._queue.qsize() < QUEUE_EVENTS_MAX:
            done.append(driver.post(key(len(done))))
        with pytest.raises(HomespunError) as caught:
            driver.post(key(len(done)))
        assert caught.value.code is Code.OVERLOADED
        await driver.post(HeartbeatsSeen(at_ns=0, peer_ids=()), is_own=True)
        await asyncio.wait(done[:1])

    running(tmp_path / "journal", flood)


def test_deadlines_are_kept_however_busy_the_queue_is(tmp_path):
    """A peer whose stream closed is lost after its grace, though events never stop coming."""
    policy = Policy(reconnect_grace_ms=200)

    async def keep_busy(driver):
        await driver.post(connected())
        await driver.post(PeerDisconnected(at_ns=0, peer_id="peer_a", session_id="s1"))
        waiting = [driver.post(key(0)) for _ in range(600)]
        while views.peer(driver.core, "peer_a").state != "lost":
            await waiting.pop(0)
            waiting.append(driver.post(KeyRevoked(at_ns=0, request_id="r", key_id="key_x")))
            assert not driver._queue.empty()

    running(tmp_path / "journal", keep_busy, policy=policy)


def test_a_refusal_of_the_core_is_raised(tmp_path):
    async def ask(driver):
        with pytest.raises(HomespunError) as caught:
            await driver.ask(KeyRevoked(at_ns=0, request_id="r", key_id="key_unknown"))
        assert caught.value.code is Code.NOT_FOUND
        assert driver._answers == {}

    running(tmp_path / "journal", ask)


def test_sessions_and_leases_are_looked_up_in_the_core(tmp_path):
    async def look(driver):
        assert driver.session_of("peer_a") == ""
        await driver.post(connected(session_id="s1"))
        assert driver.session_of("peer_a") == "s1"
        await driver.post(connected(session_id="s2"))
        assert driver.session_of("peer_a") == "s2"
        assert driver.held_by("peer_a") == frozenset()

    running(tmp_path / "journal", look)


def test_a_change_wakes_those_who_wait_for_one(tmp_path):
    async def watch(driver):
        seen = driver.changes
        waiter = asyncio.create_task(driver.wait_change(seen, DEADLINE_S))
        await asyncio.sleep(0)
        await driver.post(key(1))
        await waiter
        assert driver.changes != seen

    running(tmp_path / "journal", watch)


def test_the_first_event_is_the_start(tmp_path):
    async def nothing(driver):
        await driver.post(key(1))

    running(tmp_path / "journal", nothing)
    journal = Journal.open(tmp_path / "journal")
    first = next(iter(journal.replay()))[1]
    journal.close()
    assert isinstance(first, BrokerStarted)


def test_a_start_comes_before_deadlines_that_passed_while_nobody_was_there(tmp_path):
    """A peer left just before the broker did; its time to come back is over long since."""
    journal = Journal.open(tmp_path / "journal")
    journal.append([
        BrokerStarted(at_ns=1, policy=POLICY), replace(connected(), at_ns=2),
        PeerDisconnected(at_ns=3, peer_id="peer_a", session_id="s1")])
    journal.close()

    async def look(driver):
        await driver.post(key(1))
        assert driver.core.state.peers["peer_a"].state == "suspect"

    running(tmp_path / "journal", look)
    journal = Journal.open(tmp_path / "journal")
    kinds = [type(event) for _, event in journal.replay()]
    journal.close()
    assert kinds == [BrokerStarted, PeerConnected, PeerDisconnected, BrokerStarted, KeyCreated]
