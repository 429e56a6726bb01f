"""What the owner of a job is told of it, and that nobody else is, over real connections."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from broker.core.commands import Note
from broker.core.events import JobSubmitted
from broker.core.state import IdentityRecord
from broker.rpc.operator_codec import timeline_of
from homespun.errors import Code
from homespun.identity.channels import open_aio_channel
from homespun.rpc_errors import error_of
from homespun.v1 import jobs_pb2_grpc, operator_pb2
from tests.broker.core.conftest import make_spec
from tests.broker.live_broker import make_place, register, serving, stream, until


@pytest.fixture
def place(network):
    return make_place(network)


async def submit(broker, owner):
    broker.driver.core.state.identities[owner] = IdentityRecord(
        identity=owner, role="submitter", name="x", key_id="key_x", admitted_at_ns=0)
    return (await broker.driver.ask(JobSubmitted(
        at_ns=0, request_id=owner, owner_id=owner, submission_id="s", spec=make_spec()))).value


async def timeline(network, broker, job, role, identity=""):
    """A job's timeline as somebody is told it, or the error."""
    async with open_aio_channel(network.member(role, identity), broker.settings.address) as channel:
        try:
            return await jobs_pb2_grpc.JobServiceStub(channel).GetTimeline(
                operator_pb2.GetTimelineRequest(job=job))
        except grpc.RpcError as error:
            return error_of(error, "the broker")


def test_only_the_owner_and_operators_are_told(place, network):
    async def scenario():
        async with serving(place) as broker:
            job = await submit(broker, "client_1")
            await submit(broker, "client_2")
            for role, identity, asked, code in (
                ("submitter", "client_1", job, None),
                ("submitter", "client_1", "job_", None),  # of its own there is one
                ("operator", "", job, None),
                ("operator", "", "job_", Code.CONFLICT),
                ("submitter", "client_2", job, Code.NOT_FOUND),
                ("submitter", "client_2", "", Code.NOT_FOUND),
                ("peer", "", job, Code.NOT_ALLOWED),
            ):
                answer = await timeline(network, broker, asked, role, identity)
                assert getattr(answer, "code", None) is code, (role, identity, asked, answer)
                if code is None:
                    assert answer.job_id == job

    asyncio.run(scenario())


def test_a_job_that_has_ended_says_how(place, network):
    """Its graph is not stored, so the planner refuses it."""

    async def scenario():
        async with serving(place) as broker, stream(
            network, broker, "peer_a", register(name="attic")
        ):
            await until(lambda: broker.driver.core.state.peers)
            job = await submit(broker, "client_1")
            await until(lambda: broker.driver.core.state.jobs[job].error_message)
            seen = await timeline(network, broker, job, "submitter")
            assert (seen.state, seen.events[-1].kind) == ("failed", "job_failed")
            assert seen.finished_unix_ms >= seen.submitted_unix_ms > 0

    asyncio.run(scenario())


def test_a_longer_id_is_another_job(place, network):
    async def scenario():
        async with serving(place) as broker:
            job = await submit(broker, "client_1")
            core = broker.driver.core
            core.events.record(1, [Note(subject=job + "0", event="job_failed", text="a secret")])
            assert {line.subject for line in timeline_of(core, job).events} == {job}

    asyncio.run(scenario())
