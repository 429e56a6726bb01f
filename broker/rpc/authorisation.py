"""Who may call what on the broker's two ports: the whole policy in two tables.

The check itself is `homespun.identity.guard.Guard`. Whether a submitter may see a particular job is
decided by the job's servicer, from `identify(context)`.
"""

from __future__ import annotations

from homespun.identity.caller import identify
from homespun.identity.guard import PUBLIC, Guard, Permissions
from homespun.identity.names import Role

__all__ = ["ENROLMENT_PERMISSIONS", "PERMISSIONS", "Guard", "identify"]

_PEERS = frozenset({Role.PEER})
_USERS = frozenset({Role.SUBMITTER, Role.OPERATOR})
_OPERATORS = frozenset({Role.OPERATOR})
_MEMBERS = frozenset({Role.PEER, Role.SUBMITTER, Role.OPERATOR})

PERMISSIONS: Permissions = {
    "/homespun.v1.RenewalService/Renew": _MEMBERS,
    "/homespun.v1.SessionService/Connect": _PEERS,
    "/homespun.v1.BlobService/Stat": _MEMBERS,
    "/homespun.v1.BlobService/Upload": _MEMBERS,
    "/homespun.v1.BlobService/Download": _MEMBERS,
    "/homespun.v1.JobService/Submit": _USERS,
    "/homespun.v1.JobService/GetJob": _USERS,
    "/homespun.v1.JobService/ListJobs": _USERS,
    "/homespun.v1.JobService/WatchJob": _USERS,
    "/homespun.v1.JobService/CancelJob": _USERS,
    "/homespun.v1.JobService/GetResult": _USERS,
    "/homespun.v1.JobService/GetMetrics": _USERS,
    "/homespun.v1.JobService/ExplainPlacement": _USERS,
    "/homespun.v1.JobService/GetTimeline": _USERS,
    "/homespun.v1.JobService/GetFleet": _USERS,
    "/homespun.v1.OperatorService/ListPeers": _OPERATORS,
    "/homespun.v1.OperatorService/CreateKey": _OPERATORS,
    "/homespun.v1.OperatorService/ListKeys": _OPERATORS,
    "/homespun.v1.OperatorService/RevokeKey": _OPERATORS,
    "/homespun.v1.OperatorService/DrainPeer": _OPERATORS,
    "/homespun.v1.OperatorService/GetBackups": _OPERATORS,
    "/homespun.v1.OperatorService/AdmitPeer": _OPERATORS,
    "/homespun.v1.OperatorService/BanMember": _OPERATORS,
    "/homespun.v1.OperatorService/LabelPeer": _OPERATORS,
    "/homespun.v1.OperatorService/ForgetPeer": _OPERATORS,
    "/homespun.v1.OperatorService/ListMembers": _OPERATORS,
    "/homespun.v1.OperatorService/GetEvents": _OPERATORS,
    "/homespun.v1.OperatorService/GetAudit": _OPERATORS,
    "/homespun.v1.OperatorService/GetTimeline": _OPERATORS,
    "/homespun.v1.OperatorService/CopyJournal": _OPERATORS,
    "/homespun.v1.OperatorService/CreateConsoleLink": _OPERATORS,
    "/homespun.v1.OperatorService/EndConsoleSession": _OPERATORS,
    "/homespun.v1.OperatorService/GetPeer": _OPERATORS,
    "/homespun.v1.OperatorService/GetPlacement": _OPERATORS,
}
"""The main port."""

ENROLMENT_PERMISSIONS: Permissions = {
    "/homespun.v1.EnrolmentService/GetRoot": PUBLIC,
    "/homespun.v1.EnrolmentService/Enrol": PUBLIC,
    "/homespun.v1.EnrolmentService/RenewExpired": PUBLIC,
}
"""The enrolment port. A join key is what protects `Enrol`, a certificate and its key
`RenewExpired`."""
