"""Pending, admitted, banned, labelled: what operators decide about members."""

from __future__ import annotations

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import operator_views, views
from broker.core.member_views import members
from broker.core.state import SnapshotRecord
from homespun.errors import Code


def join(world, name, **key):
    """Enrol with a key of its own; the identity."""
    fields = {"role": "peer", "reusable": False, "needs_admission": True,
              "expires_at_ns": world.now_ns + 10**15} | key
    world.apply(ev.KeyCreated, request_id="r", key_id=f"key_{name}", secret_hash=name, **fields)
    (admitted,) = [each for each in world.apply(
        ev.EnrolmentRequested, request_id="r", key_id=f"key_{name}", secret_hash=name, name=name,
        new_id=name) if isinstance(each, do.AdmitIdentity)]
    return admitted.identity


def admit(world, peer):
    return world.apply(ev.PeerAdmitted, request_id="r", peer_id=peer, by="operator_1", reason="ok")


def ban(world, member, **changes):
    return world.apply(ev.MemberBanned, request_id="r", member_id=member, by="operator_1",
                       **({"reason": "left"} | changes))


def standing(world, peer):
    return views.peer(world.broker, peer).standing


# --- an expired certificate ----------------------------------------------------------------------


def renew_late(world, identity):
    return world.apply(ev.LateRenewalRequested, request_id="late", identity=identity,
                       expired_at_ns=world.now_ns - 90 * 3_600 * 10**9)


@pytest.mark.parametrize(("role", "prefix"), [("peer", "peer"), ("submitter", "client")])
def test_a_member_gets_its_own_identity_again(world, only, events, role, prefix):
    member = join(world, "attic", role=role, needs_admission=False)
    said = renew_late(world, member)
    assert only(said, do.AdmitIdentity) == [
        do.AdmitIdentity(request_id="late", identity=f"{prefix}_attic", role=role)]
    assert events(said) == ["identity_renewed_late"]
    assert "90.0 h ago" in only(said, do.Note)[0].text


def test_a_peer_that_came_back_after_a_restore_is_known(world, only):
    world.connect("peer_a")
    assert only(renew_late(world, "peer_a"), do.AdmitIdentity)[0].role == "peer"


def test_who_is_banned_or_unknown_or_no_member_stays_out(world, only):
    member = join(world, "attic")
    ban(world, member)
    for identity in (member, "peer_other", "client_other", "operator_local", "broker"):
        said = renew_late(world, identity)
        assert only(said, do.Reject)[0].code == Code.NOT_ALLOWED
        assert not only(said, do.AdmitIdentity)
    ban(world, member, undo=True)
    assert only(renew_late(world, member), do.AdmitIdentity)


# --- pending -------------------------------------------------------------------------------------


def test_a_pending_peer_is_seen_and_gets_nothing_until_it_is_admitted(world, only, events):
    peer = join(world, "attic")
    assert [(each.peer_id, each.name) for each in operator_views.newcomers(world.broker)] == [
        (peer, "attic")]
    assert events(world.connect(peer)) == ["peer_pending"]
    assert operator_views.newcomers(world.broker) == ()
    assert standing(world, peer) == "pending"
    assert not only(world.submit(), do.SolvePlacement)
    assert "no live peers" in world.reason("job_000001")
    assert operator_views.why_idle(world.broker, peer)[0] == (
        "It waits for an operator to admit it.")

    (asked,) = only(admit(world, peer), do.SolvePlacement)
    assert [each.peer_id for each in asked.cluster.peers] == [peer]
    assert standing(world, peer) == "admitted"


def test_a_pending_peer_is_no_backup_and_measures_nothing(world, only):
    job = world.training("peer_a", "peer_b")
    world.rank(job, {}, {})
    commands = world.connect(join(world, "attic"))
    assert not only(commands, do.RankBackups)
    assert not only(commands, do.MeasureLink)
    assert not world.backups(job, 0).get("peer_attic")
    commands = admit(world, "peer_attic")
    assert only(commands, do.RankBackups)
    assert {each.to_peer for each in only(commands, do.MeasureLink)} >= {"peer_a", "peer_attic"}


def test_who_is_admitted_before_it_connects_is_so_then(world, events):
    peer = join(world, "attic")
    admit(world, peer)
    assert events(world.connect(peer)) == ["peer_live"]


def test_admitting_again_changes_nothing(world, only):
    peer = join(world, "attic")
    world.connect(peer)
    admit(world, peer)
    version = world.broker.state.cluster_version
    assert only(admit(world, peer), do.Reply)
    assert world.broker.state.cluster_version == version


def test_a_key_of_before_admits_at_once(world):
    peer = join(world, "attic", needs_admission=False)
    world.connect(peer)
    assert standing(world, peer) == "admitted"


def test_a_submitter_is_never_pending(world, only):
    (no,) = only(world.apply(
        ev.KeyCreated, request_id="r", key_id="key_1", secret_hash="h", role="submitter",
        reusable=False, expires_at_ns=world.now_ns + 1, needs_admission=True), do.Reject)
    assert no.code == Code.INVALID_ARGUMENT


# --- banned --------------------------------------------------------------------------------------


def test_a_banned_peer_loses_what_it_holds_and_cannot_come_back(world, only):
    job = world.training_with_backups()
    commands = ban(world, "peer_b")
    (ended,) = only(commands, do.DisconnectPeer)
    assert (ended.peer_id, ended.code) == ("peer_b", Code.NOT_ALLOWED)
    assert ended.message == "An operator has shut this member out of the network: left"
    (moved,) = only(commands, do.AssignSegment)
    assert (moved.segment.index, moved.peer_id in ("peer_c", "peer_d")) == (1, True)
    assert world.state_of(job) == "recovering"
    view = views.peer(world.broker, "peer_b")
    assert (view.standing, view.ban_reason, view.state) == ("banned", "left", "lost")
    assert operator_views.is_shut_out(world.broker, "peer_b")

    (refused,) = only(world.connect("peer_b"), do.DisconnectPeer)
    assert refused.code == Code.NOT_ALLOWED
    assert views.peer(world.broker, "peer_b").state == "lost"


def test_a_banned_backup_stands_by_for_nothing(world):
    job = world.training_with_backups()
    ban(world, "peer_c")
    assert all(backup.peer_id != "peer_c"
               for backup in world.broker.state.jobs[job].standbys.values())


def test_who_is_let_in_again_is_as_before(world):
    world.connect("peer_a")
    ban(world, "peer_a")
    ban(world, "peer_a", undo=True)
    assert standing(world, "peer_a") == "admitted"
    world.connect("peer_a")
    assert views.peer(world.broker, "peer_a").state == "live"


def test_a_peer_that_is_away_or_never_came_can_be_banned(world, only):
    peer = join(world, "attic")
    ban(world, peer)
    assert only(world.connect(peer), do.DisconnectPeer)
    world.connect("peer_a")
    world.disconnect("peer_a")
    ban(world, "peer_a")
    assert views.peer(world.broker, "peer_a").state == "lost"


def test_a_banned_submitter_keeps_its_jobs(world):
    client = join(world, "anna", role="submitter", needs_admission=False)
    world.connect("peer_a")
    world.submit(owner=client)
    ban(world, client)
    assert operator_views.is_shut_out(world.broker, client)
    assert world.state_of("job_000001") == "planning"


# --- removed -------------------------------------------------------------------------------------


def forget(world, peer):
    return world.apply(ev.PeerForgotten, request_id="r", peer_id=peer, by="operator_1",
                       reason="joined anew")


def test_a_removed_peer_is_in_no_list_and_stays_out(world, only, events):
    peer = join(world, "attic", needs_admission=False)
    world.connect(peer)
    world.connect("peer_a")
    ban(world, peer)
    assert events(forget(world, peer)) == ["peer_forgotten"]
    assert [each.peer_id for each in views.peers(world.broker)] == ["peer_a"]
    assert views.peer(world.broker, peer) is None
    assert [each.member_id for each in members(world.broker)] == ["peer_a"]
    assert dict(operator_views.counts(world.broker).peers)["banned",] == 0
    for find in (operator_views.matching_peers, operator_views.matching_members):
        assert find(world.broker, "attic") == find(world.broker, peer) == ()
    assert operator_views.is_shut_out(world.broker, peer)
    (refused,) = only(world.connect(peer), do.DisconnectPeer)
    assert refused.code == Code.NOT_ALLOWED
    assert "join again" in refused.message
    for said in (renew_late(world, peer), forget(world, peer), ban(world, peer),
                 ban(world, peer, undo=True), admit(world, peer)):
        assert only(said, do.Reject)[0].code in (Code.NOT_FOUND, Code.NOT_ALLOWED)
    assert operator_views.is_shut_out(world.broker, peer)
    (no,) = only(world.apply(
        ev.EnrolmentRequested, request_id="r", key_id=_reusable(world), secret_hash="h",
        name="attic", new_id="attic"), do.Reject)
    assert no.code == Code.CONFLICT


def _reusable(world):
    world.apply(ev.KeyCreated, request_id="r", key_id="key_many", secret_hash="h", role="peer",
                reusable=True, expires_at_ns=world.now_ns + 10**15)
    return "key_many"


def test_a_peer_that_never_came_can_be_removed(world, only):
    peer = join(world, "attic")
    assert only(forget(world, peer), do.Reply)
    assert operator_views.newcomers(world.broker) == ()
    assert members(world.broker) == ()


def test_only_who_is_gone_can_be_removed(world, only):
    client = join(world, "anna", role="submitter", needs_admission=False)
    world.connect("peer_a")
    (no,) = only(forget(world, "peer_a"), do.Reject)
    assert (no.code, "is live" in no.message) == (Code.CONFLICT, True)
    world.disconnect("peer_a")
    (no,) = only(forget(world, "peer_a"), do.Reject)
    assert (no.code, "is suspect" in no.message) == (Code.CONFLICT, True)
    for nobody in ("peer_x", client, ""):
        assert only(forget(world, nobody), do.Reject)[0].code == Code.NOT_FOUND
    assert [each.member_id for each in members(world.broker)] == ["peer_a", client]


def test_a_job_keeps_the_name_of_a_peer_that_was_removed(world, only):
    job = world.training("peer_a", "peer_b")
    ban(world, "peer_b")
    assert only(forget(world, "peer_b"), do.Reply)
    assert not world.broker.state.peers["peer_b"].leases  # nobody is left to let go of it
    assert views.job(world.broker, job).segments[1].peer_name == "PEER_B"
    assert world.state_of(job) == "recovering"
    (taken,) = only(world.connect("peer_c"), do.AssignSegment)
    assert (taken.peer_id, taken.segment.index) == ("peer_c", 1)


def test_a_peer_with_a_snapshot_that_a_job_may_need_stays(world, only):
    job = world.training("peer_a", "peer_b")
    taken = world.broker.state.jobs[job].snapshots[0]
    taken[1] = SnapshotRecord(position=1, digest="d" * 64, size_bytes=1, data_shards=1, at_ns=0,
                              holders={"peer_b": -1})
    ban(world, "peer_b")
    (no,) = only(forget(world, "peer_b"), do.Reject)
    assert no.code == Code.CONFLICT
    assert f"a snapshot of {job}" in no.message
    world.apply(ev.CancelRequested, request_id="r", job_id=job, by="operator_1")
    assert only(forget(world, "peer_b"), do.Reply)


def test_members_with_what_is_known_of_them(world):
    client = join(world, "anna", role="submitter", needs_admission=False)
    attic = join(world, "attic")
    job = world.training("peer_a", "peer_b")
    world.submit(owner=client)
    ban(world, client)
    assert [(one.member_id, one.role, one.state, one.standing, one.unfinished_jobs,
             bool(one.joined_at_ns), bool(one.last_seen_ns)) for one in members(world.broker)] == [
        ("peer_a", "peer", "live", "admitted", 1, False, True),
        ("peer_b", "peer", "live", "admitted", 1, False, True),
        (attic, "peer", "", "pending", 0, True, False),
        (client, "submitter", "", "banned", 1, True, False)]
    assert [one.key_id for one in members(world.broker)] == ["", "", "key_attic", "key_anna"]
    assert views.job(world.broker, "job_000002").owner_name == "anna"
    assert views.job(world.broker, job).owner_name == ""


# --- labels --------------------------------------------------------------------------------------


def test_a_label_is_kept_beside_the_name_and_finds_the_peer(world):
    world.connect("peer_a")
    world.apply(ev.PeerLabelled, request_id="r", peer_id="peer_a", label="Anna's PC",
                by="operator_1")
    view = views.peer(world.broker, "peer_a")
    assert (view.name, view.label) == ("PEER_A", "Anna's PC")
    for text in ("Anna's PC", "PEER_A", "peer_", "peer_a"):
        assert operator_views.matching_peers(world.broker, text) == ("peer_a",)
    assert operator_views.matching_peers(world.broker, "") == ()
    world.disconnect("peer_a")
    world.connect("peer_a")
    assert views.peer(world.broker, "peer_a").label == "Anna's PC"


@pytest.mark.parametrize(("kind", "fields", "code"), [
    (ev.PeerAdmitted, {"peer_id": "peer_x"}, Code.NOT_FOUND),
    (ev.MemberBanned, {"member_id": "client_x"}, Code.NOT_FOUND),
    (ev.PeerLabelled, {"peer_id": "peer_x", "label": "a"}, Code.NOT_FOUND),
    (ev.PeerLabelled, {"peer_id": "peer_a", "label": "a" * 101}, Code.INVALID_ARGUMENT),
    (ev.PeerLabelled, {"peer_id": "peer_a", "label": "a\n"}, Code.INVALID_ARGUMENT),
])
def test_what_cannot_be_is_refused(world, only, kind, fields, code):
    world.connect("peer_a")
    (no,) = only(world.apply(kind, request_id="r", by="operator_1", **fields), do.Reject)
    assert no.code == code


def test_members_are_found_whether_or_not_they_connected(world):
    world.connect("peer_a")
    join(world, "attic")
    join(world, "anna", role="submitter", needs_admission=False)
    for text, found in (("attic", "peer_attic"), ("anna", "client_anna"), ("client", "client_anna"),
                        ("PEER_A", "peer_a")):
        assert operator_views.matching_members(world.broker, text) == (found,)
