"""Join a network with a key, and renew the certificate that came of it. The joiner's side.

The secret of a join key is sent only to the broker that the key was made by:

1. Take whatever certificate the enrolment port shows, unverified, and fetch the root over a
   connection to just that certificate. Nothing secret is sent.
2. Compare the root's SHA-256 with the fingerprint inside the key. Anything else ends here.
3. Connect anew, trusting only that root and the broker's name, and send secret and signing request.
   Whoever merely relayed the true root in step 1 cannot pass this handshake.

A certificate that has expired opens no connection to the main port any more, so it is renewed at
the enrolment port: by itself and a request signed with its key, which the other side compares.

Calls block; an asyncio program runs them with `asyncio.to_thread`.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from homespun.errors import Code, HomespunError
from homespun.identity import directory as identity_directory
from homespun.identity.address import grpc_target, join_address, split_address
from homespun.identity.certificates import (
    MAX_PEM_BYTES,
    fingerprint,
    load_chain,
    load_private_key,
    new_private_key,
    private_key_pem,
    signing_request,
    utc_now,
)
from homespun.identity.channels import channel_options, open_channel
from homespun.identity.directory import Credentials
from homespun.identity.join_key import JoinKey, parse
from homespun.identity.names import BROKER_ID
from homespun.identity.private_file import require_writable
from homespun.rpc_errors import error_of
from homespun.v1 import enrolment_pb2, enrolment_pb2_grpc
from homespun.version import PROTOCOL_VERSION

DEFAULT_TIMEOUT_S = 20.0
MAX_NAME_CHARACTERS = 64


def enrol(
    address: str,
    key_text: str,
    name: str,
    directory: Path,
    *,
    role: str = "",
    replace: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Credentials:
    """Join a network and save the new identity.

    Args:
        address: `host:port` of the broker's main port; the enrolment port is in the key.
        key_text: the join key.
        name: what people will call this machine or user; 1 to 64 printable characters.
        directory: where the identity is saved.
        role: refuse a key that was made for another role: `peer` or `submitter`; "" takes any.
        replace: give up an identity that the directory already holds.
        timeout_s: longest this may take in all.

    Raises:
        HomespunError: WRONG_KEY, KEY_EXPIRED, UNTRUSTED_BROKER, INCOMPATIBLE_VERSION, OVERLOADED,
            UNREACHABLE, TIMED_OUT; CONFLICT when the directory holds an identity;
            INVALID_ARGUMENT for a malformed address or name; BAD_CONFIGURATION when the directory
            cannot be written.
    """
    deadline = time.monotonic() + timeout_s
    key = parse(key_text)
    host, _ = split_address(address)
    check_name(name)
    if not replace:
        _require_free(directory)
    require_writable(directory)  # before the key is used up
    enrolment = join_address(host, key.enrolment_port)
    root_pem = _fetch_root(enrolment, key, deadline)
    private_key = new_private_key()
    request = enrolment_pb2.EnrolRequest(
        key_id=key.key_id, secret=key.secret, csr_pem=signing_request(private_key), name=name,
        protocol_version=PROTOCOL_VERSION, wanted_role=role)
    with _enrolment_stub(enrolment, root_pem) as stub, _errors_of(enrolment):
        response = stub.Enrol(request, timeout=_left(deadline, enrolment))
    if role and response.role != role:  # a broker of before `wanted_role`
        raise HomespunError(
            Code.WRONG_KEY, f"The key was made for the role {response.role}, not for {role!r}.")
    credentials = Credentials(
        broker_address=address.strip(), name=name, key_pem=private_key_pem(private_key),
        chain_pem=response.certificate_chain_pem, root_pem=root_pem,
        enrolment_port=key.enrolment_port)
    identity_directory.save(directory, credentials)
    return credentials


def renew(
    directory: Path, *, address: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Credentials:
    """Replace the certificate of the identity in a directory by a new one for the same key.

    The key stays, so that the directory changes in one step. Channels that are open keep their old
    certificate: open new ones for new calls. A certificate that has expired is renewed as well, for
    as long afterwards as the broker allows.

    Args:
        directory: holds the identity.
        address: `host:port` of the broker, if it is not where it was joined.
        timeout_s: longest the call may take.

    Raises:
        HomespunError: CERTIFICATE_EXPIRED when it is too late; NOT_ALLOWED when the identity has
            been shut out, or is not known; UNREACHABLE, TIMED_OUT,
            UNTRUSTED_BROKER; BAD_CONFIGURATION when the directory cannot be used.
    """
    credentials = identity_directory.load(directory)
    address = address or credentials.broker_address
    ask = _renew_expired if credentials.has_expired(utc_now()) else _renew
    response = ask(credentials, address, timeout_s)
    renewed = credentials.renewed(response.certificate_chain_pem)
    identity_directory.save_renewed(directory, renewed)
    return renewed


def load_valid(directory: Path, *, address: str | None = None) -> Credentials:
    """The identity in a directory; one that has expired is renewed first.

    Raises:
        HomespunError: as `directory.load` and `renew`.
    """
    held = identity_directory.load(directory)
    return renew(directory, address=address) if held.has_expired(utc_now()) else held


def _renew(
    credentials: Credentials, address: str, timeout_s: float,
) -> enrolment_pb2.RenewResponse:
    request = enrolment_pb2.RenewRequest(csr_pem=_own_request(credentials))
    with open_channel(credentials, address) as channel, _errors_of(address):
        stub = enrolment_pb2_grpc.RenewalServiceStub(channel)
        response: enrolment_pb2.RenewResponse = stub.Renew(request, timeout=timeout_s)
    return response


def _renew_expired(
    credentials: Credentials, address: str, timeout_s: float,
) -> enrolment_pb2.RenewResponse:
    host, port = split_address(address)
    enrolment = join_address(host, credentials.enrolment_port or port + 1)
    request = enrolment_pb2.RenewExpiredRequest(
        certificate_pem=credentials.chain_pem, csr_pem=_own_request(credentials),
        protocol_version=PROTOCOL_VERSION)
    try:
        with _enrolment_stub(enrolment, credentials.root_pem) as stub, _errors_of(enrolment):
            response: enrolment_pb2.RenewResponse = stub.RenewExpired(request, timeout=timeout_s)
    except HomespunError as error:
        if error.code not in (Code.UNREACHABLE, Code.TIMED_OUT):
            raise
        # The port is another one than people know: they must see why somebody asks there.
        ended = f"{credentials.expires_at:%Y-%m-%d %H:%M}"
        raise HomespunError(
            error.code,
            f"The certificate of {credentials.id} expired at {ended} UTC, and could not be "
            f"renewed: {error.message}", **error.details) from error
    return response


def _own_request(credentials: Credentials) -> bytes:
    return signing_request(load_private_key(credentials.key_pem))


def check_name(name: str) -> None:
    """Check the name that people will read; both sides call this.

    Raises:
        HomespunError: INVALID_ARGUMENT unless it has 1 to 64 printable characters.
    """
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable() or name.isspace():
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"The name {name[:80]!r} is not accepted; expected 1 to {MAX_NAME_CHARACTERS} "
            "printable characters.")


def _require_free(directory: Path) -> None:
    if not identity_directory.exists(directory):
        return
    held = identity_directory.load(directory)
    expired = " Its certificate has expired; it is renewed when it is used." if held.has_expired(
        utc_now()) else ""
    raise HomespunError(
        Code.CONFLICT,
        f"{directory} already holds the identity {held.id} of network {held.network_id}.{expired} "
        "Use another directory, or ask for the identity to be replaced: its jobs and its name stay "
        "with the old one.", id=held.id)


def _fetch_root(enrolment: str, key: JoinKey, deadline: float) -> bytes:
    """Fetch the root certificate and compare it with the key's fingerprint, before any secret."""
    leaf_pem = _shown_certificate(enrolment, deadline)
    with _enrolment_stub(enrolment, leaf_pem) as stub, _errors_of(enrolment):
        response = stub.GetRoot(
            enrolment_pb2.GetRootRequest(), timeout=_left(deadline, enrolment))
    root_pem: bytes = response.root_pem
    try:
        chain = load_chain(root_pem)
    except ValueError:
        chain = []
    if len(chain) != 1 or fingerprint(chain[0]) != key.root_fingerprint:
        raise HomespunError(
            Code.UNTRUSTED_BROKER,
            f"The broker at {enrolment} is not the one that made this key: its root certificate "
            "has another fingerprint. The key's secret was not sent.")
    return root_pem


def _shown_certificate(enrolment: str, deadline: float) -> bytes:
    """The certificate that the port shows, PEM. It proves nothing yet."""
    timeout_s = _left(deadline, enrolment)
    try:
        pem = ssl.get_server_certificate(split_address(enrolment), timeout=timeout_s).encode()
    except TimeoutError as error:
        raise HomespunError(
            Code.TIMED_OUT, f"Nothing answered at {enrolment} in {timeout_s:.0f} s.") from error
    except (OSError, ValueError) as error:  # ValueError: no certificate, or an impossible host
        raise HomespunError(
            Code.UNREACHABLE,
            f"The broker's enrolment port {enrolment} cannot be reached: {error}.") from error
    if len(pem) > MAX_PEM_BYTES:
        raise HomespunError(
            Code.UNTRUSTED_BROKER, f"{enrolment} shows a certificate of {len(pem)} bytes.")
    return pem


@contextmanager
def _enrolment_stub(
    enrolment: str, trusted_pem: bytes,
) -> Iterator[enrolment_pb2_grpc.EnrolmentServiceStub]:
    """A stub over a channel that trusts one certificate and shows none."""
    with grpc.secure_channel(
        grpc_target(enrolment), grpc.ssl_channel_credentials(trusted_pem),
        channel_options(BROKER_ID),
    ) as channel:
        yield enrolment_pb2_grpc.EnrolmentServiceStub(channel)


@contextmanager
def _errors_of(address: str) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise error_of(error, f"The broker at {address}") from error


def _left(deadline: float, address: str) -> float:
    """Seconds until the deadline."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise HomespunError(Code.TIMED_OUT, f"The broker at {address} took too long to answer.")
    return left_s
