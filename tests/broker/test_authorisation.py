"""The tables cover every RPC, and the guard refuses before a body is read. Real TLS on loopback."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from datetime import timedelta

import grpc
import pytest

import homespun.v1
from broker.identity.server_certificate import ServerCertificate
from broker.rpc.authorisation import ENROLMENT_PERMISSIONS, PERMISSIONS, Guard, identify
from homespun.errors import Code, HomespunError
from homespun.identity.channels import open_channel
from homespun.identity.guard import PEER_PERMISSIONS, PUBLIC
from homespun.identity.names import Role
from homespun.rpc_errors import error_of

GET, WATCH = "/homespun.v1.JobService/GetJob", "/homespun.v1.JobService/WatchJob"
CONNECT, KEYS = "/homespun.v1.SessionService/Connect", "/homespun.v1.OperatorService/ListKeys"
SUM = "/homespun.v1.BlobService/Upload"
TABLES = (PERMISSIONS, ENROLMENT_PERMISSIONS, PEER_PERMISSIONS)


def every_rpc():
    for module in pkgutil.iter_modules(homespun.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"homespun.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                yield from (f"/{service.full_name}/{rpc.name}" for rpc in service.methods)


def test_each_rpc_has_exactly_one_row_and_each_row_an_rpc():
    rows = [method for table in TABLES for method in table]
    assert sorted(rows) == sorted(every_rpc())
    assert len(rows) > 15


def test_no_row_is_empty_and_only_first_contact_is_public():
    for table in TABLES:
        for method, roles in table.items():
            assert (roles is PUBLIC) == (table is ENROLMENT_PERMISSIONS), method
            assert roles is PUBLIC or roles <= set(Role), method
            assert roles, method
    assert Role.BROKER not in set().union(*PERMISSIONS.values())


class Servicer(grpc.GenericRpcHandler):
    """One handler of each kind; keeps what it parsed and what it was asked to do."""

    def __init__(self):
        self.parsed, self.ran, self.closed = [], [], threading.Event()

    def parse(self, raw):
        self.parsed.append(raw)
        if raw == b"malformed":
            raise ValueError("no message")
        return raw.decode()

    async def get(self, request, context):
        self.ran.append(request)
        match request:
            case "missing":
                raise HomespunError(Code.NOT_FOUND, "No job zürich\x1b[2J.", job="zürich")
            case "bug":
                raise RuntimeError("secret internals")
            case "aborts":
                await context.abort(grpc.StatusCode.DATA_LOSS, "by hand")
        return identify(context).uri

    async def watch(self, request, context):
        try:
            yield "first"
            if request == "missing":
                raise HomespunError(Code.NOT_FOUND, "Gone.")
            yield "second"
        finally:
            self.closed.set()

    async def connect(self, requests, context):
        async for request in requests:
            yield request + "!"

    async def upload(self, requests, context):
        return "".join([request async for request in requests])

    def service(self, details):
        kinds = {
            GET: (grpc.unary_unary_rpc_method_handler, self.get),
            KEYS: (grpc.unary_unary_rpc_method_handler, self.get),
            "/homespun.v1.JobService/Unlisted": (grpc.unary_unary_rpc_method_handler, self.get),
            WATCH: (grpc.unary_stream_rpc_method_handler, self.watch),
            CONNECT: (grpc.stream_stream_rpc_method_handler, self.connect),
            SUM: (grpc.stream_unary_rpc_method_handler, self.upload),
        }
        if details.method not in kinds:
            return None
        make, behaviour = kinds[details.method]
        return make(behaviour, self.parse)  # gRPC itself encodes text


class Served:
    def __init__(self, network, serve, **options):
        self.network, self.servicer = network, Servicer()
        self.port = serve(
            lambda server: server.add_generic_rpc_handlers((self.servicer,)),
            ServerCertificate(network.authority).main_credentials(),
            Guard(PERMISSIONS, network.authority.network_id, **options))
        self.address = f"127.0.0.1:{self.port}"

    def call(self, credentials, method=GET, body=b"hello"):
        with open_channel(credentials, self.address) as channel:
            try:
                return channel.unary_unary(method)(body, timeout=10).decode()
            except grpc.RpcError as error:
                return error_of(error, "the broker")

    def role(self, role, method=GET, body=b"hello"):
        return self.call(self.network.member(role), method, body)


@pytest.fixture
def served(network, serve):
    return Served(network, serve)


def test_the_caller_is_who_its_certificate_names(served, network):
    assert served.role("submitter") == f"spiffe://{network.authority.network_id}/submitter/client_1"
    assert served.role("operator", KEYS).endswith("/operator/operator_1")


@pytest.mark.parametrize(("role", "method"), [
    ("peer", GET), ("peer", KEYS), ("submitter", KEYS),
    ("operator", "/homespun.v1.JobService/Unlisted")])
def test_a_role_that_may_not_is_refused_before_its_body_is_parsed(served, role, method):
    error = served.role(role, method, b"malformed")
    assert error.code is Code.NOT_ALLOWED
    assert served.servicer.parsed == served.servicer.ran == []


@pytest.mark.parametrize("role", ["submitter", "operator"])
def test_streams_are_refused_before_a_message_is_parsed(served, network, role):
    with open_channel(network.member(role), served.address) as channel:
        call = channel.stream_stream(CONNECT)(iter([b"malformed"]), timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
    assert error_of(caught.value, "broker").code is Code.NOT_ALLOWED
    assert served.servicer.parsed == []


def test_all_four_kinds_of_calls_pass(served, network):
    with open_channel(network.member("peer"), served.address) as channel:
        assert list(channel.stream_stream(CONNECT)(iter([b"a", b"b"]), timeout=10)) == [
            b"a!", b"b!"]
        assert channel.stream_unary(SUM)(iter([b"a", b"b"]), timeout=10) == b"ab"
    with open_channel(network.member("submitter"), served.address) as channel:
        assert list(channel.unary_stream(WATCH)(b"x", timeout=10)) == [b"first", b"second"]


def test_an_error_in_the_middle_of_a_stream_arrives_as_itself(served, network):
    with open_channel(network.member("submitter"), served.address) as channel:
        call = channel.unary_stream(WATCH)(b"missing", timeout=10)
        assert next(call) == b"first"
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
    assert error_of(caught.value, "broker").code is Code.NOT_FOUND
    assert served.servicer.closed.wait(10)


def test_errors_keep_code_message_and_details(served):
    error = served.role("submitter", body=b"missing")
    assert error.code is Code.NOT_FOUND
    assert error.message == "No job zürich[2J."
    assert error.details == {"job": "zürich"}


def test_a_defect_tells_the_caller_nothing_of_its_inside(served):
    error = served.role("submitter", body=b"bug")
    assert error.code is Code.INTERNAL
    assert "secret" not in str(error)


def test_a_servicer_that_ended_the_call_itself_is_left_alone(served):
    error = served.role("submitter", body=b"aborts")
    assert error.details == {"status": "DATA_LOSS"}


def test_a_malformed_body_is_the_callers_fault(served):
    assert served.role("submitter", body=b"malformed").code is Code.INVALID_ARGUMENT
    assert served.servicer.ran == []


def test_an_unknown_method_means_another_version(served):
    assert served.role("operator", "/homespun.v1.New/Thing").code is Code.INCOMPATIBLE_VERSION


def test_no_certificate(served, network):
    credentials = grpc.ssl_channel_credentials(network.authority.root_pem)
    options = [("grpc.ssl_target_name_override", "broker.homespun.internal")]
    with (
        grpc.secure_channel(served.address, credentials, options) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(GET)(b"", timeout=10)
    assert error_of(caught.value, "broker").code in (Code.UNREACHABLE, Code.NOT_AUTHENTICATED)
    assert served.servicer.parsed == []


def test_a_certificate_of_another_network(served, network, foreign_network):
    foreign = foreign_network.member("submitter")
    assert served.call(foreign).code is Code.UNTRUSTED_BROKER  # its own root does not know us
    credentials = grpc.ssl_channel_credentials(
        network.authority.root_pem, foreign.key_pem, foreign.chain_pem)
    options = [("grpc.ssl_target_name_override", "broker.homespun.internal")]
    with (
        grpc.secure_channel(served.address, credentials, options) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(GET)(b"", timeout=10)
    assert error_of(caught.value, "broker").code in (Code.UNREACHABLE, Code.NOT_AUTHENTICATED)
    assert served.servicer.parsed == []


def test_an_expired_certificate_is_refused_here_and_there(served, network):
    expired = network.member("submitter", age=timedelta(hours=25))
    with pytest.raises(HomespunError) as caught:
        served.call(expired)
    assert caught.value.code is Code.CERTIFICATE_EXPIRED
    credentials = grpc.ssl_channel_credentials(
        network.authority.root_pem, expired.key_pem, expired.chain_pem)
    options = [("grpc.ssl_target_name_override", "broker.homespun.internal")]
    with (
        grpc.secure_channel(served.address, credentials, options) as channel,
        pytest.raises(grpc.RpcError),
    ):
        channel.unary_unary(GET)(b"", timeout=10)
    assert served.servicer.parsed == []


def test_a_certificate_that_expires_on_an_open_connection(network, serve, clock):
    served = Served(network, serve, clock=clock)
    with open_channel(network.member("submitter"), served.address) as channel:
        call = channel.unary_unary(GET)
        call(b"hello", timeout=10)
        clock.now += timedelta(hours=25)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"hello", timeout=10)
    assert error_of(caught.value, "broker").code is Code.CERTIFICATE_EXPIRED


def test_who_is_shut_out_is_refused_at_the_next_call(network, serve):
    denied = set()
    served = Served(network, serve, is_denied=denied.__contains__)
    assert isinstance(served.role("submitter"), str)
    denied.add("client_1")
    assert served.role("submitter").code is Code.NOT_ALLOWED
    assert isinstance(served.role("operator"), str)


def test_a_guard_of_another_network_name_refuses(network, foreign_network, serve):
    """Should a server ever trust a second root, the name in the certificate still decides."""
    servicer = Servicer()
    port = serve(
        lambda server: server.add_generic_rpc_handlers((servicer,)),
        ServerCertificate(network.authority).main_credentials(),
        Guard(PERMISSIONS, foreign_network.authority.network_id))
    with (
        open_channel(network.member("submitter"), f"127.0.0.1:{port}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(GET)(b"", timeout=10)
    assert error_of(caught.value, "broker").code is Code.NOT_AUTHENTICATED
    assert servicer.parsed == []
