"""Enrolment (key for certificate) and renewal (certificate for certificate), late or in time.

The core decides who may join; this shell checks the signing request first, so that a key is never
used up by a request that could not be signed, and signs what the core has admitted.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import grpc

from broker.core.commands import AdmitIdentity, Reject
from broker.core.events import EnrolmentRequested, LateRenewalRequested
from broker.identity.authority import Authority, Issued
from broker.rpc.rate_limit import SourceLimiter, source_of
from broker.settings import RENEW_EXPIRED_WITHIN_S
from homespun.errors import Code, HomespunError
from homespun.identity.caller import identify
from homespun.identity.certificates import requested_key, utc_now
from homespun.identity.enrol import check_name
from homespun.identity.join_key import SECRET_BYTES, secret_hash
from homespun.ids import is_id
from homespun.v1 import enrolment_pb2, enrolment_pb2_grpc
from homespun.version import check_version

Ask = Callable[[EnrolmentRequested | LateRenewalRequested], Awaitable[AdmitIdentity | Reject]]
"""Stamps the event, puts it through the core and returns the command with its `request_id`.

It may raise the refusal instead of returning it.
"""

NoteIssued = Callable[[str, datetime], None]
"""Told whose certificate was made, and when it ends."""

_Context = grpc.aio.ServicerContext[Any, Any]


def _unnoted(member_id: str, expires_at: datetime) -> None:
    pass


def _new_token() -> str:
    return secrets.token_hex(8)


class EnrolmentServicer(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """First contact. Serve it on its own port, behind a guard with `ENROLMENT_PERMISSIONS`.

    Args:
        authority: signs certificates.
        ask: asks the core.
        limiter: how often one address may try a key or a renewal.
        renew_within: how long after its end a certificate can still be renewed.
        note_issued: see there.
        clock: the time, for certificates.
        new_token: makes the random part of ids, `[0-9a-z]{1,40}`.
    """

    def __init__(
        self,
        authority: Authority,
        ask: Ask,
        *,
        limiter: SourceLimiter | None = None,
        renew_within: timedelta = timedelta(seconds=RENEW_EXPIRED_WITHIN_S),
        note_issued: NoteIssued = _unnoted,
        clock: Callable[[], datetime] = utc_now,
        new_token: Callable[[], str] = _new_token,
    ) -> None:
        self._authority = authority
        self._ask = ask
        self._limiter = limiter or SourceLimiter()
        self._renew_within = renew_within
        self._note_issued = note_issued
        self._clock = clock
        self._new_token = new_token

    async def GetRoot(  # noqa: N802 - name of the RPC
        self, request: enrolment_pb2.GetRootRequest, context: _Context,
    ) -> enrolment_pb2.GetRootResponse:
        """Hand out the public certificates."""
        return enrolment_pb2.GetRootResponse(
            root_pem=self._authority.root_pem, issuing_pem=self._authority.issuing_pem,
            network_id=self._authority.network_id)

    async def Enrol(  # noqa: N802 - name of the RPC
        self, request: enrolment_pb2.EnrolRequest, context: _Context,
    ) -> enrolment_pb2.EnrolResponse:
        """Exchange a join key for a certificate."""
        self._check_rate(context)
        check_version(request.protocol_version, "joining machine")
        check_name(request.name)
        requested_key(request.csr_pem)  # refused before the key is used up
        admitted = await self._admit(request)
        issued = self._issue(request.csr_pem, admitted)
        return enrolment_pb2.EnrolResponse(
            id=admitted.identity, role=admitted.role,
            certificate_chain_pem=issued.chain_pem, expires_unix_ms=_unix_ms(issued))

    async def _admit(self, request: enrolment_pb2.EnrolRequest) -> AdmitIdentity:
        if not is_id(request.key_id, "key") or len(request.secret) != SECRET_BYTES:
            raise HomespunError(Code.WRONG_KEY, "The join key is not one of this network's.")
        event = EnrolmentRequested(
            at_ns=0,  # the driver stamps it
            request_id=f"enrol_{self._new_token()}",
            key_id=request.key_id,
            secret_hash=secret_hash(request.secret),
            name=request.name,
            new_id=self._new_token(),
            wanted_role=request.wanted_role)
        return await self._decided(event)

    async def RenewExpired(  # noqa: N802 - name of the RPC
        self, request: enrolment_pb2.RenewExpiredRequest, context: _Context,
    ) -> enrolment_pb2.RenewResponse:
        """Renew a certificate that is too old for the main port.

        TLS refuses it there, so the proof is in the message: a certificate of this network, and a
        request signed with its key. Whoever sends the same two again gets a certificate for that
        same key, which is of use to nobody else.
        """
        self._check_rate(context)
        check_version(request.protocol_version, "member that renews its certificate")
        member, certificate = self._authority.member_of(request.certificate_pem)
        if requested_key(request.csr_pem) != certificate.public_key():
            raise HomespunError(
                Code.NOT_AUTHENTICATED,
                f"The request is signed with another key than that of {member.id}'s certificate.")
        expired = certificate.not_valid_after_utc
        if self._clock() - expired > self._renew_within:
            raise self._too_late(member.id, expired)
        admitted = await self._decided(LateRenewalRequested(
            at_ns=0, request_id=f"renew_{self._new_token()}", identity=member.id,
            expired_at_ns=int(expired.timestamp()) * 1_000_000_000))
        return _renewed(self._issue(request.csr_pem, admitted))

    def _issue(self, csr_pem: bytes, admitted: AdmitIdentity) -> Issued:
        issued = self._authority.issue(
            csr_pem, admitted.identity, admitted.role, self._clock())
        self._note_issued(admitted.identity, issued.expires)
        return issued

    def _too_late(self, member_id: str, expired: datetime) -> HomespunError:
        days = self._renew_within.total_seconds() / 86_400
        return HomespunError(
            Code.CERTIFICATE_EXPIRED,
            f"The certificate of {member_id} expired at {expired:%Y-%m-%d %H:%M} UTC, and this "
            f"broker renews expired ones for {days:g} days. Join again with a new key and "
            "--replace.", id=member_id, expired_at=expired.isoformat())

    def _check_rate(self, context: _Context) -> None:
        if not self._limiter.allow(source_of(context.peer())):
            raise HomespunError(
                Code.OVERLOADED,
                "Too many attempts to join or renew from this address. Wait some seconds.")

    async def _decided(self, event: EnrolmentRequested | LateRenewalRequested) -> AdmitIdentity:
        answer = await self._ask(event)
        if isinstance(answer, Reject):
            raise HomespunError(Code(answer.code), answer.message)
        return answer


class RenewalServicer(enrolment_pb2_grpc.RenewalServiceServicer):
    """Renewal, on the main port: the new certificate names whom the caller's certificate names."""

    def __init__(
        self, authority: Authority, clock: Callable[[], datetime] = utc_now,
        note_issued: NoteIssued = _unnoted,
    ) -> None:
        self._authority = authority
        self._clock = clock
        self._note_issued = note_issued

    async def Renew(  # noqa: N802 - name of the RPC
        self, request: enrolment_pb2.RenewRequest, context: _Context,
    ) -> enrolment_pb2.RenewResponse:
        """Issue a new certificate to the caller."""
        caller = identify(context, self._clock())
        issued = self._authority.issue(request.csr_pem, caller.id, caller.role, self._clock())
        self._note_issued(caller.id, issued.expires)
        return _renewed(issued)


def _renewed(issued: Issued) -> enrolment_pb2.RenewResponse:
    return enrolment_pb2.RenewResponse(
        certificate_chain_pem=issued.chain_pem, expires_unix_ms=_unix_ms(issued))


def _unix_ms(issued: Issued) -> int:
    return int(issued.expires.timestamp() * 1_000)
