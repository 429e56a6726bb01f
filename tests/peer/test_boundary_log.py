"""The boundary log against a plain list, and what it does when memory or disk is full."""

import asyncio
import dataclasses
from random import Random

import pytest

from homespun.errors import Code, HomespunError
from peer.boundary_log import ENTRY_BYTES, BoundaryLog, position_of
from peer.core.phases import Mode
from peer.frames import Kind, opaque_frame


def frame(target, step, size=100, fill=0):
    return opaque_frame(
        Kind.ACTIVATION, bytes([fill % 256]) * size, target=target, step=step, microbatch=fill)


def same(one, other):
    return dataclasses.replace(one, digest=other.digest) == other


def files_of(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir())


def test_a_position_is_a_step_or_a_microbatch_of_inference():
    assert position_of(frame(1, step=7, fill=3)) == 7
    assert position_of(dataclasses.replace(frame(1, 0, fill=3), mode=Mode.INFER)) == 3
    assert position_of(dataclasses.replace(frame(1, 7, fill=3), mode=Mode.EVALUATE)) == 7


def test_numbers_go_by_target_and_positions_find_them(tmp_path):
    log = BoundaryLog(tmp_path / "x.log")
    assert [log.append(frame(1, step)) for step in (0, 0, 1, 1, 3)] == [0, 1, 2, 3, 4]
    assert log.append(frame(2, 0)) == 0
    assert [log.first_at(1, position) for position in range(5)] == [0, 2, 4, 4, 5]
    assert (log.end(1), log.end(2), log.end(9)) == (5, 1, 0)
    assert log.bytes_from(1, 3) == 200
    assert log.bytes_from(1, 5) == log.bytes_from(9, 0) == 0
    assert log.next_from(1, 0, position=1) == 2


def test_what_was_forgotten_is_passed_over_but_cannot_be_asked_for(tmp_path):
    log = BoundaryLog(tmp_path / "x.log")
    for step in range(4):
        log.append(frame(1, step))
    log.forget_before(2)
    assert log.complete_from(1) == log.complete_from(9) == 2
    assert log.next_from(1, 0, position=0) == 2  # a live link, whose far end is beyond that
    with pytest.raises(HomespunError, match="begins at position 2") as caught:
        log.first_at(1, 1)
    assert caught.value.code is Code.CONFLICT
    assert log.first_at(1, 2) == 2


def test_a_log_that_begins_late_says_so(tmp_path):
    log = BoundaryLog(tmp_path / "x.log", position=5)
    assert log.complete_from(1) == 5
    log.append(frame(1, 5))
    assert log.first_at(1, 6) == 1
    with pytest.raises(HomespunError):
        log.first_at(1, 4)


def filled(tmp_path, frames, **limits):
    log = BoundaryLog(tmp_path / "x.log", **limits)
    for one in frames:
        log.append(one)
    return log


def test_the_oldest_payloads_go_to_disk_and_come_back_undamaged(tmp_path):
    async def scenario():
        frames = [frame(1 + n % 2, n // 4, size=5_000, fill=n) for n in range(40)]
        log = filled(tmp_path, frames, memory_bytes=100_000)
        assert log.is_spill_due
        await log.spill()
        memory, disk = log.held_bytes
        assert memory <= 50_000 + ENTRY_BYTES * 40
        assert disk >= 150_000
        assert len(files_of(tmp_path)) == 1
        read = [await log.read(1 + n % 2, n // 2) for n in range(40)]
        assert all(same(one, other) for one, other in zip(frames, read, strict=True))
        await log.close()
        assert files_of(tmp_path) == []

    asyncio.run(scenario())


def test_a_full_disk_costs_the_oldest_file_only(tmp_path):
    async def scenario():
        log = BoundaryLog(tmp_path / "x.log", memory_bytes=20_000, disk_bytes=40_000)
        for step in range(30):
            log.append(frame(1, step, size=5_000, fill=step))
            if log.is_spill_due:
                await log.spill()
            assert log.held_bytes[1] <= 40_000
        first = log.complete_from(1)
        assert 30 - (20_000 + 40_000) // 5_000 <= first < 30 - 40_000 // 5_000
        assert log.first_at(1, first) == first
        assert same(await log.read(1, first), frame(1, first, size=5_000, fill=first))
        with pytest.raises(HomespunError) as caught:
            log.next_from(1, first - 1, position=0)
        assert caught.value.code is Code.CONFLICT
        # What was cut is no loss once its position is complete.
        log.forget_before(first + 1)
        assert log.next_from(1, 0, position=0) == first + 1
        await log.close()
        assert files_of(tmp_path) == []

    asyncio.run(scenario())


def test_a_disk_that_takes_nothing_costs_the_oldest_frames(tmp_path, monkeypatch):
    async def scenario():
        (tmp_path / "taken").write_text("a file where a folder is meant")
        frames = [frame(1, step, size=5_000, fill=step) for step in range(10)]
        log = BoundaryLog(tmp_path / "taken" / "x.log", memory_bytes=20_000)
        for one in frames:
            log.append(one)
        await log.spill()
        assert log.held_bytes[0] <= 20_000
        assert log.complete_from(1) >= 6
        assert same(await log.read(1, 9), frames[9])
        await log.close()

    asyncio.run(scenario())


def test_empty_frames_alone_are_bounded_too(tmp_path):
    async def scenario():
        log = filled(tmp_path, [frame(1, n // 10, size=0) for n in range(100)], memory_bytes=5_000)
        await log.spill()
        assert log.held_bytes[0] <= 5_000
        assert log.complete_from(1) > 0
        await log.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_file_is_noticed_and_the_log_cut_there(tmp_path, damage):
    async def scenario():
        frames = [frame(1, step, size=5_000, fill=step) for step in range(10)]
        log = filled(tmp_path, frames, memory_bytes=20_000)
        await log.spill()
        (name,) = files_of(tmp_path)
        path = tmp_path / name
        if damage == "gone":
            path.unlink()
        else:
            data = bytearray(path.read_bytes())
            data[5_000 + 17] ^= 1
            path.write_bytes(data)
        with pytest.raises(HomespunError, match="lost or changed") as caught:
            await log.read(1, 1)
        assert caught.value.code is Code.CONFLICT
        assert log.complete_from(1) == 2
        await log.close()

    asyncio.run(scenario())


def test_frames_that_are_forgotten_while_they_are_written_leave_nothing(tmp_path):
    async def scenario():
        frames = [frame(1, step, size=5_000, fill=step) for step in range(10)]
        log = filled(tmp_path, frames, memory_bytes=20_000)
        spilling = asyncio.create_task(log.spill())
        await asyncio.sleep(0)  # the write has begun
        log.forget_before(10)
        log.append(frame(2, 10, size=5_000))
        await spilling
        assert log.held_bytes == (5_000 + ENTRY_BYTES, 0)
        await log.sweep()
        assert files_of(tmp_path) == []
        assert same(await log.read(2, 0), frame(2, 10, size=5_000))
        await log.close()

    asyncio.run(scenario())


class Model:
    """Every frame ever sent, and a log that may have less."""

    def __init__(self, tmp_path, seed):
        self.random = Random(seed)
        self.memory = self.random.choice([0, 2_000, 10_000])
        self.disk = self.random.choice([0, 3_000, 20_000, 1 << 20])
        self.log = BoundaryLog(
            tmp_path / "x.log", memory_bytes=self.memory, disk_bytes=self.disk)
        self.sent = {1: [], 2: [], 3: []}
        self.step = self.forgotten = 0

    async def move(self):
        match self.random.randrange(8):
            case 0:
                self.step += 1
            case 1:
                self.forgotten = max(self.forgotten, self.step - self.random.randrange(4))
                self.log.forget_before(self.forgotten)
            case 2:
                await self.log.sweep()
            case 3 | 4:
                spilling = asyncio.create_task(self.log.spill())
                for _ in range(self.random.randrange(3)):
                    await asyncio.sleep(0)
                    self.append()
                await spilling
            case _:
                self.append()

    def append(self):
        target = self.random.choice([1, 1, 2, 3])
        one = frame(target, self.step, self.random.choice([0, 10, 500, 3_000]),
                    fill=self.random.randrange(256))
        assert self.log.append(one) == len(self.sent[target])
        self.sent[target].append(one)

    async def check(self):
        for target, sent in self.sent.items():
            begins = self.log.complete_from(target)
            assert begins >= self.forgotten
            first = self.log.first_at(target, begins)
            wanted = [one for one in sent if position_of(one) >= begins]
            assert len(sent) - first == len(wanted)
            for number, one in enumerate(wanted, first):
                assert same(await self.log.read(target, number), one)
            assert self.log.bytes_from(target, first) == sum(len(one.payload) for one in wanted)

    async def end(self):
        await self.log.spill()
        memory, disk = self.log.held_bytes
        assert memory <= self.memory
        assert disk <= self.disk
        await self.log.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_log_gives_back_what_was_sent_from_where_it_is_complete(tmp_path, seed):
    async def scenario():
        print(f"seed {seed}")
        model = Model(tmp_path, seed)
        for _ in range(120):
            await model.move()
            await model.check()
        await model.end()
        assert files_of(tmp_path) == []

    asyncio.run(scenario())
