"""What operators do from the command line, over real connections to a broker with peers."""

import asyncio
import json

import pytest

from broker.core import operator_views, views
from broker.core.events import EnrolmentRequested
from homespun.errors import Code
from homespun.identity.join_key import parse, secret_hash
from homespun.v1 import operator_pb2
from tests.broker.live_broker import failure, make_place, serving, stream, until
from tests.broker.test_operator_service import called, command, peers, submit


@pytest.fixture
def place(network):
    return make_place(network, reconnect_grace_ms=100, lease_ttl_ms=600_000)


async def done(place, *arguments):
    """What a command that succeeds prints."""
    code, text = await command(place, *arguments)
    assert code == 0, text
    return text


def test_a_peer_waits_until_it_is_admitted(place, network):
    async def scenario():
        async with serving(place) as broker:
            made = json.loads(await done(
                place, "keys", "create", "--needs-admission", "--json", "-m", "for friends"))
            assert made["needs_admission"]
            key = parse(made["key"])
            answer = await broker.driver.ask(EnrolmentRequested(
                at_ns=0, request_id="e", key_id=key.key_id, secret_hash=secret_hash(key.secret),
                name="attic", new_id="w1"))
            said = await command(place, "peers")
            assert "attic (peer_w1) has joined and waits: broker admit peer_w1" in said[1]
            async with peers(network, broker, "w1"):
                await until(lambda: views.peer(broker.driver.core, answer.identity))
                assert "pending" in await done(place, "peers")
                assert await done(place, "admit", "box-w1", "-m", "a friend") == (
                    "Admitted peer_w1.\n")
                assert "pending" not in await done(place, "peers")
            assert "needs admission" in await done(place, "keys", "list")
            actions = json.loads(await done(place, "audit", "--json"))["entries"]
            assert [(each["action"], each["reason"]) for each in actions] == [
                ("admit", "a friend"), ("keys create", "for friends")]

    asyncio.run(scenario())


def test_a_banned_peer_is_sent_away_and_refused_at_every_door(place, network):
    async def scenario():
        async with serving(place) as broker:
            async with stream(network, broker, "peer_a") as call:
                await until(lambda: views.peer(broker.driver.core, "peer_a"))
                assert await done(place, "ban", "peer_a", "-m", "sold") == "Banned peer_a.\n"
                while (message := await call.read()).WhichOneof("body") != "goodbye":
                    pass
                assert message.goodbye.code == Code.NOT_ALLOWED
                assert "sold" in message.goodbye.message
            async with stream(network, broker, "peer_a") as call:
                error = await failure(call)
                assert error.code is Code.NOT_ALLOWED
            assert "banned: sold" in await done(place, "peers")
            assert "may come back" in await done(place, "unban", "peer_a")
            async with stream(network, broker, "peer_a") as call:
                assert (await call.read()).WhichOneof("body") == "welcome"

    asyncio.run(scenario())


def test_members_are_listed_with_their_jobs_and_certificates(place, network):
    async def scenario():
        async with serving(place) as broker, peers(network, broker, "a"):
            await until(lambda: views.peers(broker.driver.core))
            job_id = await submit(broker)
            peer, client = json.loads(await done(place, "members", "--json"))["members"]
            assert (peer["member_id"], peer["state"]) == ("peer_a", "live")
            assert peer["last_seen_unix_ms"]
            assert peer["certificate_expires_unix_ms"] > peer["last_seen_unix_ms"]
            assert (client["member_id"], client["name"], client["unfinished_jobs"]) == (
                "client_1", "x", 1)
            assert client["last_seen_unix_ms"] == 0  # it has not called
            assert "x (client_1)" in await done(place, "jobs")
            assert "by x (client_1)" in await done(place, "job", job_id)
            code, text = await command(place, "ban", "bob")
            assert code == 3
            assert "`broker members` lists them" in text
            assert "client_1" in await done(place, "members")

    asyncio.run(scenario())


def test_a_peer_that_is_gone_is_removed_and_refused_at_every_door(place, network):
    async def scenario():
        async with serving(place) as broker:
            async with stream(network, broker, "peer_a") as call:
                await until(lambda: views.peer(broker.driver.core, "peer_a"))
                code, text = await command(place, "forget", "peer_a")
                assert code == 6
                assert "Only a peer that is lost or banned can be removed" in text
                await done(place, "ban", "peer_a")
                while (await call.read()).WhichOneof("body") != "goodbye":
                    pass
            assert await done(place, "forget", "peer_a", "-m", "sold") == "Removed peer_a.\n"
            assert "peer_a" not in await done(place, "peers")
            assert "peer_a" not in await done(place, "members")
            async with stream(network, broker, "peer_a") as call:
                assert (await failure(call)).code is Code.NOT_ALLOWED
            (newest, *_) = json.loads(await done(place, "audit", "--json"))["entries"]
            assert (newest["action"], newest["reason"]) == ("forget", "sold")

    asyncio.run(scenario())


def test_a_label_names_a_peer_from_then_on(place, network):
    async def scenario():
        async with serving(place) as broker, peers(network, broker, "a"):
            await until(lambda: views.peers(broker.driver.core))
            await done(place, "label", "peer_a", "Anna's PC")
            assert "box-a (Anna's PC)" in await done(place, "peers")
            await done(place, "drain", "Anna's PC")
            assert views.peer(broker.driver.core, "peer_a").is_drained
            code, text = await command(place, "label", "peer_a", "x" * 101)
            assert code != 0
            assert "at most 100" in text

    asyncio.run(scenario())


def test_events_are_shown_filtered_and_followed(place, network):
    async def scenario():
        async with serving(place) as broker, peers(network, broker, "a"):
            await until(lambda: views.peers(broker.driver.core))
            text = await done(place, "events", "--kind", "peer_", "--since", "1h")
            assert "box-a (peer_a) is connected" in text
            lines = (await done(place, "events", "--json")).splitlines()
            said = json.loads(lines[0])
            assert (said["schema"], said["number"]) == ("event", 1)
            assert (await done(place, "events", "--subject", "nobody")) == ""

            parts = following(network, broker, kind="key_")
            await until(lambda: parts.done() or broker.driver.changes)
            await done(place, "keys", "create")
            line = await parts
            assert line.kind == "key_created"

    asyncio.run(scenario())


def following(network, broker, **filters):
    """The first line that somebody who follows the events gets."""
    import grpc

    from homespun.identity.channels import open_aio_channel
    from homespun.v1 import operator_pb2_grpc

    async def first():
        async with open_aio_channel(network.member("operator"), broker.settings.address) as channel:
            call = operator_pb2_grpc.OperatorServiceStub(channel).GetEvents(
                operator_pb2.GetEventsRequest(follow=True, **filters))
            while (part := await call.read()) is not grpc.aio.EOF:
                if part.lines:
                    return part.lines[0]

    return asyncio.create_task(first())


@pytest.mark.parametrize(("method", "request_"), [
    ("GetEvents", operator_pb2.GetEventsRequest(limit=-1)),
    ("GetEvents", operator_pb2.GetEventsRequest(limit=10**9)),
    ("GetEvents", operator_pb2.GetEventsRequest(text="\x1b")),
    ("GetAudit", operator_pb2.GetAuditRequest(limit=10**6)),
    ("AdmitPeer", operator_pb2.AdmitPeerRequest(peer="x", reason="x" * 501)),
    ("BanMember", operator_pb2.BanMemberRequest(member="x", reason="\n")),
], ids=repr)
def test_what_is_out_of_range_is_refused(place, network, method, request_):
    async def scenario():
        async with serving(place) as broker:
            error = await called(network, broker, method, request_)
            assert error.code in (Code.INVALID_ARGUMENT, Code.LIMIT_EXCEEDED)
            assert operator_views.audit(broker.driver.core, 10) == ()

    asyncio.run(scenario())


@pytest.mark.parametrize("role", ["peer", "submitter"])
def test_only_operators_may(place, network, role):
    async def scenario():
        async with serving(place) as broker:
            for method, request_ in (
                ("AdmitPeer", operator_pb2.AdmitPeerRequest(peer="p")),
                ("BanMember", operator_pb2.BanMemberRequest(member="p")),
                ("LabelPeer", operator_pb2.LabelPeerRequest(peer="p")),
                ("GetEvents", operator_pb2.GetEventsRequest()),
                ("GetAudit", operator_pb2.GetAuditRequest()),
                ("GetTimeline", operator_pb2.GetTimelineRequest(job="j")),
                ("CopyJournal", operator_pb2.CopyJournalRequest()),
                ("GetPeer", operator_pb2.GetPeerRequest(peer="p")),
                ("GetPlacement", operator_pb2.GetPlacementRequest()),
                ("EndConsoleSession", operator_pb2.EndConsoleSessionRequest(session="s")),
                ("CreateConsoleLink", operator_pb2.CreateConsoleLinkRequest(role="viewer")),
            ):
                error = await called(network, broker, method, request_, role)
                assert error.code is Code.NOT_ALLOWED, method

    asyncio.run(scenario())


def test_a_broker_without_a_console_says_so(place, network):
    async def scenario():
        async with serving(place):
            code, text = await command(place, "console", "link")
            assert code == 6
            assert "console_listen" in text

    asyncio.run(scenario())
