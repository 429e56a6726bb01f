"""The members of the network as the messages that operators see."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from broker.clock import unix_ms
from broker.core.machine import Broker
from broker.core.member_views import MemberView, members
from broker.sightings import Sightings
from homespun.v1 import operator_pb2

MEMBERS_PER_PART = 1_000
"""A few hundred bytes each."""


def members_parts(core: Broker, sightings: Sightings) -> Iterator[operator_pb2.MembersPart]:
    """Every member, in parts that are messages."""
    found = iter(members(core))
    while some := list(islice(found, MEMBERS_PER_PART)):
        yield operator_pb2.MembersPart(members=[_member(one, sightings) for one in some])


def _member(one: MemberView, sightings: Sightings) -> operator_pb2.MemberStatus:
    seen = sightings.of(one.member_id)
    return operator_pb2.MemberStatus(
        member_id=one.member_id,
        name=one.name,
        label=one.label,
        role=one.role,
        state=one.state,
        standing=one.standing,
        ban_reason=one.ban_reason,
        joined_unix_ms=unix_ms(one.joined_at_ns),
        last_seen_unix_ms=max(unix_ms(one.last_seen_ns), _unix_ms(seen.called_at)),
        certificate_expires_unix_ms=_unix_ms(seen.expires_at),
        unfinished_jobs=one.unfinished_jobs,
        key_id=one.key_id,
    )


def _unix_ms(at: datetime | None) -> int:
    return 0 if at is None else int(at.timestamp() * 1_000)
