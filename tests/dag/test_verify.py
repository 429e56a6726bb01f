from dataclasses import replace

import pytest

from dag.placement import Placement
from dag.planner import plan
from dag.verify import verify


@pytest.fixture
def problem(world):
    graph = world.chain([64] * 7, tied=True)
    peers = [world.peer(i) for i in range(4)]
    return world.problem(graph, world.cluster(*peers), peers=3, microbatches=4)


@pytest.fixture
def sound(problem):
    answer = plan(problem)
    assert isinstance(answer, Placement)
    assert verify(answer, problem) == ()
    return answer


def changed(placement, number, **fields):
    """The placement with one segment's placement changed."""
    segments = list(placement.segments)
    segments[number] = replace(segments[number], **fields)
    return replace(placement, segments=tuple(segments))


def rules(placement, problem):
    return {refusal.rule for refusal in verify(placement, problem)}


def test_too_few_segments(sound, problem):
    assert "count" in rules(replace(sound, segments=sound.segments[:2]), problem)
    assert "count" in rules(replace(sound, segments=()), problem)


def test_unknown_peer(sound, problem):
    assert rules(changed(sound, 1, peer_id="peer_nobody"), problem) == {"unknown_peer"}


def test_one_peer_twice(sound, problem):
    twice = changed(sound, 1, peer_id=sound.segments[0].peer_id)
    assert rules(twice, problem) == {"peer_twice"}


def test_segments_out_of_order(sound, problem):
    assert rules(replace(sound, segments=sound.segments[::-1]), problem) == {"numbering"}


def test_node_left_out(sound, problem):
    segment = sound.segments[1].segment
    short = changed(sound, 1, segment=replace(segment, nodes=segment.nodes[1:]))
    (refusal,) = verify(short, problem)
    assert (refusal.rule, refusal.wanted, refusal.had) == ("coverage", 1, 0)
    assert f"Node {segment.nodes[0]} " in refusal.text


def test_node_run_twice(sound, problem):
    segment = sound.segments[1].segment
    stolen = sound.segments[0].segment.nodes[-1]
    greedy = changed(sound, 1, segment=replace(segment, nodes=(stolen, *segment.nodes)))
    (refusal,) = verify(greedy, problem)
    assert (refusal.rule, refusal.had) == ("coverage", 2)


def test_node_that_does_not_exist(sound, problem):
    segment = sound.segments[2].segment
    strange = changed(sound, 2, segment=replace(segment, nodes=(*segment.nodes, 99)))
    assert rules(strange, problem) == {"coverage"}


def test_cycle_between_segments(sound, problem):
    first, second = sound.segments[0].segment, sound.segments[1].segment
    # Swap one node each: values now flow both ways.
    swapped = changed(
        changed(sound, 0, segment=replace(first, nodes=(*first.nodes[:-1], second.nodes[0]))),
        1, segment=replace(second, nodes=(first.nodes[-1], *second.nodes[1:])))
    assert rules(swapped, problem) == {"cycle"}


def test_boundary_tensor_missing(sound, problem):
    segment = sound.segments[0].segment
    mute = changed(sound, 0, segment=replace(segment, outgoing=segment.outgoing[1:]))
    (refusal,) = verify(mute, problem)
    assert refusal.rule == "boundary"
    assert "outgoing" in refusal.text


def test_parameter_at_two_homes(sound, problem):
    segment = sound.segments[2].segment
    both = changed(sound, 2, segment=replace(segment, parameters=("w0", *segment.parameters)))
    assert any(
        refusal.rule == "boundary" and "parameters" in refusal.text
        for refusal in verify(both, problem))


@pytest.mark.parametrize("limit", [0, -1, 5])
def test_senseless_in_flight(sound, problem, limit):
    assert rules(changed(sound, 0, in_flight=limit), problem) == {"in_flight"}


def test_more_memory_than_offered(sound, problem):
    peers = tuple(
        replace(peer, memory_bytes=sound.segments[0].memory_bytes - 1)
        if peer.peer_id == sound.segments[0].peer_id else peer for peer in problem.cluster.peers)
    poor = replace(problem, cluster=replace(problem.cluster, peers=peers))
    (refusal,) = verify(sound, poor)
    assert (refusal.rule, refusal.wanted - refusal.had) == ("memory", 1)


def test_understated_memory(sound, problem):
    modest = changed(sound, 1, memory_bytes=sound.segments[1].memory_bytes - 1)
    (refusal,) = verify(modest, problem)
    assert refusal.rule == "memory"
