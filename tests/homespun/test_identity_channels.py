"""Peers that dial peers, over real TLS on loopback."""

from __future__ import annotations

import asyncio
from concurrent import futures
from contextlib import contextmanager
from datetime import timedelta

import grpc
import pytest

from broker.identity.authority import create_authority
from homespun.errors import Code, HomespunError
from homespun.identity.certificates import (
    new_private_key,
    private_key_pem,
    signing_request,
    utc_now,
)
from homespun.identity.channels import (
    MAX_MESSAGE_BYTES,
    SERVER_OPTIONS,
    open_aio_channel,
    open_channel,
    server_credentials,
)
from homespun.identity.directory import Credentials
from homespun.rpc_errors import error_of

METHOD = "/test/Echo"
REFUSED = (Code.UNREACHABLE, Code.NOT_AUTHENTICATED)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return create_authority(tmp_path_factory.mktemp("a"), broker_address="a:1", now=utc_now())


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    return create_authority(tmp_path_factory.mktemp("b"), broker_address="a:1", now=utc_now())


def member(authority, identity, role="peer", age=timedelta(0)):
    key = new_private_key()
    issued = authority.issue(signing_request(key), identity, role, utc_now() - age)
    return Credentials(
        broker_address="a:1", name="x", key_pem=private_key_pem(key), chain_pem=issued.chain_pem,
        root_pem=authority.root_pem)


class Echo(grpc.GenericRpcHandler):
    def __init__(self):
        self.seen = []

    def service(self, details):
        def echo(request, context):
            self.seen.append(bytes(next(iter(context.auth_context()["x509_pem_cert"]))))
            return request

        return grpc.unary_unary_rpc_method_handler(echo)


@contextmanager
def served(credentials):
    server, echo = grpc.server(futures.ThreadPoolExecutor(2), options=SERVER_OPTIONS), Echo()
    server.add_generic_rpc_handlers((echo,))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}", echo
    finally:
        assert server.stop(0).wait(10)


def dial(credentials, address, expected, body=b"hello"):
    with open_channel(credentials, address, expected) as channel:
        try:
            return channel.unary_unary(METHOD)(body, timeout=10)
        except grpc.RpcError as error:
            return error_of(error, f"peer {expected}", expected=expected)


def test_a_peer_dials_a_peer(authority):
    one, two = member(authority, "peer_1"), member(authority, "peer_2")
    with served(server_credentials(two)) as (address, echo):
        assert dial(one, address, "peer_2") == b"hello"
        assert echo.seen[0] in one.chain_pem


def test_the_same_from_asyncio(authority):
    one, two = member(authority, "peer_1"), member(authority, "peer_2")

    async def run(address, expected):
        async with open_aio_channel(one, address, expected) as channel:
            return await channel.unary_unary(METHOD)(b"hello", timeout=10)

    with served(server_credentials(two)) as (address, _):
        assert asyncio.run(run(address, "peer_2")) == b"hello"
        with pytest.raises(grpc.RpcError) as caught:
            asyncio.run(run(address, "peer_3"))
    error = error_of(caught.value, "peer peer_3", expected="peer_3")
    assert error.details == {"expected": "peer_3"}


def test_another_peer_that_answers_is_refused(authority):
    one, two = member(authority, "peer_1"), member(authority, "peer_2")
    with served(server_credentials(two)) as (address, echo):
        error = dial(one, address, "peer_3")
        assert (error.code, error.details) == (Code.UNREACHABLE, {"expected": "peer_3"})
        assert dial(one, address, "broker").code is Code.UNTRUSTED_BROKER
        assert echo.seen == []


def test_a_submitter_cannot_pose_as_a_server(authority):
    one, user = member(authority, "peer_1"), member(authority, "client_1", "submitter")
    with served(server_credentials(user)) as (address, echo):
        assert dial(one, address, "client_1").code is Code.UNREACHABLE
        assert echo.seen == []


def test_foreign_authorities_are_refused_both_ways(authority, foreign):
    one, two = member(authority, "peer_1"), member(authority, "peer_2")
    stranger = member(foreign, "peer_1")
    with served(server_credentials(two)) as (address, echo):
        assert dial(stranger, address, "peer_2").details == {"expected": "peer_2"}
        disguised = grpc.ssl_channel_credentials(
            authority.root_pem, stranger.key_pem, stranger.chain_pem)
        options = [("grpc.ssl_target_name_override", "peer-2.homespun.internal")]
        with (
            grpc.secure_channel(address, disguised, options) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            channel.unary_unary(METHOD)(b"", timeout=10)
        assert error_of(caught.value, "peer", expected="peer_2").code in REFUSED
        assert echo.seen == []
    with served(server_credentials(member(foreign, "peer_2"))) as (address, echo):
        assert dial(one, address, "peer_2").details == {"expected": "peer_2"}
        assert echo.seen == []


def test_a_server_whose_certificate_expired_is_refused(authority):
    one = member(authority, "peer_1")
    two = member(authority, "peer_2", age=timedelta(hours=25))
    with served(server_credentials(two)) as (address, echo):
        assert dial(one, address, "peer_2").code is Code.CERTIFICATE_EXPIRED
        assert echo.seen == []


def test_an_expired_identity_does_not_even_dial(authority):
    expired = member(authority, "peer_1", age=timedelta(hours=25))
    for open_one in (open_channel, open_aio_channel):
        with pytest.raises(HomespunError) as caught:
            open_one(expired, "127.0.0.1:1", "peer_2")
        assert caught.value.code is Code.CERTIFICATE_EXPIRED


def test_a_peers_server_shows_its_renewed_certificate(authority):
    one = member(authority, "peer_1")
    now = [member(authority, "peer_2", age=timedelta(hours=25))]
    with served(server_credentials(now[0], lambda: now[0])) as (address, _):
        assert dial(one, address, "peer_2").code is Code.CERTIFICATE_EXPIRED
        now[0] = member(authority, "peer_2")
        assert dial(one, address, "peer_2") == b"hello"


def test_a_refresh_that_fails_keeps_the_last_certificate(authority):
    one, two = member(authority, "peer_1"), member(authority, "peer_2")
    calls = []

    def refresh():
        calls.append(None)
        if len(calls) > 1:
            raise OSError("the disk is gone")
        return two

    with served(server_credentials(two, refresh)) as (address, _):
        assert dial(one, address, "peer_2") == b"hello"
    assert len(calls) > 1


def test_messages_have_a_limit(authority):
    one, two = member(authority, "peer_1"), member(authority, "peer_2")
    with served(server_credentials(two)) as (address, _):
        near = b"x" * (MAX_MESSAGE_BYTES - 1_000)
        assert dial(one, address, "peer_2", near) == near
        error = dial(one, address, "peer_2", b"x" * (MAX_MESSAGE_BYTES + 1))
        assert error.code is Code.LIMIT_EXCEEDED


def test_two_servers_cannot_share_a_port(authority):
    two = member(authority, "peer_2")
    with served(server_credentials(two)) as (address, _):
        second = grpc.server(futures.ThreadPoolExecutor(1), options=SERVER_OPTIONS)
        with pytest.raises(RuntimeError):
            second.add_secure_port(address, server_credentials(two))
