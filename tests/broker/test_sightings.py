"""When members were seen, and until when their certificates last."""

from __future__ import annotations

from datetime import timedelta

from broker import sightings as module
from broker.sightings import Sightings


def test_a_call_and_a_certificate_are_remembered(clock):
    seen = Sightings(clock)
    assert seen.of("peer_1").called_at is None
    first, later = clock.now + timedelta(hours=1), clock.now + timedelta(hours=20)
    seen.issued("peer_1", later)
    assert (seen.of("peer_1").called_at, seen.of("peer_1").expires_at) == (None, later)
    seen.called("peer_1", first)  # on a channel that was opened with the one before
    assert (seen.of("peer_1").called_at, seen.of("peer_1").expires_at) == (clock.now, later)


def test_who_was_seen_longest_ago_makes_room(clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_IDENTITIES", 2)
    seen = Sightings(clock)
    for name in ("a", "b", "a", "c"):
        seen.called(name, clock.now)
    assert seen.of("b").expires_at is None
    assert seen.of("a").expires_at == seen.of("c").expires_at == clock.now
