"""A stream that was replaced says nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from broker.core.events import PeerConnected, PeerHardware
from broker.core.policy import Policy
from broker.driver import Driver
from broker.journal import Journal
from broker.rpc.session_service import SessionService
from broker.sessions import Sessions
from broker.telemetry import Telemetry
from dag.cluster import PeerRates
from homespun.v1 import session_pb2

DEADLINE_S = 60
HARDWARE = PeerHardware(
    device="cpu", device_name="x", memory_bytes=1 << 30, executor="null", platform="x", threads=1,
    rates=PeerRates(matmul_flops_per_s=1e9, attention_flops_per_s=1e9, memory_bytes_per_s=1e9))


def registered(session_id: str) -> PeerConnected:
    return PeerConnected(
        at_ns=0, peer_id="peer_a", session_id=session_id, name="a", software_version="1",
        tensor_address="h:1", hardware=HARDWARE, leases=())


async def one_report(number: int) -> AsyncIterator[session_pb2.PeerMessage]:
    report = session_pb2.Report(number=number, job_id="job_000001", segment=0, token=1)
    report.ready.SetInParent()
    yield session_pb2.PeerMessage(report=report)


def test_reports_of_a_replaced_stream_do_not_count(tmp_path) -> None:
    """Else the numbers of a process that was killed would hide the reports of the next one."""

    async def scenario() -> list[int]:
        driver = Driver.recover(Journal.open(tmp_path / "journal.sqlite"), lambda command: None)
        service, sessions = SessionService(driver, Sessions(), Telemetry()), Sessions()
        numbers = []
        async with asyncio.timeout(DEADLINE_S):
            task = asyncio.create_task(driver.run(Policy()))
            await driver.post(registered("s1"))
            with sessions.opened("peer_a", "s1") as old, sessions.opened("peer_a", "s2") as new:
                for session, number in ((old, 5), (new, 0), (old, 6), (new, 7)):
                    if number == 0:
                        await driver.post(registered("s2"))
                    else:
                        await service._read(one_report(number), session)
                    numbers.append(driver.core.state.peers["peer_a"].last_report)
            task.cancel()
            await asyncio.wait((task,))
        return numbers

    assert asyncio.run(scenario()) == [5, 5, 5, 7]
