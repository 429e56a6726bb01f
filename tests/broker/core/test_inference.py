"""An inference job in the broker's core: what is admitted, counted, and handed out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core import blob_rights, limits, views
from broker.core import commands as do
from broker.core import events as ev
from broker.core.admission import problem_with
from dag.job import ColumnRef, inference_spec
from homespun.errors import Code
from ir.graph import TensorType
from ir.segment import ResultTensor

ROWS, SIZE = 11, 4
Y = ResultTensor(name="y", type=TensorType("float32", (SIZE, 3)))


@pytest.fixture
def spec(make):
    column = ColumnRef(name="x", split="predict", digest=f"{300:064x}", blob_bytes=1000,
                       type=TensorType("float32", (ROWS, 4)))
    return replace(make.spec(), kind="infer", columns=(column,),
                   training=inference_spec(ROWS, SIZE))


def placement(make, peers, results=(Y,)):
    """The last segment has the results."""
    made = make.placement(peers)
    last = len(peers) - 1
    return replace(made, segments=tuple(
        replace(placed, segment=replace(
            placed.segment, has_loss=False, data_inputs=("x",) if i == 0 else (),
            results=results if i == last else ()))
        for i, placed in enumerate(made.segments)))


def test_an_inference_spec_is_admitted(spec):
    assert problem_with(spec) is None
    frozen = tuple(replace(ref, trainable=False) for ref in spec.parameters)
    assert problem_with(replace(spec, parameters=frozen)) is None
    assert problem_with(replace(spec, parameters=())) is None
    assert (spec.flow, spec.samples, spec.trainable) == (3, ROWS, frozenset())


def change(**fields):
    return lambda spec: replace(spec, training=replace(spec.training, **fields))


@pytest.mark.parametrize(("spoil", "field"), [
    (lambda spec: replace(spec, kind="guess"), "kind"),
    (lambda spec: replace(spec, kind=""), "kind"),
    (lambda spec: replace(spec, kind="train"), "columns"),
    (lambda spec: replace(spec, columns=()), "columns"),
    (lambda spec: replace(spec, columns=(replace(spec.columns[0], split="train"),)), "columns"),
    (change(steps=2), "training.steps"),
    (change(steps=4), "training.steps"),
    (change(microbatches=2), "training.microbatches"),
    (change(batch_size=0), "training.batch_size"),
    (change(clip_norm=1.0), "training.clip_norm"),
    (change(recompute=True), "training.recompute"),
    (change(evaluate_every=1), "training.evaluate_every"),
])
def test_what_contradicts_itself_is_refused(spec, spoil, field):
    code, message = problem_with(spoil(spec))
    assert code is Code.INVALID_JOB
    assert message.startswith(field)


def test_more_microbatches_than_steps_of_a_job_are_too_many(spec):
    rows = limits.MAX_STEPS + 1
    column = replace(spec.columns[0], blob_bytes=16 * rows, type=TensorType("float32", (rows, 4)))
    code, message = problem_with(
        replace(spec, columns=(column,), training=inference_spec(rows, 1)))
    assert code is Code.LIMIT_EXCEEDED
    assert "training.steps" in message


def running(world, make, spec):
    world.connect("peer_a")
    world.connect("peer_b")
    world.submit(spec)
    world.solve("job_000001", [], answer=placement(make, ["peer_a", "peer_b"]))
    for segment in (0, 1):
        world.report(ev.SegmentReady, "job_000001", segment)
    return "job_000001"


def test_rows_are_counted_and_results_handed_out(world, make, spec):
    job = running(world, make, spec)
    view = views.job(world.broker, job)
    assert (view.kind, view.state, view.samples_total) == ("infer", "running", ROWS)
    for segment in (0, 1):
        world.report(ev.StepsDone, job, segment, first_step=0, count=2, losses=())
    assert views.job(world.broker, job).samples_done == 2 * SIZE
    for segment in (0, 1):
        world.report(ev.StepsDone, job, segment, first_step=2, count=1, losses=())
    view = views.job(world.broker, job)
    assert (view.samples_done, view.steps_done, view.last_loss) == (ROWS, 3, None)
    for segment in (0, 1):
        world.report(ev.SegmentFinished, job, segment, result_digest=f"{segment:064x}",
                     result_bytes=100)
    assert views.job(world.broker, job).state == "succeeded"
    assert [part.digest for part in views.result(world.broker, job)] == [
        f"{segment:064x}" for segment in (0, 1)]
    assert views.outputs(world.broker, job) == (Y,)
    assert blob_rights.may_read_blob(world.broker, "client_a", f"{1:064x}")


def test_a_result_may_be_as_large_as_its_rows_make_it(world, make, spec):
    running(world, make, spec)
    most = 3 * Y.type.size_bytes
    assert blob_rights.may_write_blob(world.broker, "peer_b", most + limits.RESULT_OVERHEAD_BYTES)
    assert not blob_rights.may_write_blob(
        world.broker, "peer_b",
        most + limits.RESULT_OVERHEAD_BYTES + limits.RESULT_OVERHEAD_BYTES_PER_TENSOR + 1)


@pytest.mark.parametrize(("results", "has_loss", "word"), [
    ((), False, "none is given"), ((Y, Y), False, "given twice"), ((Y,), True, "has a loss")])
def test_a_plan_without_or_with_wrong_results_is_refused(
    world, make, spec, results, has_loss, word
):
    world.connect("peer_a")
    world.submit(spec)
    answer = placement(make, ["peer_a"], results)
    (placed,) = answer.segments
    answer = replace(answer, segments=(
        replace(placed, segment=replace(placed.segment, has_loss=has_loss)),))
    commands = world.solve("job_000001", [], answer=answer)
    assert not [c for c in commands if isinstance(c, do.AssignSegment)]
    assert word in views.job(world.broker, "job_000001").error_message


def test_the_last_segment_may_wait_until_the_pipeline_is_full(world, make, spec):
    world.connect("peer_a")
    world.connect("peer_b")
    world.submit(spec)
    slow = replace(placement(make, ["peer_a", "peer_b"]), step_s=60.0)
    commands = world.solve("job_000001", [], answer=slow)
    (first, _) = [c for c in commands if isinstance(c, do.AssignSegment)]
    assert first.stall_timeout_ms == 2 * limits.STALL_STEPS * 60_000
