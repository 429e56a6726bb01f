"""Who may come in: keys, certificates and protocol versions, tried on a running network."""

import time
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest

import homespun
from broker.identity.authority import Authority
from homespun.errors import CATALOG, Code, HomespunError
from homespun.identity import directory as identity_directory
from homespun.identity.certificates import (
    new_private_key,
    private_key_pem,
    signing_request,
    utc_now,
)
from homespun.identity.channels import channel_options, open_channel
from homespun.identity.directory import Credentials
from homespun.rpc_errors import error_of
from homespun.v1 import jobs_pb2, jobs_pb2_grpc, session_pb2, session_pb2_grpc
from homespun.version import PROTOCOL_VERSION

pytestmark = pytest.mark.e2e

DENIED = 4
OTHERS = (0, PROTOCOL_VERSION + 98)


def join(network, key, directory):
    return network.run("homespun", "join", network.address, "--key", "-", "--credentials",
                       str(directory), secret=key)


def altered(key):
    """The same key with another secret: one character in the middle of its text."""
    middle = len(key) // 2
    return key[:middle] + ("a" if key[middle] != "a" else "b") + key[middle + 1:]


def test_keys_that_open_nothing(network, tmp_path):
    key = network.join_key("submitter")
    wrong = join(network, altered(key), tmp_path / "wrong")
    assert (wrong.returncode, "WRONG_KEY" in wrong.stderr) == (DENIED, True), wrong.stderr
    assert join(network, key, tmp_path / "first").returncode == 0
    used = join(network, key, tmp_path / "second")
    assert (used.returncode, "WRONG_KEY" in used.stderr) == (DENIED, True), used.stderr
    assert not (tmp_path / "second" / "identity.json").exists()


def test_an_expired_key(network, tmp_path):
    began = time.monotonic()
    key = network.join_key("submitter", expires="1s")
    network.wait_until(lambda: time.monotonic() > began + 1.5, "the key has expired")
    late = join(network, key, tmp_path / "late")
    assert (late.returncode, "KEY_EXPIRED" in late.stderr) == (DENIED, True), late.stderr


@pytest.fixture
def expired(network):
    """A submitter's identity whose certificate ended a day ago."""
    authority = Authority.load(network.broker_directory, utc_now())
    key = new_private_key()
    issued = authority.issue(
        signing_request(key), "client_0123456789abcdef", "submitter",
        utc_now() - timedelta(days=2))
    return Credentials(
        broker_address=network.address, name="late", key_pem=private_key_pem(key),
        chain_pem=issued.chain_pem, root_pem=authority.root_pem,
        enrolment_port=identity_directory.load(network.credentials).enrolment_port)


def test_an_expired_certificate_is_renewed_for_nobody_that_is_unknown(network, expired, tmp_path):
    identity_directory.save(tmp_path / "late", expired)
    with pytest.raises(HomespunError) as caught:
        homespun.connect(credentials=tmp_path / "late")
    assert caught.value.code is Code.NOT_ALLOWED
    assert expired.id in caught.value.message
    done = network.run("homespun", "jobs", "--credentials", str(tmp_path / "late"))
    assert done.returncode == CATALOG[Code.NOT_ALLOWED].exit_code == DENIED


def test_an_expired_certificate_that_cannot_be_renewed_now_is_named(expired, tmp_path):
    identity_directory.save(tmp_path / "late", replace(expired, enrolment_port=1))
    with pytest.raises(HomespunError) as caught:
        homespun.connect(credentials=tmp_path / "late")
    assert caught.value.code is Code.UNREACHABLE
    assert f"The certificate of {expired.id} expired at " in caught.value.message
    assert "127.0.0.1:1 " in caught.value.message


def test_an_expired_certificate_is_refused_there(network, expired):
    """A program that does not look at its own certificate gets no further than the handshake."""
    channel = grpc.secure_channel(
        network.address,
        grpc.ssl_channel_credentials(expired.root_pem, expired.key_pem, expired.chain_pem),
        channel_options("broker"))
    with channel, pytest.raises(grpc.RpcError) as caught:
        jobs_pb2_grpc.JobServiceStub(channel).ListJobs(jobs_pb2.ListJobsRequest(), timeout=30)
    assert error_of(caught.value, "the broker").code in (
        Code.UNREACHABLE, Code.NOT_AUTHENTICATED, Code.CERTIFICATE_EXPIRED)


@pytest.mark.parametrize("version", OTHERS)
def test_a_client_of_another_protocol(network, client, version):
    held = identity_directory.load(network.credentials)
    jobs = client.jobs()
    with open_channel(held, network.address) as channel, pytest.raises(grpc.RpcError) as caught:
        jobs_pb2_grpc.JobServiceStub(channel).Submit(
            jobs_pb2.SubmitRequest(request_id="x", protocol_version=version), timeout=30)
    assert_incompatible(caught.value, version)
    assert client.jobs() == jobs


@pytest.mark.parametrize("version", OTHERS)
def test_a_peer_of_another_protocol(network, lab, version):
    """Neither does it get in, nor does it disturb the session of the peer whose name it has."""
    held = identity_directory.load(network.peer_directory(0) / "identity")
    register = session_pb2.PeerMessage(
        register=session_pb2.Register(protocol_version=version, name="other"))
    with open_channel(held, network.address) as channel, pytest.raises(grpc.RpcError) as caught:
        next(session_pb2_grpc.SessionServiceStub(channel).Connect(iter([register]), timeout=30))
    assert_incompatible(caught.value, version)
    assert lab.free_peers(network) == 3


def assert_incompatible(call, version):
    error = error_of(call, "the broker")
    assert error.code is Code.INCOMPATIBLE_VERSION
    assert f"version {version}" in error.message
    assert CATALOG[error.code].exit_code == 9
