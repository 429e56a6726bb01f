"""What computes gives way to its owner's programs, unless the owner says otherwise."""

import asyncio
import os

import psutil
import pytest

from homespun.local_network import LENT_ALWAYS
from peer.executor_process import ExecutorProcess, Listener
from peer.priority import LOW_NICE, Priority
from peer.setting_list import with_changes
from peer.settings import PeerSettings


async def nothing(_):
    pass


@pytest.mark.skipif(not psutil.POSIX, reason="other systems have classes instead of numbers")
@pytest.mark.parametrize("priority", list(Priority))
def test_an_executor_gives_way_in_all_its_threads(priority):
    own = psutil.Process().nice()
    expected = max(own, LOW_NICE) if priority is Priority.LOW else own

    async def scenario():
        process = await ExecutorProcess.start(
            "null", "cpu", 1, Listener(on_frame=nothing, on_message=nothing, on_exit=nothing),
            priority=priority)
        try:
            await process.started()
            threads = psutil.Process(process.pid).threads()
            if not psutil.LINUX:
                return {psutil.Process(process.pid).nice()}
            return {os.getpriority(os.PRIO_PROCESS, each.id) for each in threads}
        finally:
            await process.close()

    assert asyncio.run(scenario()) == {expected}


def test_low_is_the_default_and_networks_of_ones_own_are_not():
    settings = PeerSettings(name="attic")
    assert settings.priority is Priority.LOW
    assert with_changes(settings, LENT_ALWAYS[1::2]).priority is Priority.NORMAL
