from __future__ import annotations

import os
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.identity.authority import (
    Authority,
    create_authority,
    renew_operator,
    write_operator,
)
from broker.identity.profiles import ISSUING_LIFETIME, ROOT_LIFETIME
from broker.identity.server_certificate import ServerCertificate
from homespun.errors import Code, HomespunError
from homespun.identity import directory as identity_directory
from homespun.identity.certificates import (
    identity_of,
    load_chain,
    new_private_key,
    signing_request,
    utc_now,
)


def request_of(key, algorithm=None):
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm or hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_init_writes_a_network_that_loads_again(network):
    loaded = Authority.load(network.directory, utc_now())
    assert loaded.root == network.authority.root
    assert loaded.network_id == network.authority.network_id
    operator = identity_directory.load(network.directory / "operator")
    assert (operator.role, operator.network_id) == ("operator", loaded.network_id)


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
@pytest.mark.parametrize("file", ["ca/root.key", "ca/issuing.key", "operator/key.pem"])
def test_private_keys_are_for_their_owner_only(network, file):
    assert (network.directory / file).stat().st_mode & 0o777 == 0o600


def test_init_refuses_a_directory_that_has_a_network(network):
    with pytest.raises(HomespunError) as caught:
        create_authority(network.directory, broker_address="a:1", now=utc_now())
    assert caught.value.code is Code.CONFLICT
    assert Authority.load(network.directory, utc_now()).root == network.authority.root


def test_init_after_an_interrupted_one(tmp_path):
    (tmp_path / "ca.unfinished").mkdir()
    (tmp_path / "ca.unfinished" / "issuing.key").write_text("half a ke")
    create_authority(tmp_path, broker_address="a:1", now=utc_now())
    assert not (tmp_path / "ca.unfinished").exists()


def test_two_networks_have_different_names(network, foreign_network):
    assert network.authority.network_id != foreign_network.authority.network_id
    assert network.authority.root.subject != foreign_network.authority.root.subject


@pytest.mark.parametrize(("role", "identity", "serves"), [
    ("peer", "peer_7f", True), ("submitter", "client_7f", False),
    ("operator", "operator_7f", False), ("broker", "broker", True)])
def test_a_certificate_says_who_and_what_for(network, role, identity, serves):
    now, key = utc_now(), new_private_key()
    issued = network.authority.issue(signing_request(key), identity, role, now)
    leaf, issuing = load_chain(issued.chain_pem)
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(network.authority.root)
    named = identity_of(leaf)
    assert (named.id, named.role, named.network_id) == (
        identity, role, network.authority.network_id)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"spiffe://{network.authority.network_id}/{role}/{identity}"]
    assert names.get_values_for_type(x509.DNSName) == [
        identity.replace("_", "-") + ".homespun.internal"]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert (ExtendedKeyUsageOID.SERVER_AUTH in usage) is serves
    assert ExtendedKeyUsageOID.CLIENT_AUTH in usage
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.public_key() == key.public_key()
    assert leaf.not_valid_before_utc <= now - timedelta(minutes=4)
    if role != "operator":
        assert abs(issued.expires - now - timedelta(hours=24)) < timedelta(seconds=2)


def test_only_the_public_key_of_a_request_is_used(network):
    key = new_private_key()
    wanted = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    csr = (
        x509.CertificateSigningRequestBuilder().subject_name(wanted)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("broker.homespun.internal")]), critical=False)
        .sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    leaf = load_chain(network.authority.issue(csr, "peer_1", "peer", utc_now()).chain_pem)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["peer-1.homespun.internal"]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "broker" not in leaf.subject.rfc4514_string()


def test_bad_requests_are_refused(network):
    def refused(csr):
        with pytest.raises(HomespunError) as caught:
            network.authority.issue(csr, "peer_1", "peer", utc_now())
        return caught.value.code

    der = x509.load_pem_x509_csr(signing_request(new_private_key())).public_bytes(
        serialization.Encoding.DER)
    forged = x509.load_der_x509_csr(der[:-1] + bytes([der[-1] ^ 1])).public_bytes(
        serialization.Encoding.PEM)
    assert refused(forged) is Code.INVALID_ARGUMENT
    assert refused(b"") is Code.INVALID_ARGUMENT
    assert refused(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n") is Code.INVALID_ARGUMENT
    assert refused(request_of(ec.generate_private_key(ec.SECP384R1()))) is Code.INVALID_ARGUMENT
    assert refused(request_of(rsa.generate_private_key(65537, 2048))) is Code.INVALID_ARGUMENT
    assert refused(signing_request(new_private_key()) + b"\n" * 5_000) is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize(("identity", "role"), [
    ("peer_1", "operator"), ("client_1", "peer"), ("broker", "peer"), ("peer_1", "broker"),
    ("peer_1/../broker", "peer"), ("", "peer"), ("peer_1", "root"), ("peer_UP", "peer")])
def test_an_id_must_belong_to_its_role(network, identity, role):
    with pytest.raises(HomespunError) as caught:
        network.authority.issue(signing_request(new_private_key()), identity, role, utc_now())
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_the_issuing_authority_is_replaced_in_time(network):
    later = utc_now() + ISSUING_LIFETIME * 3 / 4
    loaded = Authority.load(network.directory, later)
    assert loaded.issuing != network.authority.issuing
    assert loaded.issuing.not_valid_after_utc > network.authority.issuing.not_valid_after_utc
    assert loaded.root == network.authority.root
    loaded.issue(signing_request(new_private_key()), "peer_1", "peer", later)


def test_without_the_root_key_the_issuing_authority_lasts_until_it_expires(network):
    (network.directory / "ca" / "root.key").unlink()
    late = utc_now() + ISSUING_LIFETIME - timedelta(hours=1)
    loaded = Authority.load(network.directory, late)
    issued = loaded.issue(signing_request(new_private_key()), "peer_1", "peer", late)
    assert issued.expires == loaded.issuing.not_valid_after_utc
    with pytest.raises(HomespunError) as caught:
        Authority.load(network.directory, late + timedelta(hours=2))
    assert caught.value.code is Code.BAD_CONFIGURATION
    with pytest.raises(HomespunError):
        loaded.issue(signing_request(new_private_key()), "peer_1", "peer", late + timedelta(days=1))


def test_nothing_outlives_the_root(network):
    late = utc_now() + ROOT_LIFETIME - timedelta(days=30)
    loaded = Authority.load(network.directory, late)
    assert loaded.issuing.not_valid_after_utc == loaded.root.not_valid_after_utc


@pytest.mark.parametrize("file", ["root.pem", "issuing.pem", "issuing.key"])
@pytest.mark.parametrize("damage", [b"", b"rubbish", b"x" * 70_000])
def test_a_damaged_file_is_named(network, file, damage):
    (network.directory / "ca" / file).write_bytes(damage)
    with pytest.raises(HomespunError, match=file) as caught:
        Authority.load(network.directory, utc_now())
    assert caught.value.code is Code.BAD_CONFIGURATION


@pytest.mark.parametrize("file", ["root.pem", "issuing.pem", "issuing.key"])
def test_files_of_two_networks_are_told_apart(network, foreign_network, file):
    other = (foreign_network.directory / "ca" / file).read_bytes()
    (network.directory / "ca" / file).write_bytes(other)
    with pytest.raises(HomespunError) as caught:
        Authority.load(network.directory, utc_now())
    assert caught.value.code is Code.BAD_CONFIGURATION


def test_no_network_yet(tmp_path):
    with pytest.raises(HomespunError, match="broker init") as caught:
        Authority.load(tmp_path, utc_now())
    assert caught.value.code is Code.BAD_CONFIGURATION


def test_an_operator_gets_a_fresh_identity_at_each_start(network):
    now = utc_now() + timedelta(days=400)
    fresh = write_operator(
        network.authority, network.directory, broker_address="nas:7700", now=now)
    loaded = identity_directory.load(network.directory / "operator")
    assert loaded == fresh
    assert loaded.broker_address == "nas:7700"
    loaded.require_valid(now)


@pytest.mark.parametrize("days", [300, 400])
def test_an_operators_command_renews_its_identity_when_it_is_due(network, days):
    before = identity_directory.load(network.directory / "operator")
    renew_operator(network.directory, utc_now())
    assert identity_directory.load(network.directory / "operator") == before
    now = utc_now() + timedelta(days=days)
    renew_operator(network.directory, now)
    after = identity_directory.load(network.directory / "operator")
    assert (after.identity, after.key_pem) == (before.identity, before.key_pem)
    after.require_valid(now + timedelta(days=300))


def test_an_operators_identity_far_from_the_authority_is_used_while_it_lasts(network):
    (network.directory / "ca" / "issuing.key").unlink()
    renew_operator(network.directory, utc_now() + timedelta(days=300))
    with pytest.raises(HomespunError) as caught:
        renew_operator(network.directory, utc_now() + timedelta(days=400))
    assert caught.value.code is Code.BAD_CONFIGURATION


def test_the_broker_renews_its_own_certificate_at_two_thirds(network, clock):
    certificate = ServerCertificate(network.authority, clock)
    first = certificate.current()
    clock.now += timedelta(hours=15)
    assert certificate.current() == first
    clock.now += timedelta(hours=2)
    second = certificate.current()
    assert second != first
    assert load_chain(second.chain_pem)[0].not_valid_after_utc > clock.now + timedelta(hours=23)
