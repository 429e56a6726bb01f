"""Predicted memory and operations of a model beside measured ones.

Memory is counted by torch's own allocator: every allocation and release while a segment is loaded,
trained for two steps (so that gradients and optimizer state are there) and run forward once.
Operations are those that `torch.utils.flop_counter` counts, in the native module and while the
executor runs the graph: a front end may write a module in another way than its author did.
"""

from collections.abc import Callable

import torch
from torch._C._profiler import _EventType
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from dag.cost import graph_costs, segment_memory
from ir.cost import node_cost
from ir.cut import cut
from ir.graph import INFER, Graph
from ir.operators import OPERATORS, OpClass
from peer.executor.base import WorkKey
from tests.pipeline import Job, Pipeline, placed_nodes

COUNTED = (OpClass.MATMUL, OpClass.CONVOLUTION, OpClass.ATTENTION)
"""What torch's counter counts: products, in any form."""


def training_memory_ratio(job: Job) -> float:
    """Predicted over measured peak of training the whole model as one segment."""
    def train() -> None:
        pipeline = Pipeline(job, [placed_nodes(job.graph)])
        for step in range(2):
            for microbatch in range(job.training.microbatches):
                key = WorkKey(mode="train", step=step, microbatch=microbatch)
                pipeline.forward(key, pipeline.data(step, microbatch))
                pipeline.backward(key)
            pipeline.measure()
            pipeline.update(step, 1.0)

    return _predicted(job, job.trainable, "train") / peak_bytes(train)


def inference_memory_ratio(job: Job) -> float:
    """Predicted over measured peak of a forward that keeps nothing."""
    def run() -> None:
        pipeline = Pipeline(job, [placed_nodes(job.graph)])
        pipeline.forward(WorkKey(mode="evaluate", step=0, microbatch=0), pipeline.data(0, 0))

    return _predicted(job, frozenset(), INFER) / peak_bytes(run)


def flops_ratio(graph: Graph, run: Callable[[], object]) -> float:
    """Predicted over counted operations of one forward with the loss, which `run` runs."""
    # Fused attention on a CPU is not in the counter's list; written out it is two products.
    written_out = sdpa_kernel(SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), written_out:
        run()
    counted = counter.get_total_flops()
    predicted = sum(node_cost(graph, node).flops for node in graph.nodes
                    if OPERATORS[node.op_type].op_class in COUNTED)
    return predicted / counted if counted else float(predicted == 0)


def executed_flops_ratio(job: Job) -> float:
    """`flops_ratio` of the executor's own forward."""
    pipeline = Pipeline(job, [placed_nodes(job.graph)])
    key, data = WorkKey(mode="evaluate", step=0, microbatch=0), pipeline.data(0, 0)
    return flops_ratio(job.graph, lambda: pipeline.forward(key, data))


def peak_bytes(run: Callable[[], None]) -> int:
    """Most bytes that torch's CPU allocator had given out while `run` ran, beyond before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    waiting = list(recorded.profiler.kineto_results.experimental_event_tree())
    changes = []
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.tag == _EventType.Allocation:
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
    alive = peak = 0
    for _, change in sorted(changes, key=lambda item: item[0]):
        alive += change
        peak = max(peak, alive)
    return peak


def _predicted(job: Job, trainable: frozenset[str], kind: str) -> int:
    costs = graph_costs(job.graph, trainable, kind)
    segment, = cut(job.graph, [placed_nodes(job.graph)], trainable)
    return segment_memory(costs, segment, job.training).total(1)
