"""Joining and renewing over real TLS on loopback."""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
from contextlib import closing
from datetime import timedelta

import grpc
import pytest

from broker.core.commands import AdmitIdentity, Reject
from broker.identity.server_certificate import ServerCertificate
from broker.rpc.authorisation import ENROLMENT_PERMISSIONS, PERMISSIONS, Guard
from broker.rpc.enrolment_service import EnrolmentServicer, RenewalServicer
from broker.rpc.rate_limit import MAX_SOURCES, SourceLimiter, source_of
from homespun.errors import Code, HomespunError
from homespun.identity import directory as identity_directory
from homespun.identity.certificates import new_private_key, signing_request
from homespun.identity.channels import open_channel
from homespun.identity.enrol import enrol, renew
from homespun.identity.join_key import mint, secret_hash
from homespun.rpc_errors import error_of
from homespun.v1 import enrolment_pb2, enrolment_pb2_grpc


class Core:
    """What the broker core decides about one key; keeps what it was asked."""

    def __init__(self, hashed: str, role: str = "peer") -> None:
        self.hashed, self.role, self.asked = hashed, role, []

    async def ask(self, event):
        self.asked.append(event)
        if event.secret_hash != self.hashed:
            return Reject(request_id=event.request_id, code="WRONG_KEY", message="No such key.")
        prefix = {"peer": "peer", "submitter": "client"}[self.role]
        return AdmitIdentity(
            request_id=event.request_id, identity=f"{prefix}_{event.new_id}", role=self.role)


class Enrolment:
    """An enrolment server and a key for it."""

    def __init__(self, network, serve, *, role="peer", certificate=None, limiter=None):
        self.authority = network.authority
        self.core = Core("", role)
        servicer = EnrolmentServicer(self.authority, self.core.ask, limiter=limiter)
        self.port = serve(
            lambda server: enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(
                servicer, server),
            (certificate or ServerCertificate(self.authority)).enrolment_credentials(),
            Guard(ENROLMENT_PERMISSIONS, self.authority.network_id))
        self.key = mint(secrets.token_bytes, enrolment_port=self.port,
                        root_fingerprint=self.authority.root_fingerprint)
        self.core.hashed = secret_hash(self.key.secret)


def key_for(port, fingerprint):
    return mint(secrets.token_bytes, enrolment_port=port, root_fingerprint=fingerprint)


def refusal(*arguments, **options):
    with pytest.raises(HomespunError) as caught:
        enrol(*arguments, **options)
    return caught.value


@pytest.mark.parametrize("role", ["peer", "submitter"])
def test_join_with_a_key(network, serve, tmp_path, role):
    server = Enrolment(network, serve, role=role)
    made = enrol("127.0.0.1:7700", server.key.text, "kitchen", tmp_path / "me")
    assert made.role == role
    assert made.network_id == network.authority.network_id
    assert identity_directory.load(tmp_path / "me") == made
    event = server.core.asked[0]
    assert (event.key_id, event.name) == (server.key.key_id, "kitchen")
    assert server.key.secret.hex() not in repr(event)


def test_wrong_key(network, serve, tmp_path):
    server = Enrolment(network, serve)
    other = key_for(server.port, network.authority.root_fingerprint)
    error = refusal("127.0.0.1:7700", other.text, "a", tmp_path)
    assert (error.code, error.message) == (Code.WRONG_KEY, "No such key.")
    assert not identity_directory.exists(tmp_path)


def test_mistyped_key_is_told_without_a_call(tmp_path):
    text = key_for(1, bytes(32)).text
    error = refusal("127.0.0.1:7700", text[:-2] + ("a" if text[-2] != "a" else "b") + text[-1],
                    "a", tmp_path)
    assert error.code is Code.WRONG_KEY
    assert "mistyped" in error.message


def test_key_of_another_network(network, foreign_network, serve, tmp_path):
    server = Enrolment(network, serve)
    other = key_for(server.port, foreign_network.authority.root_fingerprint)
    assert refusal("127.0.0.1:7700", other.text, "a", tmp_path).code is Code.UNTRUSTED_BROKER
    assert server.core.asked == []


def test_an_impostor_that_shows_the_true_root_never_sees_the_secret(
    network, foreign_network, serve, tmp_path,
):
    impostor = Enrolment(
        network, serve, certificate=ServerCertificate(foreign_network.authority))
    error = refusal("127.0.0.1:7700", impostor.key.text, "a", tmp_path)
    assert error.code is Code.UNTRUSTED_BROKER
    assert impostor.core.asked == []


def test_a_peer_cannot_pose_as_the_broker(network, serve, tmp_path):
    class PeerCertificate:
        def enrolment_credentials(self):
            peer = network.member("peer")
            return grpc.ssl_server_credentials([(peer.key_pem, peer.chain_pem)])

    impostor = Enrolment(network, serve, certificate=PeerCertificate())
    error = refusal("127.0.0.1:7700", impostor.key.text, "a", tmp_path)
    assert error.code is Code.UNTRUSTED_BROKER
    assert impostor.core.asked == []


def test_nobody_listens(tmp_path, network):
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening: refuses connections
        key = key_for(reserved.getsockname()[1], network.authority.root_fingerprint)
        assert refusal("127.0.0.1:1", key.text, "a", tmp_path).code is Code.UNREACHABLE


def test_somebody_listens_who_never_answers(tmp_path, network):
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        key = key_for(silent.getsockname()[1], network.authority.root_fingerprint)
        error = refusal("127.0.0.1:1", key.text, "a", tmp_path, timeout_s=0.2)
        assert error.code is Code.TIMED_OUT


def test_a_server_without_tls(tmp_path, network):
    with closing(socket.create_server(("127.0.0.1", 0))) as plain:
        def answer():
            connection, _ = plain.accept()
            with connection:
                connection.recv(4_096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        key = key_for(plain.getsockname()[1], network.authority.root_fingerprint)
        assert refusal("127.0.0.1:1", key.text, "a", tmp_path).code is Code.UNREACHABLE
        thread.join(10)


@pytest.mark.parametrize("address", ["nas", "nas:0", "nas:99999", "unix:/run/x:1", "a b:1", ":1"])
def test_malformed_address(tmp_path, address):
    error = refusal(address, key_for(1, bytes(32)).text, "a", tmp_path)
    assert error.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\x1b[2J", " "])
def test_malformed_name(tmp_path, name):
    error = refusal("127.0.0.1:1", key_for(1, bytes(32)).text, name, tmp_path)
    assert error.code is Code.INVALID_ARGUMENT


def test_a_valid_identity_is_not_overwritten_unless_asked(network, serve, tmp_path):
    server = Enrolment(network, serve)
    first = enrol("127.0.0.1:1", server.key.text, "a", tmp_path)
    assert refusal("127.0.0.1:1", server.key.text, "a", tmp_path).code is Code.CONFLICT
    assert identity_directory.load(tmp_path) == first
    second = enrol("127.0.0.1:1", server.key.text, "a", tmp_path, replace=True)
    assert identity_directory.load(tmp_path) == second != first


def test_an_expired_identity_is_not_thrown_away_unasked(network, serve, tmp_path):
    identity_directory.save(tmp_path, network.member("peer", age=timedelta(days=2)))
    server = Enrolment(network, serve)
    error = refusal("127.0.0.1:1", server.key.text, "a", tmp_path)
    assert error.code is Code.CONFLICT
    assert "renewed when it is used" in error.message
    assert server.core.asked == []
    assert enrol("127.0.0.1:1", server.key.text, "a", tmp_path, replace=True).id != "peer_1"


def test_a_directory_that_cannot_be_written_does_not_use_up_the_key(network, serve, tmp_path):
    (tmp_path / "file").write_text("")
    server = Enrolment(network, serve)
    error = refusal("127.0.0.1:1", server.key.text, "a", tmp_path / "file")
    assert error.code is Code.BAD_CONFIGURATION
    assert server.core.asked == []


def raw_enrol(server, **changes):
    fields = {
        "key_id": server.key.key_id, "secret": server.key.secret, "name": "a",
        "csr_pem": signing_request(new_private_key()), "protocol_version": 1, **changes}
    credentials = grpc.ssl_channel_credentials(server.authority.root_pem)
    options = [("grpc.ssl_target_name_override", "broker.homespun.internal")]
    target = f"127.0.0.1:{server.port}"
    with grpc.secure_channel(target, credentials, options) as channel:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        return stub.Enrol(enrolment_pb2.EnrolRequest(**fields), timeout=10)


@pytest.mark.parametrize(("changes", "code"), [
    ({"csr_pem": b"x" * 5_000}, Code.LIMIT_EXCEEDED),
    ({"csr_pem": b"x"}, Code.INVALID_ARGUMENT),
    ({"name": "x" * 100}, Code.INVALID_ARGUMENT),
    ({"protocol_version": 0}, Code.INCOMPATIBLE_VERSION),
    ({"protocol_version": 99}, Code.INCOMPATIBLE_VERSION),
    ({"secret": b"short"}, Code.WRONG_KEY),
    ({"key_id": "../../etc"}, Code.WRONG_KEY),
])
def test_bad_requests_never_reach_the_core(network, serve, changes, code):
    server = Enrolment(network, serve)
    with pytest.raises(grpc.RpcError) as caught:
        raw_enrol(server, **changes)
    assert error_of(caught.value, "broker").code is code
    assert server.core.asked == []


def test_attempts_are_limited_per_address(network, serve):
    limiter = SourceLimiter(rate_per_s=1.0, burst=2, clock=lambda: 0.0)
    server = Enrolment(network, serve, limiter=limiter)
    raw_enrol(server)
    raw_enrol(server)
    with pytest.raises(grpc.RpcError) as caught:
        raw_enrol(server)
    assert error_of(caught.value, "broker").code is Code.OVERLOADED
    assert len(server.core.asked) == 2


def test_bucket_fills_again_and_sources_do_not_share_it():
    now = [0.0]
    limiter = SourceLimiter(rate_per_s=0.5, burst=1, clock=lambda: now[0])
    assert [limiter.allow("a"), limiter.allow("a"), limiter.allow("b")] == [True, False, True]
    now[0] = 1.9
    assert not limiter.allow("a")
    now[0] = 2.1
    assert limiter.allow("a")
    for number in range(3 * MAX_SOURCES):
        limiter.allow(str(number))
    assert len(limiter._buckets) == MAX_SOURCES


@pytest.mark.parametrize(("peer", "source"), [
    ("ipv4:10.0.0.7:53124", "10.0.0.7"),
    ("ipv6:%5B2001:db8::1%5D:53124", "2001:db8::/64"),
    ("ipv6:[2001:db8::ffff:2]:1", "2001:db8::/64"),
    ("ipv6:%5B::ffff:10.0.0.7%5D:1", "10.0.0.7"),
    ("unix:", "unknown"), ("", "unknown")])
def test_source_of_a_caller(peer, source):
    assert source_of(peer) == source


class Streams(grpc.GenericRpcHandler):
    """Echoes a stream under a method that peers may call."""

    def service(self, handler_call_details):
        if not handler_call_details.method.endswith("/Connect"):
            return None

        async def echo(requests, context):
            async for request in requests:
                yield request

        return grpc.stream_stream_rpc_method_handler(echo)


def main_port(network, serve, certificate=None):
    def add(server):
        server.add_generic_rpc_handlers((Streams(),))
        enrolment_pb2_grpc.add_RenewalServiceServicer_to_server(
            RenewalServicer(network.authority), server)

    return serve(
        add, (certificate or ServerCertificate(network.authority)).main_credentials(),
        Guard(PERMISSIONS, network.authority.network_id))


@pytest.mark.parametrize("role", ["peer", "submitter", "operator"])
def test_renewal_gives_the_same_identity_and_key_a_later_certificate(
    network, serve, tmp_path, role,
):
    address = f"127.0.0.1:{main_port(network, serve)}"
    old = network.member(role, address=address, age=timedelta(hours=20))
    identity_directory.save(tmp_path, old)
    fresh = renew(tmp_path)
    assert fresh.expires_at > old.expires_at
    assert (fresh.identity, fresh.key_pem) == (old.identity, old.key_pem)
    assert identity_directory.load(tmp_path) == fresh


def test_streams_go_on_through_renewals_on_both_sides(network, serve, tmp_path, clock):
    clock.now -= timedelta(hours=17)  # the broker started 17 hours ago
    certificate = ServerCertificate(network.authority, clock)
    port = main_port(network, serve, certificate)
    shown = ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
    old = network.member("peer", address=f"127.0.0.1:{port}")
    identity_directory.save(tmp_path, old)
    more = threading.Event()

    def outgoing():
        yield b"before"
        assert more.wait(20)
        yield b"after"

    with open_channel(old, old.broker_address) as channel:
        call = channel.stream_stream("/homespun.v1.SessionService/Connect")(outgoing(), timeout=30)
        assert next(call) == b"before"
        clock.now += timedelta(hours=17)  # past two thirds: the next handshake shows a new one
        assert ssl.get_server_certificate(("127.0.0.1", port), timeout=10) != shown
        fresh = renew(tmp_path)
        more.set()
        assert list(call) == [b"after"]
    with open_channel(fresh, fresh.broker_address) as channel:
        echo = channel.stream_stream("/homespun.v1.SessionService/Connect")
        assert list(echo(iter([b"x"]), timeout=10)) == [b"x"]
