"""Jobs trained by JAX, alone and beside torch, follow the loss curve that torch gives.

Same masks, same clipping, same schedule: only the order of additions inside a kernel differs. The
limits are far below what a wrong gradient term would do.
"""

from dataclasses import replace

import numpy as np
import pytest

from dag.job import ScheduleSpec

JOBS = ("transformer", "encoder-decoder", "unet")
STEPS = 20
LOSS_RTOL, NORM_RTOL = 1e-5, 5e-5
"""Largest relative differences of a loss and of a gradient norm over the steps; measured: 4e-7 for
both."""


@pytest.fixture(scope="module")
def curves(lab, jobs):
    """name -> (job, losses and norms of all-torch training), with everything on."""
    cache = {}

    def curve(name):
        if name not in cache:
            job = jobs(name)
            schedule = ScheduleSpec(kind="cosine", warmup_steps=5, final_ratio=0.1)
            optimizer = replace(job.training.optimizer, learning_rate=3e-3)
            job = replace(job, training=replace(
                job.training, schedule=schedule, optimizer=optimizer))
            pipeline = lab.Pipeline(job, [lab.placed_nodes(job.graph)])
            cache[name] = job, pipeline.run(STEPS)
        return cache[name]

    return curve


def assert_follows(name, executors, pipeline, expected):
    measured = np.array(pipeline.run(STEPS))
    difference = np.abs(measured / np.array(expected) - 1).max(axis=0)
    print(f"{name} on {executors}: relative difference of losses {difference[0]:.1e}, "
          f"of norms {difference[1]:.1e}")
    assert np.isfinite(measured).all()
    assert difference[0] <= LOSS_RTOL
    assert difference[1] <= NORM_RTOL


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("count", [1, 3])
def test_jax_follows_torch(lab, curves, name, count):
    job, expected = curves(name)
    parts = lab.contiguous_parts(job.graph, count)
    assert_follows(name, f"{count} x jax", lab.Pipeline(job, parts, "jax"), expected)


@pytest.mark.parametrize("name", JOBS)
def test_alternating(lab, curves, name):
    """Neighbours of different frameworks, tied weights and unsummed gradients between them."""
    job, expected = curves(name)
    parts = lab.contiguous_parts(job.graph, 4)
    executors = ["torch", "jax", "torch", "jax"]
    pipeline = lab.Pipeline(job, parts, executors)
    assert_follows(name, executors, pipeline, expected)
