"""What a loaded JAX segment compiles, keeps, refuses and reports; no setting leaks out of it."""

from collections import Counter
from dataclasses import replace

import jax
import numpy as np
import pytest
from torch import nn

from homespun.errors import Code, HomespunError
from ir.graph import TensorType
from ir.segment import BoundaryKind
from peer.executor.base import WorkKey
from peer.executor.registry import create

TRAIN = WorkKey(mode="train", step=0, microbatch=0)
EVALUATE = WorkKey(mode="evaluate", step=0, microbatch=0)


@pytest.fixture(scope="module")
def job(lab):
    """A small network with dropout: quick to compile."""
    draws = np.random.default_rng(0)
    columns = {name: draws.standard_normal((16, 6)).astype(np.float32) for name in "xy"}
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 6))
    return lab.job_of(model, nn.MSELoss(), columns, 2)


def loaded(lab, job, count=2):
    return lab.Pipeline(job, lab.contiguous_parts(job.graph, count), "jax")


@pytest.fixture
def compiled():
    """Function name -> how often XLA compiled it, from now on."""
    counts = Counter()

    def listen(event, _, **details):
        if event.endswith("backend_compile_duration"):
            counts[details.get("fun_name", "?")] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield counts
    jax.monitoring.unregister_event_duration_listener(listen)


def test_compiled_once_when_loaded(lab, job, compiled):
    pipeline = loaded(lab, job, 1)
    mine = {name: count for name, count in compiled.items()
            if any(word in name for word in ("train", "backward", "finish", "updated", "evalu"))}
    assert sorted(mine.values()) == [1, 1, 1, 1], mine
    compiled.clear()
    pipeline.run(3)
    assert not compiled
    for step in range(2):
        pipeline.forward(replace(EVALUATE, step=step), pipeline.data(0, 0))
    assert list(compiled.values()) == [1]


def test_two_runs_give_the_same_bits(lab, job):
    first, second = loaded(lab, job), loaded(lab, job)
    assert first.run(4) == second.run(4)
    assert lab.different(first.parameters(), second.parameters()) == []


def test_recompute_changes_no_bit(lab, job):
    again = replace(job, training=replace(job.training, recompute=True))
    first, second = loaded(lab, job), loaded(lab, again)
    assert first.run(3) == second.run(3)
    second.forward(TRAIN, second.data(0, 0))
    assert all(kept.residuals is None for part in second.loaded for kept in part._kept.values())


def test_settings_stay_inside(lab, job):
    before = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
    loaded(lab, job, 1).run(1)
    assert (jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision) == before


def test_residuals_hold_no_argument(lab, job):
    """What a microbatch in flight keeps must not be copies of the parameters."""
    pipeline = loaded(lab, job, 1)
    pipeline.forward(TRAIN, pipeline.data(0, 0))
    (kept,) = pipeline.loaded[0]._kept.values()
    shapes = {value.shape for value in job.parameters.values() if value.ndim == 2}
    assert kept.residuals
    assert not shapes & {residual.shape for residual in kept.residuals}


def test_evaluate_has_no_side_effects(lab, job):
    quiet, disturbed = loaded(lab, job), loaded(lab, job)
    data = disturbed.data(9, 0)
    first = disturbed.forward(EVALUATE, data)
    assert quiet.step(0) == disturbed.step(0)
    assert disturbed.forward(EVALUATE, data) != first
    assert quiet.step(1) == disturbed.step(1)
    assert lab.different(quiet.parameters(), disturbed.parameters()) == []


def test_dropout_is_off_in_evaluation_and_keyed_in_training(lab, job):
    pipeline = loaded(lab, job)
    data = pipeline.data(0, 0)
    keys = [replace(TRAIN, step=s, microbatch=m) for s in range(2) for m in range(2)]
    losses = {pipeline.forward(key, data) for key in [*keys, EVALUATE]}
    assert len(losses) == 5
    assert pipeline.forward(TRAIN, data) == pipeline.forward(TRAIN, data)


def test_backward_frees_what_forward_kept(lab, job):
    pipeline = loaded(lab, job)
    pipeline.forward(TRAIN, pipeline.data(0, 0))
    assert all(part._kept for part in pipeline.loaded)
    pipeline.backward(TRAIN)
    assert not any(part._kept for part in pipeline.loaded)
    with pytest.raises(HomespunError) as caught:
        pipeline.loaded[0].backward(TRAIN, {})
    assert caught.value.code == Code.CONFLICT
    with pytest.raises(HomespunError) as caught:
        pipeline.loaded[0].update(0, 1.0)
    assert caught.value.code == Code.INTERNAL


def test_results_do_not_share_memory_with_parameters(lab, job):
    pipeline = loaded(lab, job, 1)
    before = pipeline.parameters()
    kept = {name: value.copy() for name, value in before.items()}
    pipeline.run(1)
    assert lab.different(before, kept) == []
    assert lab.different(pipeline.parameters(), kept) == sorted(job.trainable, key=list(
        kept).index)


@pytest.mark.parametrize("fault", ["shape", "dtype", "absent"])
def test_wrong_boundary_tensor_is_refused(lab, job, fault):
    pipeline = loaded(lab, job)
    segment, part = pipeline.pairs()[1]
    data = pipeline.data(0, 0)
    arriving = {t.edge: np.zeros(t.type.shape, t.type.dtype) for t in segment.incoming
                if t.kind == BoundaryKind.ACTIVATION}
    edge = min(arriving)
    if fault == "shape":
        arriving[edge] = arriving[edge][..., :1]
    elif fault == "dtype":
        arriving[edge] = arriving[edge].astype(np.float64)
    else:
        del arriving[edge]
    with pytest.raises(HomespunError) as caught:
        part.forward(TRAIN, {n: data[n] for n in segment.data_inputs}, arriving)
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert caught.value.details["edge"] == str(edge)


def test_index_beyond_the_end_gives_nan(lab):
    """A compiled function cannot stop half-way; what it gives must not look like a result."""
    program = lab.single(
        "Gather", {"x": TensorType("float32", (4, 2)), "i": TensorType("int64", (3,))},
        {"y": TensorType("float32", ())})
    types = {**program.graph.types, "y": TensorType("float32", (3, 2))}
    gather = program.graph.nodes[0]
    mean = replace(gather, index=1, name="mean", op_type="ReduceMean", inputs=("y",),
                   outputs=("loss",), attributes={"keepdims": 0})
    graph = replace(program.graph, nodes=(gather, mean), outputs=("loss",),
                    types={**types, "loss": TensorType("float32", ())})
    segment = replace(program.segment, nodes=(0, 1))
    part = create("jax", "cpu", 1).load(replace(program, graph=graph, segment=segment), {})
    given = {"x": np.ones((4, 2), np.float32), "i": np.array([0, 9, 1])}
    assert np.isnan(part.forward(EVALUATE, given, {}).loss)
    given["i"] = np.array([0, -1, 1])
    assert part.forward(EVALUATE, given, {}).loss == 1.0


def refusal(program, data):
    with pytest.raises(HomespunError) as caught:
        create("jax", "cpu", 1).load(program, {}).forward(EVALUATE, data, {})
    return caught.value


def test_refusals_name_the_node(lab):
    four = {"x": TensorType("float32", (4,))}
    data = {"x": np.zeros(4, np.float32)}
    wrong = refusal(lab.single("Relu", four, {"y": TensorType("float32", (5,))}), data)
    assert (wrong.code, wrong.details["node"]) == (Code.INVALID_GRAPH, "the Relu")
    unknown = refusal(lab.single("Loop", four, {"y": four["x"]}), data)
    assert (unknown.code, unknown.details["op_type"]) == (Code.UNSUPPORTED_OP, "Loop")
    slots = {name: TensorType("int64", (1,)) for name in ("x", "starts", "ends")}
    dynamic = refusal(lab.single("Slice", slots, {"y": slots["x"]}), {})
    assert dynamic.code == Code.INVALID_GRAPH


def test_out_of_memory_is_told_apart(lab):
    huge = (1 << 20, 1 << 20)
    program = lab.single(
        "Tile", {"x": TensorType("float32", (1, 1))}, {"y": TensorType("float32", huge)},
        constants={"repeats": np.array(huge)})
    error = refusal(program, {"x": np.zeros((1, 1), np.float32)})
    assert error.code == Code.OUT_OF_MEMORY


def test_close_drops_everything(lab, job):
    pipeline = loaded(lab, job)
    pipeline.forward(TRAIN, pipeline.data(0, 0))
    part = pipeline.loaded[0]
    part.close()
    assert not hasattr(part, "_values")
    assert not part._kept


@pytest.mark.parametrize(("device", "threads"), [
    ("abacus", 1), ("cuda:99", 1), ("cuda:x", 1), ("cpu", 0)])
def test_unusable(device, threads):
    with pytest.raises(HomespunError) as caught:
        create("jax", device, threads)
    assert caught.value.code == Code.BAD_CONFIGURATION
