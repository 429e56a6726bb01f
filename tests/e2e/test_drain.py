"""An operator empties a peer: what it holds moves to a backup, and the job goes on."""

import json

import pytest

pytestmark = pytest.mark.e2e


def test_a_drained_peer_gives_its_segment_to_a_backup(network, client, lab):
    place = ("--dir", str(network.broker_directory))

    def printed(*command):
        done = network.run("broker", *command, *place, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    job = client.train(**lab.endless(), peers=2)
    status = lab.until_step(job, 1)
    network.wait_until(
        lambda: [one["gap"] for one in printed("backups")["segments"]] == ["", ""],
        "both segments have a backup that is ready")
    first = status.segments[0]
    said = printed("drain", first.peer_name)["peer"]
    assert (said["peer_id"], said["is_drained"]) == (first.peer_id, True)
    try:
        moved = lab.watch_until(job, lambda now: now.state == "running" and (
            now.segments[0].peer_id != first.peer_id))
        assert moved.segments[1].peer_id == status.segments[1].peer_id
        lab.until_step(job, moved.steps_done + 1)
        held = {peer["peer_id"]: peer["leases"] for peer in printed("peers")["peers"]}
        assert held[first.peer_id] == []
    finally:
        printed("drain", first.peer_name, "--undo")
        job.cancel()
