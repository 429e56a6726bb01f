"""Join keys and who they admit."""

from __future__ import annotations

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import limits, views


def create(world, key="key_1", **changes):
    values = {"secret_hash": "a" * 64, "role": "peer", "reusable": False,
              "expires_at_ns": world.now_ns + 1000, **changes}
    return world.apply(ev.KeyCreated, request_id="c", key_id=key, **values)


def enrol(world, key="key_1", **changes):
    values = {"secret_hash": "a" * 64, "name": "box", "new_id": "abc", **changes}
    return world.apply(ev.EnrolmentRequested, request_id="e", key_id=key, **values)


def code(commands):
    (no,) = [c for c in commands if isinstance(c, do.Reject)]
    assert no.request_id in ("c", "e", "r")
    return no.code


@pytest.mark.parametrize(("role", "identity"), [("peer", "peer_abc"), ("submitter", "client_abc")])
def test_a_key_admits_its_role(world, only, role, identity):
    assert only(create(world, role=role), do.Reply)[0].value == "key_1"
    assert only(enrol(world), do.AdmitIdentity) == [
        do.AdmitIdentity(request_id="e", identity=identity, role=role)]
    assert views.role_of(world.broker, identity) == role
    assert views.keys(world.broker)[0].uses == 1


def test_a_single_use_key_is_consumed_once(world):
    create(world)
    enrol(world)
    assert code(enrol(world, new_id="other")) == "WRONG_KEY"
    assert views.role_of(world.broker, "peer_other") is None


def test_a_reusable_key_admits_many(world, only):
    create(world, reusable=True)
    for i in range(5):
        assert only(enrol(world, new_id=f"n{i}"), do.AdmitIdentity)
    assert views.keys(world.broker)[0].uses == 5


def test_wrong_unknown_and_revoked_keys_are_refused_alike(world, only):
    create(world)
    answers = [enrol(world, secret_hash="b" * 64), enrol(world, key="key_2"),
               enrol(world, secret_hash=""), enrol(world, secret_hash="\u00e9\ud800")]
    world.apply(ev.KeyRevoked, request_id="r", key_id="key_1")
    answers.append(enrol(world))
    assert {only(answer, do.Reject)[0].message for answer in answers} == {
        "The join key is not valid: unknown, revoked, or already used."}
    assert {code(answer) for answer in answers} == {"WRONG_KEY"}


def test_an_expired_key_says_so_to_its_holder_only(world):
    create(world)
    world.now_ns += 1000
    assert code(enrol(world)) == "KEY_EXPIRED"
    assert code(enrol(world, secret_hash="b" * 64)) == "WRONG_KEY"


def test_a_refused_enrolment_does_not_consume_the_key(world, only):
    create(world)
    assert code(enrol(world, name="")) == "INVALID_ARGUMENT"
    assert code(enrol(world, name="a\nb")) == "INVALID_ARGUMENT"
    assert code(enrol(world, new_id="NOT LOWER")) == "INVALID_ARGUMENT"
    assert only(enrol(world), do.AdmitIdentity)


def test_identities_never_collide(world):
    create(world, reusable=True)
    enrol(world)
    assert code(enrol(world)) == "CONFLICT"
    world.connect("peer_known")
    assert code(enrol(world, new_id="known")) == "CONFLICT"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"role": "operator"}, "INVALID_ARGUMENT"),
        ({"secret_hash": ""}, "INVALID_ARGUMENT"),
        ({"expires_at_ns": 0}, "INVALID_ARGUMENT"),
        ({"key": ""}, "CONFLICT"),
    ],
)
def test_bad_keys_are_refused(world, changes, wanted):
    assert code(create(world, **changes)) == wanted
    assert not views.keys(world.broker)


def test_a_key_id_is_used_once(world):
    create(world)
    assert code(create(world)) == "CONFLICT"


def test_revoking(world, only):
    create(world)
    for _ in range(2):
        commands = world.apply(ev.KeyRevoked, request_id="r", key_id="key_1")
        assert only(commands, do.Reply)[0].value == "key_1"
    assert views.keys(world.broker)[0].revoked
    assert code(world.apply(ev.KeyRevoked, request_id="r", key_id="key_9")) == "NOT_FOUND"


def test_dead_keys_make_room_for_new_ones(world, only, monkeypatch):
    monkeypatch.setattr(limits, "MAX_KEYS", 3)
    for i in range(3):
        create(world, key=f"key_{i}")
    assert code(create(world, key="key_x")) == "LIMIT_EXCEEDED"
    enrol(world, key="key_1")
    assert only(create(world, key="key_x"), do.Reply)
    assert [key.key_id for key in views.keys(world.broker)] == ["key_0", "key_2", "key_x"]


def test_admitted_identities_are_bounded(world, monkeypatch):
    monkeypatch.setattr(limits, "MAX_IDENTITIES", 1)
    create(world, reusable=True)
    enrol(world)
    assert code(enrol(world, new_id="second")) == "LIMIT_EXCEEDED"
