"""The audit log: who did what, why, and what came of it."""

from __future__ import annotations

import pytest

from broker.core import events as ev
from broker.core import limits, operator_views
from broker.core.machine import Broker

KEY = {"request_id": "r", "key_id": "key_1", "secret_hash": "h", "role": "peer",
       "reusable": True, "expires_at_ns": 2**62}


def entries(world):
    return [(each.by, each.action, each.subject, each.details, each.reason, bool(each.refusal))
            for each in reversed(operator_views.audit(world.broker, 100))]


def test_every_action_is_there_with_its_reason(world):
    job = world.training("peer_a", "peer_b")
    by = {"by": "operator_1", "reason": "because"}
    world.apply(ev.KeyCreated, **KEY, **by)
    world.apply(ev.KeyRevoked, request_id="r", key_id="key_1", **by)
    world.apply(ev.DrainRequested, request_id="r", peer_id="peer_a", deadline_ms=90_000, **by)
    world.apply(ev.DrainRequested, request_id="r", peer_id="peer_a", deadline_ms=0, undo=True,
                by="operator_1")
    world.apply(ev.CancelRequested, request_id="r", job_id=job, **by)
    world.apply(ev.PeerForgotten, request_id="r", peer_id="peer_a", **by)
    world.apply(ev.ConsoleAccessed, by="operator_2", action="link made", role="viewer")
    assert entries(world) == [
        ("operator_1", "keys create", "key_1", "peer, reusable", "because", False),
        ("operator_1", "keys revoke", "key_1", "", "because", False),
        ("operator_1", "drain", "peer_a", "within 90 s", "because", False),
        ("operator_1", "drain --undo", "peer_a", "", "", False),
        ("operator_1", "cancel", job, "", "because", False),
        ("operator_1", "forget", "peer_a", "", "because", True),
        ("operator_2", "console link made", "", "viewer", "", False)]
    assert "because" in world.broker.state.jobs[job].error_message


def test_what_was_refused_says_why(world):
    world.apply(ev.KeyRevoked, request_id="r", key_id="key_9", by="operator_1")
    (entry,) = operator_views.audit(world.broker, 1)
    assert entry.refusal == "There is no key 'key_9'."


def test_a_submitter_is_no_operator(world):
    job = world.training("peer_a", "peer_b")
    world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")
    assert entries(world) == []


def test_the_newest_stay_and_a_replay_tells_the_same(world, monkeypatch):
    monkeypatch.setattr(limits, "AUDIT_ENTRIES", 2)
    world.broker = Broker()
    world.journal.clear()
    world.start()
    for number in range(5):
        world.apply(ev.KeyRevoked, request_id="r", key_id=f"key_{number}", by="operator_1")
    assert [entry.number for entry in operator_views.audit(world.broker, 10)] == [5, 4]
    again = Broker()
    for event in world.journal:
        again.apply(event)
    assert operator_views.audit(again, 10) == operator_views.audit(world.broker, 10)


@pytest.mark.parametrize("kind", [ev.KeyCreated, ev.KeyRevoked])
def test_an_older_journal_names_nobody(world, kind):
    fields = KEY if kind is ev.KeyCreated else {"request_id": "r", "key_id": "key_1"}
    world.apply(kind, **fields)
    assert entries(world)[0][0] == ""
