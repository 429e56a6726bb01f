"""A certificate that has expired is renewed by itself and its key, over real TLS on loopback."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest

from broker.core.commands import AdmitIdentity, Reject
from broker.core.events import LateRenewalRequested
from broker.identity.server_certificate import ServerCertificate
from broker.rpc.authorisation import ENROLMENT_PERMISSIONS, Guard
from broker.rpc.enrolment_service import EnrolmentServicer
from broker.rpc.rate_limit import SourceLimiter
from homespun import trainer
from homespun.connection import Renewal, open_connection
from homespun.errors import Code, HomespunError
from homespun.identity import directory as identity_directory
from homespun.identity.certificates import new_private_key, signing_request
from homespun.identity.channels import channel_options
from homespun.identity.directory import Credentials
from homespun.identity.enrol import load_valid, renew
from homespun.rpc_errors import error_of
from homespun.v1 import enrolment_pb2, enrolment_pb2_grpc

DAY = timedelta(days=1)


class Server:
    """An enrolment port whose core knows everybody but those who are banned."""

    def __init__(self, network, serve, *, clock=None, banned=(), **options):
        self.network, self.asked, self.banned = network, [], banned
        if clock is not None:
            options["clock"] = clock
        servicer = EnrolmentServicer(network.authority, self.ask, **options)
        self.port = serve(
            lambda server: enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(
                servicer, server),
            ServerCertificate(network.authority).enrolment_credentials(),
            Guard(ENROLMENT_PERMISSIONS, network.authority.network_id))

    async def ask(self, event):
        self.asked.append(event)
        if event.identity in self.banned:
            return Reject(request_id=event.request_id, code="NOT_ALLOWED", message="Shut out.")
        role = {"peer": "peer", "client": "submitter"}[event.identity.partition("_")[0]]
        return AdmitIdentity(request_id=event.request_id, identity=event.identity, role=role)

    def member(self, role, *, age):
        """Who is that old and knows where this port is."""
        made = self.network.member(role, age=age)
        return Credentials(
            broker_address="127.0.0.1:1", name="attic", key_pem=made.key_pem,
            chain_pem=made.chain_pem, root_pem=made.root_pem, enrolment_port=self.port)

    def refuses(self, certificate_pem, csr_pem, version=1):
        """The code of the refusal of a request that is made by hand."""
        credentials = grpc.ssl_channel_credentials(self.network.authority.root_pem)
        target = f"127.0.0.1:{self.port}"
        with grpc.secure_channel(target, credentials, channel_options("broker")) as channel:
            stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.RenewExpired(enrolment_pb2.RenewExpiredRequest(
                    certificate_pem=certificate_pem, csr_pem=csr_pem, protocol_version=version,
                ), timeout=10)
        return error_of(caught.value, "broker").code


def code_of(action, *arguments, **options):
    with pytest.raises(HomespunError) as caught:
        action(*arguments, **options)
    return caught.value.code


@pytest.mark.parametrize("role", ["peer", "submitter"])
@pytest.mark.parametrize("age", [2 * DAY, 90 * DAY])
def test_the_same_identity_goes_on_with_the_same_key(network, serve, tmp_path, role, age):
    server = Server(network, serve)
    old = server.member(role, age=age)
    identity_directory.save(tmp_path, old)
    fresh = load_valid(tmp_path)
    assert (fresh.identity, fresh.key_pem) == (old.identity, old.key_pem)
    assert fresh.expires_at - old.expires_at > age - DAY / 10
    assert identity_directory.load(tmp_path) == fresh
    (event,) = server.asked
    assert isinstance(event, LateRenewalRequested)
    assert event.identity == old.id
    assert event.expired_at_ns == int(old.expires_at.timestamp()) * 10**9
    assert load_valid(tmp_path) == fresh  # valid: nobody is asked
    assert len(server.asked) == 1


def test_an_identity_of_before_finds_the_port_after_the_main_one(network, serve, tmp_path):
    server = Server(network, serve)
    made = network.member("peer", age=2 * DAY, address=f"127.0.0.1:{server.port - 1}")
    identity_directory.save(tmp_path, made)
    assert made.enrolment_port == 0
    assert renew(tmp_path).id == made.id


def test_how_late_is_too_late(network, serve, tmp_path, clock):
    server = Server(network, serve, clock=clock)
    held = server.member("peer", age=2 * DAY)
    identity_directory.save(tmp_path, held)
    clock.now = held.expires_at + 90 * DAY + timedelta(seconds=1)
    with pytest.raises(HomespunError) as caught:
        renew(tmp_path)
    assert caught.value.code is Code.CERTIFICATE_EXPIRED
    assert "for 90 days" in caught.value.message
    assert server.asked == []
    assert identity_directory.load(tmp_path) == held
    clock.now = held.expires_at + 90 * DAY
    assert renew(tmp_path).id == held.id


def test_an_operator_can_switch_it_off(network, serve, tmp_path):
    server = Server(network, serve, renew_within=timedelta(0))
    identity_directory.save(tmp_path, server.member("peer", age=2 * DAY))
    assert code_of(renew, tmp_path) is Code.CERTIFICATE_EXPIRED
    assert server.asked == []


def test_who_is_banned_stays_out(network, serve, tmp_path):
    server = Server(network, serve, banned=("peer_1",))
    held = server.member("peer", age=2 * DAY)
    identity_directory.save(tmp_path, held)
    assert code_of(renew, tmp_path) is Code.NOT_ALLOWED
    assert identity_directory.load(tmp_path) == held


def test_a_certificate_without_its_key_is_worth_nothing(network, serve):
    server = Server(network, serve)
    held = server.member("peer", age=2 * DAY)
    assert server.refuses(held.chain_pem, signing_request(new_private_key())) is (
        Code.NOT_AUTHENTICATED)
    assert server.asked == []


def test_certificates_of_others_are_refused(network, foreign_network, serve):
    server = Server(network, serve)
    key = new_private_key()
    elsewhere = foreign_network.authority.issue(
        signing_request(key), "peer_1", "peer", server.member("peer", age=2 * DAY).expires_at)
    authority = network.authority
    # The same issuer's name, but not its signature: a DER form with one bit of the latter changed.
    ours = server.member("peer", age=2 * DAY).chain_pem
    first, mark, rest = ours.partition(b"\n-----END")
    forged = first[:-8] + (b"A" if first[-8:-7] != b"A" else b"B") + first[-7:] + mark + rest
    for certificate in (elsewhere.chain_pem, authority.root_pem, authority.issuing_pem, forged,
                        b"", b"x", b"x" * 100_000):
        assert server.refuses(certificate, signing_request(key)) is Code.NOT_AUTHENTICATED
    assert server.asked == []


@pytest.mark.parametrize(("csr", "version", "code"), [
    (b"x" * 5_000, 1, Code.LIMIT_EXCEEDED),
    (b"x", 1, Code.INVALID_ARGUMENT),
    (b"", 0, Code.INCOMPATIBLE_VERSION),
    (b"", 99, Code.INCOMPATIBLE_VERSION),
])
def test_bad_requests_never_reach_the_core(network, serve, csr, version, code):
    server = Server(network, serve)
    held = server.member("peer", age=2 * DAY)
    assert server.refuses(held.chain_pem, csr, version) is code
    assert server.asked == []


def test_attempts_are_limited_per_address(network, serve, tmp_path):
    server = Server(
        network, serve, limiter=SourceLimiter(rate_per_s=1.0, burst=1, clock=lambda: 0.0))
    held = server.member("peer", age=2 * DAY)
    identity_directory.save(tmp_path, held)
    renew(tmp_path)
    identity_directory.save(tmp_path, held)
    assert code_of(renew, tmp_path) is Code.OVERLOADED
    assert len(server.asked) == 1


def test_a_client_renews_before_it_connects_and_after_a_long_sleep(network, serve, tmp_path):
    server = Server(network, serve)
    held = server.member("submitter", age=2 * DAY)
    identity_directory.save(tmp_path, held)
    open_connection(None, tmp_path, 5.0).close()
    assert len(server.asked) == 1
    identity_directory.save(tmp_path, held)  # as if it had been open, and asleep since
    renewal = Renewal(tmp_path, held, held.broker_address)
    channel = renewal.next_channel()
    assert channel is not None
    channel.close()
    assert len(server.asked) == 2
    assert renewal.next_channel() is None


def test_a_client_that_is_not_taken_back_says_so(network, serve, tmp_path):
    server = Server(network, serve, banned=("client_1",))
    held = server.member("submitter", age=2 * DAY)
    identity_directory.save(tmp_path, held)
    assert code_of(open_connection, None, tmp_path, 5.0) is Code.NOT_ALLOWED
    assert code_of(Renewal(tmp_path, held, held.broker_address).next_channel) is Code.NOT_ALLOWED


@pytest.mark.parametrize("options", [{"renew_within": timedelta(0)}, {"banned": ("client_1",)}])
def test_training_starts_here_where_the_broker_does_not_take_the_machine_back(
    network, serve, tmp_path, monkeypatch, options,
):
    server = Server(network, serve, **options)
    identity_directory.save(tmp_path, server.member("submitter", age=2 * DAY))
    monkeypatch.setattr(trainer, "credentials_directory", lambda: tmp_path)
    monkeypatch.setattr("homespun.connection.credentials_directory", lambda _: tmp_path)
    monkeypatch.setattr(trainer, "local", lambda peers: f"{peers} peers here")
    monkeypatch.delenv("HOMESPUN_CREDENTIALS", raising=False)
    assert trainer.connect_or_local() == "3 peers here"


def test_training_does_not_start_here_when_the_broker_is_only_away(
    network, serve, tmp_path, monkeypatch,
):
    made = network.member("submitter", age=2 * DAY)  # nobody listens on port 2
    identity_directory.save(tmp_path, made)
    monkeypatch.setattr(trainer, "credentials_directory", lambda: tmp_path)
    monkeypatch.setattr("homespun.connection.credentials_directory", lambda _: tmp_path)
    monkeypatch.delenv("HOMESPUN_CREDENTIALS", raising=False)
    assert code_of(trainer.connect_or_local) is Code.UNREACHABLE
