"""What a peer has given: added up by day and job, with the energy shared out, and never lost."""

import asyncio
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from homespun.errors import Code, HomespunError
from peer.bookkeeping import Bookkeeping
from peer.ledger import Given, Ledger
from peer.metering import Meter

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()
DAY = 86_400


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.db")


def one(day="2026-11-27", job_id="job_000001", **amounts):
    return Given(day=day, job_id=job_id, **amounts)


def test_the_same_day_and_job_add_up(ledger):
    ledger.add([one(tasks=1, flops=10, device_s=0.5, energy_j=2.0, sent_bytes=3)])
    ledger.add([one(tasks=2, flops=5, far_bytes=7), one(day="2026-11-28", tasks=1)])
    assert ledger.since("2026-11-27") == [
        one(tasks=3, flops=15, device_s=0.5, energy_j=2.0, sent_bytes=3, far_bytes=7),
        one(day="2026-11-28", tasks=1)]
    assert ledger.since("2026-11-28") == [one(day="2026-11-28", tasks=1)]


def test_without_a_file_nothing_was_given_and_none_is_made(ledger, tmp_path):
    assert ledger.since("") == []
    ledger.add([])
    assert list(tmp_path.iterdir()) == []


def test_large_counts_are_kept(ledger):
    ledger.add([one(flops=8.6e19)])
    ledger.add([one(flops=8.6e19)])
    assert ledger.since("")[0].flops == 1.72e20, "a day of a large GPU is more than 64 bits hold"


def test_a_broken_file_is_put_aside(ledger, tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(HomespunError) as caught:
        ledger.since("")
    assert caught.value.code is Code.BAD_CONFIGURATION
    ledger.put_aside_if_broken()
    assert (tmp_path / "ledger.broken").exists()
    ledger.add([one(tasks=1)])
    assert len(ledger.since("")) == 1


class Books:
    def __init__(self, ledger, reset_day=1, zone=UTC):
        self.now, self.energy, self.meter = NOON, 100.0, Meter()
        self.ledger = ledger
        self.books = Bookkeeping(
            ledger, self.meter, zone, lambda: self.now, lambda: self.energy, lambda: reset_day)


def test_tasks_bytes_and_energy_go_to_their_jobs(ledger):
    async def scenario():
        world = Books(ledger)
        await world.books.begin()
        world.books.task_done("job_000001", 100, 3.0)
        world.books.task_done("job_000001", 100, 3.0)
        world.books.task_done("job_000002", 50, 2.0)
        world.meter.put_back("job_000002", 5, 6, 11)
        world.meter.put_back("", 1, 0, 1)
        world.energy = 180.0
        await world.books.write()
        assert ledger.since("") == [
            one(job_id="", sent_bytes=1, far_bytes=1),
            one(tasks=2, flops=200, device_s=6.0, energy_j=60.0),
            one(job_id="job_000002", tasks=1, flops=50, device_s=2.0, energy_j=20.0, sent_bytes=5,
                received_bytes=6, far_bytes=11)]
        assert world.books.month_bytes() == 12
        world.energy = 500.0  # while nothing ran: not of any job
        await world.books.write()
        assert sum(given.energy_j for given in ledger.since("")) == 80.0

    asyncio.run(scenario())


def test_the_quota_month_begins_anew_on_its_day(ledger):
    async def scenario():
        world = Books(ledger, reset_day=28)
        ledger.add([one(day="2026-10-27", far_bytes=100), one(day="2026-10-28", far_bytes=10)])
        await world.books.begin()
        assert world.books.month_bytes() == 10
        world.now = NOON + DAY
        await world.books.write()
        assert world.books.month_bytes() == 0

    asyncio.run(scenario())


def test_days_are_those_of_the_owners_calendar(ledger):
    async def scenario():
        world = Books(ledger, zone=ZoneInfo("Pacific/Auckland"))
        await world.books.begin()
        world.books.task_done("job_000001", 1, 1.0)
        await world.books.write()
        assert ledger.since("")[0].day == "2026-11-28"

    asyncio.run(scenario())


def test_what_cannot_be_written_is_kept_for_the_next_time(ledger, monkeypatch):
    async def scenario():
        world = Books(ledger)
        await world.books.begin()
        world.books.task_done("job_000001", 9, 1.0)
        world.meter.put_back("job_000001", 1, 2, 3)

        def full(given):
            raise HomespunError(Code.DISK_FULL, "database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(ledger, "add", full)
            await world.books.write()
        assert ledger.since("") == []
        await world.books.write()
        assert ledger.since("") == [one(
            tasks=1, flops=9, device_s=1.0, sent_bytes=1, received_bytes=2, far_bytes=3)]

    asyncio.run(scenario())
