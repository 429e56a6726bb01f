"""A segment that is given another's state goes on with the same bits."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from dag.job import OptimizerSpec
from homespun.errors import Code, HomespunError
from homespun.tensor_file import pack, unpack
from peer.executor.snapshot_file import Owner, join_snapshots, write_snapshot
from tests.pipeline import Pipeline, contiguous_parts, different, job_of, placed_nodes

RULES = {
    "sgd": OptimizerSpec(kind="sgd", learning_rate=0.1),
    "momentum": OptimizerSpec(kind="sgd", learning_rate=0.1, momentum=0.9, nesterov=True),
    "adam": OptimizerSpec(kind="adam", learning_rate=0.01),
    "adamw": OptimizerSpec(kind="adamw", learning_rate=0.01, weight_decay=0.1),
}


def with_rule(job, rule):
    return replace(job, training=replace(job.training, optimizer=RULES[rule]))


def hand_over(old, new):
    """Give each segment of a pipeline the state of its like, by way of a file."""
    for before, after in zip(old.loaded, new.loaded, strict=True):
        after.restore(unpack(pack(before.state()), "the state"))
    values = {}
    for loaded in new.loaded:
        values.update(loaded.shared_values())
    for segment, loaded in new.pairs():
        loaded.set_shared({t.edge: values[t.edge] for t in segment.incoming if t.edge in values})


def assert_goes_on(job, parts, executor, at=2, steps=2):
    old = Pipeline(job, parts, executor)
    old.run(at)
    new = Pipeline(job, parts, executor)
    hand_over(old, new)
    for step in range(at, at + steps):
        assert new.step(step) == old.step(step)
    states = [[loaded.state() for loaded in pipeline.loaded] for pipeline in (old, new)]
    for ours, theirs in zip(*states, strict=True):
        assert different(ours, theirs) == []
    return states[0]


@pytest.mark.parametrize("executor", ["torch", "jax"])
@pytest.mark.parametrize("rule", RULES)
def test_every_update_rule_goes_on(jobs, rule, executor):
    """Tied weights, and parameters that several segments use."""
    job = with_rule(jobs("encoder-decoder"), rule)
    assert_goes_on(job, contiguous_parts(job.graph, 2), executor)


@pytest.mark.parametrize("executor", ["torch", "jax"])
@pytest.mark.parametrize(("before", "after"), [(1, 3), (2, 3), (3, 2), (3, 1)])
def test_another_cut_goes_on(jobs, tmp_path, executor, before, after):
    """By names, from files of the segments before. Tied weights, clipping, AdamW.

    What JAX computes depends on the cut a little (docs/adr/0017-jax-per-segment.md).
    """
    job = with_rule(jobs("encoder-decoder"), "adamw")
    old = Pipeline(job, contiguous_parts(job.graph, before), executor)
    old.run(2)
    paths = [tmp_path / str(index) for index in range(before)]
    for path, (segment, loaded) in zip(paths, old.pairs(), strict=True):
        write_snapshot(path, Owner(segment=segment.index, program="of before"), 2, loaded.state())
    new = Pipeline(job, contiguous_parts(job.graph, after), executor)
    values = {}
    for segment, loaded in new.pairs():
        loaded.restore(join_snapshots(paths, segment.parameters, 2))
        values |= loaded.shared_values()
    for segment, loaded in new.pairs():
        loaded.set_shared({t.edge: values[t.edge] for t in segment.incoming if t.edge in values})
    for step in (2, 3):
        wanted = old.step(step)
        assert new.step(step) == (wanted if executor == "torch" else pytest.approx(wanted, 1e-4))
    if executor == "torch":
        assert different(new.parameters(), old.parameters()) == []


@pytest.mark.parametrize("executor", ["torch", "jax"])
def test_short_floats_go_on(lab, executor):
    model = lab.transformer(layers=1).bfloat16()

    def loss(model, batch):
        logits = model(batch["tokens"][:, :-1]).float()
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["tokens"][:, 1:].flatten())

    job = with_rule(lab.job_of(model, loss, lab.token_columns(), 2), "adamw")
    (state,) = assert_goes_on(job, [placed_nodes(job.graph)], executor)
    assert {array.dtype.name for array in state.values()} >= {"bfloat16"}


class Normalised(nn.Module):
    """Running statistics, and a layer that is not trained."""

    def __init__(self):
        super().__init__()
        self.enter, self.norm, self.leave = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.leave.requires_grad_(False)

    def forward(self, x):
        return self.leave(self.norm(self.enter(x)))


def normalised(rule="adam"):
    draws = np.random.default_rng(0)
    columns = {name: draws.standard_normal((8, 3)).astype(np.float32) for name in "xy"}
    return with_rule(job_of(Normalised(), nn.MSELoss(), columns, 2), rule)


@pytest.mark.parametrize("executor", ["torch", "jax"])
def test_statistics_and_frozen_parameters_go_on(executor):
    job = normalised()
    (state,) = assert_goes_on(job, [placed_nodes(job.graph)], executor)
    assert state["parameter/norm.num_batches_tracked"] == 4 * job.training.microbatches
    assert not any(name.startswith("optimizer/leave") for name in state)
    assert any(name.startswith("optimizer/enter.weight/") for name in state)


@pytest.mark.parametrize("executor", ["torch", "jax", "null"])
def test_a_state_is_a_copy_and_going_back_is_exact(executor):
    job = normalised()
    pipeline = Pipeline(job, [placed_nodes(job.graph)], executor)
    (loaded,) = pipeline.loaded
    start = loaded.state()
    first = pipeline.run(2)
    middle = loaded.state()
    then = pipeline.step(2)
    loaded.restore(middle)
    assert different(loaded.state(), middle) == []
    assert pipeline.step(2) == then
    loaded.restore(start)
    assert different(loaded.state(), start) == []
    assert pipeline.run(2) == first
    assert different(loaded.state(), middle) == []


@pytest.mark.parametrize("executor", ["torch", "jax", "null"])
@pytest.mark.parametrize("spoil", [
    lambda state, name: state.pop(name),
    lambda state, name: state.update(more=state[name]),
    lambda state, name: state.update({name: state[name][..., :1]}),
    lambda state, name: state.update({name: state[name].astype(np.float64)})],
    ids=["missing", "more", "shape", "dtype"])
def test_what_does_not_fit_is_refused_and_changes_nothing(executor, spoil):
    job = normalised()
    pipeline = Pipeline(job, [placed_nodes(job.graph)], executor)
    pipeline.run(1)
    (loaded,) = pipeline.loaded
    before = loaded.state()
    for name in before:
        if name.endswith("enter.weight") or "optimizer/enter.weight" in name:
            if before[name].ndim == 0:
                continue
            state = dict(loaded.state())
            spoil(state, name)
            with pytest.raises(HomespunError) as caught:
                loaded.restore(state)
            assert caught.value.code is Code.INVALID_ARGUMENT
            assert name in caught.value.message or "more" in caught.value.message
    assert different(loaded.state(), before) == []


@pytest.mark.parametrize("executor", ["torch", "jax", "null"])
def test_inside_a_step_there_is_no_state(executor):
    job = normalised()
    pipeline = Pipeline(job, [placed_nodes(job.graph)], executor)
    (loaded,) = pipeline.loaded
    state = loaded.state()
    pipeline.step(0)
    pipeline.measure()
    for ask in (loaded.state, lambda: loaded.restore(state)):
        with pytest.raises(HomespunError) as caught:
            ask()
        assert caught.value.code is Code.INTERNAL
