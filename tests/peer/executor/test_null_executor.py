"""The executor that computes nothing keeps the contract of one that does."""

import subprocess
import sys

import numpy as np
import pytest

from homespun.errors import Code, HomespunError
from peer.executor.base import WorkKey

KEY = WorkKey(mode="train", step=0, microbatch=0)


def test_drives_like_a_real_one(lab, jobs):
    job = jobs("encoder-decoder")
    pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, 4), executor="null")
    assert pipeline.run(2) == [(0.0, 0.0), (0.0, 0.0)]
    assert lab.different(pipeline.parameters(), job.parameters) == []
    for loaded in pipeline.loaded:
        assert loaded.calls["forward"] == loaded.calls["backward"] == 4
        assert loaded.calls["update"] == 2


def test_shapes_are_those_of_torch(lab, jobs):
    job = jobs("encoder-decoder")
    parts = lab.contiguous_parts(job.graph, 4)
    pipelines = [lab.Pipeline(job, parts, executor=name) for name in ("torch", "null")]
    recorded = []
    for pipeline in pipelines:
        data, arrays, shapes = pipeline.data(0, 0), {}, {}
        for segment, loaded in pipeline.pairs():
            arriving = {t.edge: arrays[t.edge] for t in segment.incoming if t.edge in arrays}
            columns = {name: data[name] for name in segment.data_inputs}
            arrays.update(loaded.forward(KEY, columns, arriving).outputs)
        shapes.update((f"forward {e}", (a.shape, a.dtype)) for e, a in arrays.items())
        gradients = {}
        for segment, loaded in reversed(pipeline.pairs()):
            given = {t.edge: gradients[t.edge] for t in segment.outgoing if t.edge in gradients}
            gradients.update(loaded.backward(KEY, given))
            gradients.update(loaded.shared_gradients())
        shapes.update((f"backward {e}", (a.shape, a.dtype)) for e, a in gradients.items())
        recorded.append(shapes)
    assert recorded[0] == recorded[1]


def test_order_of_calls_is_checked(lab, jobs):
    job = jobs("encoder-decoder")
    loaded = lab.Pipeline(job, lab.contiguous_parts(job.graph, 2), executor="null").loaded[0]
    with pytest.raises(HomespunError) as caught:
        loaded.backward(KEY, {})
    assert caught.value.code == Code.CONFLICT
    with pytest.raises(HomespunError) as caught:
        loaded.update(0, 1.0)
    assert caught.value.code == Code.INTERNAL
    with pytest.raises(HomespunError) as caught:
        loaded.forward(KEY, {}, {})
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_parameters_are_copies(lab, jobs):
    job = jobs("encoder-decoder")
    loaded = lab.Pipeline(job, lab.contiguous_parts(job.graph, 1), executor="null").loaded[0]
    loaded.parameters()["head.bias"][:] = np.pi
    assert not np.any(loaded.parameters()["head.bias"] == np.float32(np.pi))


def test_does_not_import_torch():
    code = ("import sys; from peer.executor.registry import create; create('null', 'cpu', 1); "
            "sys.exit('torch' in sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
