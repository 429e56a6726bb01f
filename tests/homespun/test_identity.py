"""Names, join keys, the identity on disk, addresses, versions."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.identity.authority import create_authority
from homespun.errors import Code, HomespunError
from homespun.identity import directory as identity_directory
from homespun.identity.address import grpc_target, join_address, split_address, with_port
from homespun.identity.certificates import (
    new_private_key,
    private_key_pem,
    signing_request,
    utc_now,
)
from homespun.identity.directory import Credentials
from homespun.identity.join_key import mint, parse, secret_hash
from homespun.identity.names import Identity, Role, dns_name, parse_uri
from homespun.ids import is_id
from homespun.version import MIN_PROTOCOL_VERSION, PROTOCOL_VERSION, check_version

NETWORK = "a" * 16


def code_of(function, *arguments):
    with pytest.raises(HomespunError) as caught:
        function(*arguments)
    return caught.value.code


keys = st.builds(
    lambda seed, port, root: mint(
        lambda n: hashlib.shake_128(seed + bytes([n])).digest(n), enrolment_port=port,
        root_fingerprint=root),
    st.binary(min_size=1, max_size=8), st.integers(1, 65_535),
    st.binary(min_size=32, max_size=32))


@given(keys)
def test_a_key_survives_its_text(key):
    assert parse(key.text) == key
    assert parse(f"  {key.text.upper()}\n") == key
    assert is_id(key.key_id, "key")
    assert key.text.startswith("hsk1_")
    assert len(key.text) == 108


@given(keys, st.data())
def test_one_wrong_character_is_always_noticed(key, data):
    at = data.draw(st.integers(0, len(key.text) - 1))
    wrong = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789-_ é"))
    text = key.text[:at] + wrong + key.text[at + 1:]
    if text.strip() != key.text:
        with pytest.raises(HomespunError, match="mistyped") as caught:
            parse(text)
        assert caught.value.code is Code.WRONG_KEY


@given(st.text(max_size=300))
@example("hsk1_")
@example("hsk1_" + "a" * 103)
@example("hsk1_" + "=" * 103)
@example("x" * 10_000)
def test_no_text_is_taken_for_a_key(text):
    assert code_of(parse, text) is Code.WRONG_KEY


def test_two_swapped_characters_are_noticed():
    key = mint(lambda n: bytes(range(n)), enrolment_port=7701, root_fingerprint=bytes(range(32)))
    for at in range(5, len(key.text) - 1):
        swapped = key.text[:at] + key.text[at + 1] + key.text[at] + key.text[at + 2:]
        if swapped != key.text:
            assert code_of(parse, swapped) is Code.WRONG_KEY


def test_the_form_of_a_key_never_changes():
    key = mint(lambda n: bytes(range(n)), enrolment_port=7701, root_fingerprint=bytes(range(32)))
    assert key.text == (
        "hsk1_aepbkaabaibqiaabaibqibiga4eascqlbqgq4dyqcejbgaabaibqibiga4eascqlbqgq4dyqcejb"
        "gfavcylrqgi2dmob2hq77a334kq")
    packed = base64.b32decode(key.text.removeprefix("hsk1_").upper() + "=")
    body = b"\x01" + (7701).to_bytes(2, "big") + bytes(range(5)) + bytes(range(20))
    body += bytes(range(32))
    assert packed == body + hashlib.sha256(body).digest()[:4]


def test_a_secret_is_kept_as_a_hash_and_never_shown():
    secret = bytes(20)
    assert secret_hash(secret) == hashlib.sha256(secret).hexdigest()
    key = mint(lambda n: b"\xab" * n, enrolment_port=1, root_fingerprint=bytes(32))
    assert "\\xab" not in repr(key)
    assert "secret" not in repr(key)


@pytest.mark.parametrize(("role", "identity"), [
    (Role.PEER, "peer_7f3a"), (Role.SUBMITTER, "client_0"), (Role.OPERATOR, "operator_local"),
    (Role.BROKER, "broker")])
def test_a_name_survives_its_uri(role, identity):
    name = Identity(network_id=NETWORK, role=role, id=identity)
    assert parse_uri(name.uri) == name
    assert name.dns_name == dns_name(identity)


@pytest.mark.parametrize("uri", [
    "", "spiffe://", f"spiffe://{NETWORK}/peer/client_1", f"spiffe://{NETWORK}/boss/peer_1",
    f"spiffe://{NETWORK}/peer/peer_1/x", f"https://{NETWORK}/peer/peer_1",
    "spiffe://short/peer/peer_1", f"spiffe://{NETWORK}/peer/peer_A", f"x spiffe://{NETWORK}/peer/p",
    f"spiffe://{NETWORK}/peer/peer_1\n", "spiffe://" + "a" * 10_000])
def test_other_uris_name_nobody(uri):
    with pytest.raises(ValueError):  # noqa: PT011 - any of the reasons
        parse_uri(uri)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return create_authority(tmp_path_factory.mktemp("ca"), broker_address="a:1", now=utc_now())


@pytest.fixture
def make(authority):
    def make(identity="peer_1", role="peer", name="kitchen"):
        key = new_private_key()
        issued = authority.issue(signing_request(key), identity, role, utc_now())
        return Credentials(
            broker_address="nas:7700", name=name, key_pem=private_key_pem(key),
            chain_pem=issued.chain_pem, root_pem=authority.root_pem)

    return make


def test_an_identity_survives_the_disk(make, tmp_path):
    made = make(name="Küche")
    identity_directory.save(tmp_path / "deep" / "me", made)
    assert identity_directory.load(tmp_path / "deep" / "me") == made
    assert sorted(path.name for path in (tmp_path / "deep" / "me").iterdir()) == [
        "chain.pem", "identity.json", "key.pem", "root.pem"]
    if os.name == "posix":
        assert (tmp_path / "deep" / "me" / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_private_key_is_never_readable_even_over_an_open_file(make, tmp_path):
    (tmp_path / "key.pem").write_text("old")
    (tmp_path / "key.pem").chmod(0o644)
    identity_directory.save(tmp_path, make())
    if os.name == "posix":
        assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_renewal_is_due_at_two_thirds(make):
    made = make()
    start = made.expires_at - timedelta(hours=24)
    assert not made.needs_renewal(start + timedelta(hours=15, minutes=50))
    assert made.needs_renewal(start + timedelta(hours=16, minutes=1))
    made.require_valid(made.expires_at - timedelta(seconds=1))
    assert code_of(made.require_valid, made.expires_at) is Code.CERTIFICATE_EXPIRED


def test_a_renewed_certificate_must_be_for_the_same_identity_and_key(make, authority):
    made = make()
    key = new_private_key()
    other = authority.issue(signing_request(key), "peer_1", "peer", utc_now())
    assert code_of(made.renewed, other.chain_pem) is Code.BAD_CONFIGURATION
    assert code_of(made.renewed, b"") is Code.BAD_CONFIGURATION
    assert code_of(made.renewed, make("peer_2").chain_pem) is Code.BAD_CONFIGURATION


def test_the_key_is_not_printed(make):
    assert "PRIVATE" not in repr(make())


def test_no_identity(tmp_path):
    assert code_of(identity_directory.load, tmp_path) is Code.BAD_CONFIGURATION
    assert not identity_directory.exists(tmp_path)


@pytest.mark.parametrize("file", ["identity.json", "key.pem", "chain.pem", "root.pem"])
@pytest.mark.parametrize("damage", [None, b"", b"{}", b"\xff" * 40, b"x" * 100_000])
def test_a_damaged_file_is_an_error_with_a_remedy(make, tmp_path, file, damage):
    identity_directory.save(tmp_path, make())
    if damage is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(damage)
    assert code_of(identity_directory.load, tmp_path) is Code.BAD_CONFIGURATION


def test_files_of_two_identities_are_told_apart(make, tmp_path):
    identity_directory.save(tmp_path / "a", make("peer_1"))
    identity_directory.save(tmp_path / "b", make("peer_2"))
    for file in ("identity.json", "key.pem", "chain.pem"):
        identity_directory.save(tmp_path / "a", make("peer_1"))
        (tmp_path / "a" / file).write_bytes((tmp_path / "b" / file).read_bytes())
        assert code_of(identity_directory.load, tmp_path / "a") is Code.BAD_CONFIGURATION, file


def test_fields_of_a_later_release_are_ignored(make, tmp_path):
    identity_directory.save(tmp_path, make())
    fields = json.loads((tmp_path / "identity.json").read_text())
    (tmp_path / "identity.json").write_text(json.dumps({**fields, "later": [1]}))
    assert identity_directory.load(tmp_path).id == "peer_1"


@pytest.mark.parametrize(("text", "parts"), [
    ("nas.local:7700", ("nas.local", 7700)), (" 10.0.0.1:1 ", ("10.0.0.1", 1)),
    ("[fe80::1]:65535", ("fe80::1", 65535)), ("my_host-2:80", ("my_host-2", 80))])
def test_addresses(text, parts):
    assert split_address(text) == parts
    assert join_address(*parts) == text.strip()
    assert with_port(text.strip(), 1) == text.strip()
    assert with_port(parts[0], parts[1]) == join_address(*parts)
    assert grpc_target(text) == "dns:///" + text.strip()


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_an_error(text):
    problem = None
    try:
        host, port = split_address(text)
        assert f"{host}:{port}" in re.sub(r"[\[\]]|(?<=:)0+", "", text)
    except HomespunError as error:
        problem = error.code
    assert problem in (None, Code.INVALID_ARGUMENT)


@pytest.mark.parametrize("text", [
    "unix:/run/docker.sock:1", "dns://8.8.8.8/x:1", "fe80::1:7700", "a:-1", "a:", "a:٣",
    "a" * 254 + ":1", "", "a:0", "a:65536", "[::1]", "[nas]:1\n[x]:2"])
def test_these_are_no_addresses(text):
    assert code_of(split_address, text) is Code.INVALID_ARGUMENT


def test_versions():
    assert check_version(PROTOCOL_VERSION, "broker") == PROTOCOL_VERSION
    assert check_version(MIN_PROTOCOL_VERSION, "broker") == MIN_PROTOCOL_VERSION
    with pytest.raises(HomespunError, match="The older one is the peer peer_1") as caught:
        check_version(MIN_PROTOCOL_VERSION - 1, "peer peer_1")
    assert caught.value.code is Code.INCOMPATIBLE_VERSION
    with pytest.raises(HomespunError, match="The older one is this side"):
        check_version(PROTOCOL_VERSION + 1, "broker")
