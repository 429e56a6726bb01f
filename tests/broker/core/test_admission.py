"""Each way in which a job's description can be wrong, with the field that the answer names."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest

from broker.core import limits
from broker.core.admission import problem_with
from dag.job import OptimizerSpec, ScheduleSpec
from ir.graph import TensorType


def test_good_specs_pass(make):
    assert problem_with(make.spec()) is None
    assert problem_with(make.spec(training={"evaluate_every": 1})) is None
    assert problem_with(make.spec(training={"seed": 2**64 - 1, "precision": "bfloat16"})) is None


def tensors(field, at, **changes):
    def spoil(spec):
        items = list(getattr(spec, field))
        items[at] = replace(items[at], **changes)
        return replace(spec, **{field: tuple(items)})
    return spoil


def training(**changes):
    return lambda spec: replace(spec, training=replace(spec.training, **changes))


def optimizer(**changes):
    values = {"kind": "sgd", "learning_rate": 0.1, **changes}
    return training(optimizer=OptimizerSpec(**values))


def schedule(**changes):
    return training(schedule=ScheduleSpec(**changes))


def whole(**changes):
    return lambda spec: replace(spec, **changes)


def without(split, name):
    return lambda spec: replace(spec, columns=tuple(
        c for c in spec.columns if (c.split, c.name) != (split, name)))


F = "float32"
INVALID = {
    "name-long": (whole(name="x" * 101), "name"),
    "name-control": (whole(name="a\nb"), "name"),
    "graph-digest": (whole(graph_digest="A" * 64), "graph_digest"),
    "graph-bytes": (whole(graph_bytes=0), "graph_bytes"),
    "peers": (whole(peers=-1), "peers"),
    "no-parameters": (whole(parameters=()), "parameters"),
    "no-columns": (whole(columns=()), "columns"),
    "parameter-name": (tensors("parameters", 1, name=""), "parameters[1]"),
    "parameter-twice": (tensors("parameters", 1, name="w0"), "'w0'"),
    "alias-twice": (tensors("parameters", 1, aliases=("w3",)), "'w3'"),
    "parameter-digest": (tensors("parameters", 2, digest="xy"), "parameters[2]"),
    "parameter-dtype": (tensors("parameters", 2, type=TensorType("complex", (1,))), "complex"),
    "parameter-rank": (tensors("parameters", 2, type=TensorType(F, (1,) * 33)), "33 axes"),
    "parameter-extent": (tensors("parameters", 2, type=TensorType(F, (-1,))), "negative"),
    "parameter-blob": (tensors("parameters", 2, blob_bytes=63), "blob_bytes"),
    "parameter-huge": (tensors("parameters", 2, type=TensorType(F, (2**62,) * 8)), "blob_bytes"),
    "column-split": (tensors("columns", 0, split="test"), "split"),
    "column-twice": (tensors("columns", 2, name="x"), "twice"),
    "column-scalar": (tensors("columns", 0, type=TensorType(F, ())), "row"),
    "column-empty": (tensors("columns", 0, type=TensorType(F, (0, 4))), "row"),
    "column-rows": (tensors("columns", 0, type=TensorType(F, (15, 4))), "rows"),
    "column-only-validation": (without("train", "x"), "'x'"),
    "column-is-parameter": (tensors("parameters", 0, name="x"), "'x'"),
    "steps": (training(steps=0), "training.steps"),
    "batch": (training(batch_size=0), "training.batch_size"),
    "microbatches": (training(microbatches=0), "training.microbatches"),
    "indivisible": (training(microbatches=3), "multiple"),
    "seed": (training(seed=2**64), "training.seed"),
    "seed-negative": (training(seed=-1), "training.seed"),
    "precision": (training(precision="float8"), "training.precision"),
    "clip": (training(clip_norm=-1.0), "training.clip_norm"),
    "clip-nan": (training(clip_norm=nan), "training.clip_norm"),
    "optimizer": (optimizer(kind="lion"), "training.optimizer.kind"),
    "rate": (optimizer(learning_rate=inf), "training.optimizer.learning_rate"),
    "epsilon": (optimizer(epsilon=-1e-9), "training.optimizer.epsilon"),
    "decay": (optimizer(weight_decay=nan), "training.optimizer.weight_decay"),
    "momentum": (optimizer(momentum=-0.5), "training.optimizer.momentum"),
    "beta1": (optimizer(beta1=1.0), "training.optimizer.beta1"),
    "beta2": (optimizer(beta2=nan), "training.optimizer.beta2"),
    "nesterov": (optimizer(nesterov=True), "training.optimizer.nesterov"),
    "schedule": (schedule(kind="step"), "training.schedule.kind"),
    "warmup": (schedule(warmup_steps=-1), "training.schedule.warmup_steps"),
    "total": (schedule(total_steps=limits.MAX_STEPS + 1), "training.schedule.total_steps"),
    "final": (schedule(final_ratio=nan), "training.schedule.final_ratio"),
    "evaluate": (training(evaluate_every=-1), "training.evaluate_every"),
}
LIMITED = {
    "graph": (whole(graph_bytes=limits.MAX_GRAPH_BYTES + 1), "graph_bytes"),
    "peers": (whole(peers=limits.MAX_SEGMENTS + 1), "peers"),
    "steps": (training(steps=limits.MAX_STEPS + 1), "training.steps"),
    "batch": (training(batch_size=limits.MAX_BATCH + 1), "training.batch_size"),
    "microbatches": (training(microbatches=limits.MAX_MICROBATCHES + 1), "microbatches"),
    "blob": (tensors("columns", 1, blob_bytes=limits.MAX_BLOB_BYTES + 1), "blob_bytes"),
}


@pytest.mark.parametrize(("spoil", "word"), INVALID.values(), ids=INVALID)
def test_a_contradiction_is_named(make, spoil, word):
    code, message = problem_with(spoil(make.spec()))
    assert code == "INVALID_JOB"
    assert word in message


@pytest.mark.parametrize(("spoil", "word"), LIMITED.values(), ids=LIMITED)
def test_a_limit_is_named(make, spoil, word):
    code, message = problem_with(spoil(make.spec()))
    assert code == "LIMIT_EXCEEDED"
    assert word in message


def test_counts_are_limited(make, monkeypatch):
    monkeypatch.setattr(limits, "MAX_PARAMETERS", 3)
    monkeypatch.setattr(limits, "MAX_COLUMNS", 3)
    assert "parameters is 4" in problem_with(make.spec())[1]
    assert "columns is 4" in problem_with(make.spec(parameters=make.spec().parameters[:2]))[1]


def test_evaluation_needs_a_whole_validation_microbatch(make):
    spec = make.spec(training={"evaluate_every": 1})
    lacking = without("validation", "y")(spec)
    assert "lacks y" in problem_with(lacking)[1]
    large = replace(spec, training=replace(spec.training, batch_size=68))
    assert "16 rows" in problem_with(large)[1]
