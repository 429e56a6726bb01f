"""What the memory of a peer's work is said to be."""

import asyncio

import psutil

from peer import memory_use
from peer.devices import used_memory_bytes
from peer.executor_process import ExecutorProcess, Listener
from peer.memory_use import MemoryUse, change_in_words, computing, in_words

MIB = 1 << 20


def test_this_process_has_memory(monkeypatch):
    monkeypatch.setattr(memory_use, "used_memory_bytes", {"1": 5 * MIB}.get)
    use = memory_use.memory_use([psutil.Process()], "1")
    assert (use.processes, use.device_bytes) == (1, 5 * MIB)
    assert use.process_bytes > MIB
    assert memory_use.memory_use([], "") == MemoryUse()
    assert computing(None) == {}


async def nothing(_):
    pass


def test_an_executor_is_found_and_leaves_nothing():
    async def scenario():
        process = await ExecutorProcess.start(
            "null", "cpu", 1, Listener(on_frame=nothing, on_message=nothing, on_exit=nothing))
        try:
            await process.started()
            found = computing(psutil.Process())
            before = memory_use.memory_use(found.values(), "")
            assert process.pid in found
        finally:
            await process.close()
        assert before.process_bytes > MIB
        assert memory_use.memory_use(found.values(), "") == MemoryUse()

    asyncio.run(scenario())


def test_a_driver_that_is_not_there_says_nothing(monkeypatch):
    import pynvml

    def no_driver():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert used_memory_bytes("0") is None


def test_the_words():
    before = MemoryUse(processes=2, process_bytes=300 * MIB, device_bytes=4096 * MIB)
    now = MemoryUse(device_bytes=100 * MIB)
    assert in_words(before) == (
        "2 processes compute, with 300 MiB; all programs use 4.00 GiB of the GPU (NVML)")
    assert in_words(MemoryUse()) == "no process computes"
    assert change_in_words(before, now) == (
        "memory of its processes 300 MiB before, 0 B now; memory of the GPU in use (NVML, all "
        "programs) 4.00 GiB before, 100 MiB now")
    assert change_in_words(now, now) == ""
