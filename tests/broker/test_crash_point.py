"""A crash point ends the process at its event, its position and its count, and nowhere else."""

import pytest

from broker.core.events import KeyRevoked, PeerDisconnected
from broker.crash_point import EXIT_STATUS, CrashPoint, Position, crash_point_asked_for
from homespun.errors import Code, HomespunError

HIT = PeerDisconnected(at_ns=1, peer_id="p", session_id="s")
OTHER = KeyRevoked(at_ns=1, request_id="r", key_id="k")


def test_the_third_of_its_kind_at_its_position():
    ends = []
    point = CrashPoint("PeerDisconnected", Position.AFTER_COMMIT, 3, ends.append)
    point.reached(Position.AFTER_COMMIT, [HIT, OTHER, HIT])
    point.reached(Position.BEFORE_COMMIT, [HIT])
    point.reached(Position.BEFORE_REPLY, [HIT])
    assert ends == []
    point.reached(Position.AFTER_COMMIT, [OTHER, HIT])
    assert ends == [EXIT_STATUS]


def test_without_the_variable_nothing_ends(monkeypatch):
    monkeypatch.delenv("HOMESPUN_CRASH_AT", raising=False)
    for position in Position:
        crash_point_asked_for().reached(position, [HIT, OTHER])


@pytest.mark.parametrize("text", ["PeerConnected", "PeerConnected:never", "A:after-commit:x"])
def test_a_variable_that_means_nothing(text):
    with pytest.raises(HomespunError) as caught:
        crash_point_asked_for(text)
    assert caught.value.code is Code.BAD_CONFIGURATION
