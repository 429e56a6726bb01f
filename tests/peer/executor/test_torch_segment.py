"""What a loaded torch segment keeps, frees, refuses and reports."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from homespun.errors import Code, HomespunError
from ir.graph import TensorType
from ir.segment import BoundaryKind
from peer.executor.base import WorkKey
from peer.executor.registry import create
from peer.executor.torch_executor import failures

TRAIN = WorkKey(mode="train", step=0, microbatch=0)
EVALUATE = WorkKey(mode="evaluate", step=0, microbatch=0)


def two_segments(lab, jobs, name="transformer"):
    job = jobs(name)
    return lab.Pipeline(job, lab.contiguous_parts(job.graph, 2))


def test_evaluate_has_no_side_effects(lab, jobs):
    quiet, disturbed = two_segments(lab, jobs), two_segments(lab, jobs)
    for step in range(3):
        data = disturbed.data(100 + step, 0)
        first = disturbed.forward(EVALUATE, data)
        assert first == disturbed.forward(replace(EVALUATE, microbatch=5, step=step), data)
        assert quiet.step(step) == disturbed.step(step)
        disturbed.forward(EVALUATE, data)
    assert lab.different(quiet.parameters(), disturbed.parameters()) == []
    assert all(not loaded._kept for loaded in disturbed.loaded)


def test_evaluate_turns_dropout_off(lab, jobs):
    pipeline = two_segments(lab, jobs)
    data = pipeline.data(0, 0)
    assert pipeline.forward(EVALUATE, data) != pipeline.forward(TRAIN, data)


def test_dropout_depends_on_step_and_microbatch(lab, jobs):
    pipeline = two_segments(lab, jobs)
    data = pipeline.data(0, 0)
    keys = [replace(TRAIN, step=s, microbatch=m) for s in range(2) for m in range(2)]
    assert len({pipeline.forward(key, data) for key in keys}) == 4
    assert pipeline.forward(TRAIN, data) == pipeline.forward(TRAIN, data)


def test_backward_frees_what_forward_kept(lab, jobs):
    pipeline = two_segments(lab, jobs)
    pipeline.forward(TRAIN, pipeline.data(0, 0))
    assert all(loaded._kept for loaded in pipeline.loaded)
    pipeline.backward(TRAIN)
    assert all(not loaded._kept for loaded in pipeline.loaded)
    with pytest.raises(HomespunError) as caught:
        pipeline.loaded[0].backward(TRAIN, {})
    assert caught.value.code == Code.CONFLICT


def test_recompute_keeps_only_inputs(lab, jobs):
    job = jobs("transformer")
    job = replace(job, training=replace(job.training, recompute=True))
    pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, 2))
    pipeline.forward(TRAIN, pipeline.data(0, 0))
    kept = [value for loaded in pipeline.loaded for value in loaded._kept.values()]
    assert [type(value).__name__ for value in kept] == ["_Inputs", "_Inputs"]


def test_update_needs_measured_gradients(lab, jobs):
    pipeline = two_segments(lab, jobs)
    with pytest.raises(HomespunError) as caught:
        pipeline.loaded[0].update(0, 1.0)
    assert caught.value.code == Code.INTERNAL


def test_scale_multiplies_gradients(lab, jobs):
    job = jobs("encoder-decoder")
    sgd = replace(job.training.optimizer, kind="sgd", weight_decay=0.0, learning_rate=0.5)
    job = replace(job, training=replace(job.training, optimizer=sgd))
    moved = []
    for scale in (1.0, 0.5):
        pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, 1))
        pipeline.forward(TRAIN, pipeline.data(0, 0))
        pipeline.backward(TRAIN)
        pipeline.measure()
        pipeline.update(0, scale)
        moved.append(pipeline.parameters()["head.bias"] - job.parameters["head.bias"])
    assert np.abs(moved[0]).max() > 0
    np.testing.assert_allclose(moved[1], moved[0] / 2, rtol=1e-3, atol=1e-8)


def test_frozen_parameters_stay(lab, jobs):
    job = jobs("transformer")
    frozen = {name for name in job.trainable if name.startswith("blocks.0")}
    job = replace(job, trainable=job.trainable - frozen)
    pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, 3))
    pipeline.run(2)
    changed = lab.different(pipeline.parameters(), job.parameters)
    assert set(changed) == set(job.trainable)


def test_results_do_not_share_memory_with_parameters(lab, jobs):
    """A transposed weight may cross a boundary; the update must not change what was sent."""
    job = jobs("transformer")
    placed = lab.placed_nodes(job.graph)
    transposes = [i for i in placed if job.graph.nodes[i].op_type == "Transpose"
                  and job.graph.nodes[i].inputs[0] in job.parameters]
    place = placed.index(transposes[0]) + 1
    pipeline = lab.Pipeline(job, [placed[:place], placed[place:]])
    segment, loaded = pipeline.pairs()[0]
    for key in (EVALUATE, TRAIN):
        data = pipeline.data(0, 0)
        columns = {name: data[name] for name in segment.data_inputs}
        outputs = loaded.forward(key, columns, {}).outputs
        before = {edge: array.copy() for edge, array in outputs.items()}
        values, shared = loaded.parameters(), loaded.shared_values()
        kept = copy.deepcopy((values, shared))
        for value in loaded._parameters.own.values():
            value.add_(1.0)
        assert lab.different(outputs, before) == []
        assert lab.different(values, kept[0]) == []
        assert lab.different(shared, kept[1]) == []


@pytest.mark.parametrize("fault", ["shape", "dtype", "absent"])
def test_wrong_boundary_tensor_is_refused(lab, jobs, fault):
    pipeline = two_segments(lab, jobs)
    segment, loaded = pipeline.pairs()[1]
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
        loaded.forward(TRAIN, {n: data[n] for n in segment.data_inputs}, arriving)
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert caught.value.details["edge"] == str(edge)


def test_wrong_data_is_refused(lab, jobs):
    pipeline = two_segments(lab, jobs)
    with pytest.raises(HomespunError) as caught:
        pipeline.forward(TRAIN, {"tokens": np.zeros((1, 1), np.int64)})
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_missing_parameter_is_refused(lab, jobs):
    job = jobs("transformer")
    with pytest.raises(HomespunError) as caught:
        lab.Pipeline(replace(job, parameters={n: v[:1] for n, v in job.parameters.items()}),
                     lab.contiguous_parts(job.graph, 1))
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_failing_node_is_named(lab):
    program = lab.single(
        "Gather", {"x": TensorType("float32", (4, 2)), "i": TensorType("int64", (3,))},
        {"y": TensorType("float32", (3, 2))})
    segment = create("torch", "cpu", 1).load(program, {})
    data = {"x": np.zeros((4, 2), np.float32), "i": np.array([0, 9, 1])}
    with pytest.raises(HomespunError) as caught:
        segment.forward(EVALUATE, data, {})
    assert caught.value.code == Code.EXECUTOR_FAILED
    assert caught.value.details["node"] == "the Gather"
    assert caught.value.details["op_type"] == "Gather"


def test_out_of_memory_is_told_apart(lab):
    huge = (1 << 40, 1 << 10)
    program = lab.single(
        "Tile", {"x": TensorType("float32", (1, 1))}, {"y": TensorType("float32", huge)},
        constants={"repeats": np.array(huge)})
    segment = create("torch", "cpu", 1).load(program, {})
    with pytest.raises(HomespunError) as caught:
        segment.forward(EVALUATE, {"x": np.zeros((1, 1), np.float32)}, {})
    assert caught.value.code == Code.OUT_OF_MEMORY


def test_memory_error_of_python_is_out_of_memory():
    import torch

    with pytest.raises(HomespunError) as caught, failures.failures("It", torch.device("cpu")):
        raise MemoryError
    assert caught.value.code == Code.OUT_OF_MEMORY


def test_wrong_type_in_graph_is_named(lab):
    program = lab.single("Relu", {"x": TensorType("float32", (4,))},
                         {"y": TensorType("float32", (5,))})
    segment = create("torch", "cpu", 1).load(program, {})
    with pytest.raises(HomespunError) as caught:
        segment.forward(EVALUATE, {"x": np.zeros(4, np.float32)}, {})
    assert caught.value.code == Code.INVALID_GRAPH


def test_data_dependent_shape_is_refused(lab):
    program = lab.single(
        "Slice", {n: TensorType("int64", (1,)) for n in ("x", "starts", "ends")},
        {"y": TensorType("int64", (1,))})
    with pytest.raises(HomespunError) as caught:
        create("torch", "cpu", 1).load(program, {})
    assert caught.value.code == Code.INVALID_GRAPH


def test_unknown_operator_is_refused(lab):
    program = lab.single("Loop", {"x": TensorType("float32", (4,))},
                         {"y": TensorType("float32", (4,))})
    with pytest.raises(HomespunError) as caught:
        create("torch", "cpu", 1).load(program, {})
    assert caught.value.code == Code.UNSUPPORTED_OP


def test_close_drops_everything(lab, jobs):
    pipeline = two_segments(lab, jobs)
    pipeline.forward(TRAIN, pipeline.data(0, 0))
    pipeline.loaded[0].close()
    assert not hasattr(pipeline.loaded[0], "_parameters")
