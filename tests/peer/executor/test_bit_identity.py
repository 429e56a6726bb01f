"""One segment and many give the same bits, for any contiguous cut (docs/adr/0008)."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

JOBS = ("transformer", "encoder-decoder", "unet")


def trained(lab, job, parts, steps):
    pipeline = lab.Pipeline(job, parts)
    return pipeline.run(steps), pipeline.parameters()


def assert_same(lab, job, parts, expected, steps):
    measured, parameters = trained(lab, job, parts, steps)
    assert measured == expected[0]
    assert lab.different(parameters, expected[1]) == []


@pytest.mark.parametrize("name", JOBS)
def test_some_segments(lab, jobs, name):
    job = jobs(name)
    whole = trained(lab, job, [lab.placed_nodes(job.graph)], 4)
    assert whole[0][0] != whole[0][1]
    for count in (2, 3, 5):
        assert_same(lab, job, lab.contiguous_parts(job.graph, count), whole, 4)


@pytest.mark.parametrize("name", JOBS)
def test_every_place_to_cut(lab, jobs, name):
    job = jobs(name)
    placed = lab.placed_nodes(job.graph)
    whole = trained(lab, job, [placed], 2)
    for place in range(1, len(placed)):
        assert_same(lab, job, [placed[:place], placed[place:]], whole, 2)
    assert_same(lab, job, [[index] for index in placed], whole, 2)


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("seed", range(4))
def test_random_cuts(lab, jobs, name, seed):
    job = jobs(name)
    placed = lab.placed_nodes(job.graph)
    draws = np.random.default_rng(seed)
    places = sorted(draws.choice(np.arange(1, len(placed)), draws.integers(3, 8), replace=False))
    bounds = [0, *places, len(placed)]
    parts = [placed[a:b] for a, b in pairwise(bounds)]
    whole = trained(lab, job, [placed], 2)
    assert_same(lab, job, parts, whole, 2)


@pytest.mark.parametrize("changes", [
    {"precision": "bfloat16"}, {"recompute": True}, {"microbatches": 1}, {"microbatches": 4},
    {"clip_norm": 0.0}])
def test_settings(lab, jobs, changes):
    job = jobs("transformer")
    job = replace(job, training=replace(job.training, **changes))
    whole = trained(lab, job, [lab.placed_nodes(job.graph)], 3)
    assert_same(lab, job, lab.contiguous_parts(job.graph, 4), whole, 3)


def test_jobs_exercise_unsummed_gradients_and_tied_weights(lab, jobs):
    """The cuts above would prove little if no boundary tensor needed the special rules."""
    job = jobs("encoder-decoder")
    segments = lab.Pipeline(job, lab.contiguous_parts(job.graph, 5)).segments
    tensors = [tensor for segment in segments for tensor in segment.outgoing]
    assert any(t.contributions > 1 and t.kind == "activation" for t in tensors)
    assert any(t.differentiable and t.kind == "parameter" for t in tensors)


def test_recompute_changes_no_bit(lab, jobs):
    job = jobs("transformer")
    parts = lab.contiguous_parts(job.graph, 2)
    again = replace(job, training=replace(job.training, recompute=True))
    assert_same(lab, again, parts, trained(lab, job, parts, 3), 3)
