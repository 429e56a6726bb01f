"""Weight gradients that wait until the neighbour has its gradient."""

from peer.executor.base import WorkKey

KEY = WorkKey(mode="train", step=0, microbatch=0)


def two_segments(lab, jobs):
    job = jobs("transformer")
    pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, 2))
    pipeline.forward(KEY, pipeline.data(0, 0))
    pipeline.backward(KEY)
    return pipeline


def test_only_the_segment_that_is_waited_for_defers(lab, jobs):
    first, second = two_segments(lab, jobs).loaded
    assert second.has_deferred(KEY)
    assert not first.has_deferred(KEY)


def test_accumulating_is_done_once(lab, jobs):
    _, second = two_segments(lab, jobs).loaded
    second.accumulate(KEY)
    assert not second.has_deferred(KEY)
    second.accumulate(KEY)


def test_early_or_late_the_gradients_have_the_same_bits(lab, jobs):
    late, early = two_segments(lab, jobs), two_segments(lab, jobs)
    early.loaded[1].accumulate(KEY)
    assert early.measure() == late.measure() > 0


def test_nothing_is_deferred_without_a_graph_of_gradients(lab, jobs):
    pipeline = two_segments(lab, jobs)
    pipeline.measure()
    evaluation = WorkKey(mode="evaluate", step=0, microbatch=0)
    pipeline.forward(evaluation, pipeline.data(0, 0))
    assert not pipeline.loaded[1].has_deferred(evaluation)
