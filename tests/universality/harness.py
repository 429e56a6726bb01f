"""Train a model natively and as three segments on the same microbatches, and compare.

Gradients of the first step are read through the executor's own interface: one step of plain SGD at
the rate 2**20 moves each parameter by its gradient times a power of two, so that the difference
divided by the rate is the gradient to float32's own rounding.
"""

import copy
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from dag.job import OptimizerSpec
from dag.pipeline.blocks import cutting_places
from ir.check import check
from ir.cut import cut
from ir.frontends.torch_module import import_inference
from ir.frontends.torch_step import own_loss
from ir.graph import Graph
from ir.operators import OPERATORS
from ir.segment import Segment
from peer.executor.base import WorkKey
from tests.pipeline import (
    Job,
    Pipeline,
    contiguous_parts,
    different,
    infer,
    job_of,
    placed_nodes,
)
from tests.universality.cost import (
    executed_flops_ratio,
    flops_ratio,
    inference_memory_ratio,
    training_memory_ratio,
)
from tests.universality.entry import Case, Entry, Measurement
from tests.universality.inference import outputs_error

STEPS = 5
BATCH = 4
MICROBATCHES = 2
SEGMENTS = 3
_RATE = 2.0**20
_REACH = 24
"""How many places near a third of the nodes are tried for a cut."""


def build(entry: Entry) -> Case:
    """The entry's case, the same every time."""
    torch.manual_seed(0)
    return entry.build()


def import_case(case: Case, optimizer: OptimizerSpec) -> Job:
    """The case as a job; raises what the front end and the check of graphs raise."""
    job = job_of(case.model, case.loss, case.columns, BATCH // MICROBATCHES, steps=STEPS,
                 batch_size=BATCH, microbatches=MICROBATCHES, optimizer=optimizer, clip_norm=0.0)
    check(job.graph)
    return job


def measure(entry: Entry) -> Measurement:
    """Train both ways and compare; see `Measurement`."""
    case = build(entry)
    native = copy.deepcopy(case.model)
    started = time.process_time()
    job = import_case(case, entry.optimizer)
    seconds = time.process_time() - started
    drawing = [node.name for node in job.graph.nodes if OPERATORS[node.op_type].random]
    assert not drawing, f"set dropout to 0, native draws differ: {drawing}"
    parts = branching_parts(job, entry.branches)
    pipeline = Pipeline(job, parts)
    losses = [loss for loss, _ in pipeline.run(STEPS)]
    ours = _Trained(losses, pipeline.parameters(), _evaluated(pipeline))
    theirs, gradients = _train_natively(native, case, entry.optimizer, pipeline)
    whole = Pipeline(job, [placed_nodes(job.graph)])
    alone = [loss for loss, _ in whole.run(STEPS)]
    crossing = [tensor for segment in pipeline.segments for tensor in segment.outgoing]
    batch = _batch(pipeline, 0, 0)
    updates = getattr(job.graph, "updates", {})
    return Measurement(
        parameters=sum(value.size for name, value in job.parameters.items()
                       if name in job.trainable),
        nodes=len(job.graph.nodes),
        operators=len({node.op_type for node in job.graph.nodes}),
        updates=len(updates),
        boundary_tensors=len(crossing),
        skips=sum(tensor.target - tensor.source > 1 for tensor in crossing),
        fan_out=max(Counter((t.source, t.target) for t in crossing).values(), default=0),
        loss_error=max(map(_relative, ours.losses, theirs.losses)),
        gradient_error=_gradient_error(_gradients(job, parts), gradients),
        state_error=max((_distance(ours.state[name], theirs.state[name]) for name in updates),
                        default=0.0),
        evaluation_error=_relative(ours.evaluation, theirs.evaluation),
        same_bits=alone == losses and not different(ours.state, whole.parameters()),
        inference_error=inference_error(entry),
        import_seconds=round(seconds, 1),
        training_memory=round(training_memory_ratio(job), 2),
        inference_memory=round(inference_memory_ratio(job), 2),
        flops=round(executed_flops_ratio(job), 3),
        native_flops=round(flops_ratio(
            job.graph, lambda: (case.loss or own_loss)(case.model.train(), batch)), 3),
    )


def inference_error(entry: Entry) -> float:
    """Largest relative difference of an output in inference, on three segments, from torch's."""
    case = build(entry)
    if case.inference is not None:
        return outputs_error(case.model, case.inference, BATCH // MICROBATCHES)
    batch = {name: torch.from_numpy(rows[:BATCH]) for name, rows in case.columns.items()}
    with torch.no_grad():
        case.loss(case.model.train(), batch)  # Running statistics that say something.
    model = _Predicting(case, tuple(batch)).eval()
    imported = import_inference(model, batch)
    with torch.no_grad():
        expected = model(*batch.values())
    found = infer(imported, {name: rows.numpy() for name, rows in batch.items()},
                  contiguous_parts(imported.graph, SEGMENTS), "torch")
    assert found.keys() == expected.keys()
    return max(_distance(found[name], value.numpy()) for name, value in expected.items())


class _Predicting(torch.nn.Module):
    """Gives the model's own floating-point outputs beside the loss."""

    def __init__(self, case: Case, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.case, self.columns = case.model, case, columns

    def forward(self, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        returned: list = []
        hook = self.model.register_forward_hook(lambda *call: returned.append(call[-1]))
        loss = self.case.loss(self.model, dict(zip(self.columns, tensors, strict=True)))
        hook.remove()
        leaves = [leaf for leaf in tree_leaves(returned) if isinstance(leaf, torch.Tensor)]
        named = {f"output {place}": leaf for place, leaf in enumerate(leaves)
                 if leaf.is_floating_point()}
        return {"loss": loss, **named}


def branching_parts(job: Job, branches: bool) -> list[list[int]]:
    """Three parts, near equal in number of nodes, that form no chain where the model allows it.

    A boundary is no chain if a value passes over a segment or if several leave one segment.
    """
    for parts in _divisions(job.graph):
        if not branches or not is_chain(cut(job.graph, parts, job.trainable)):
            return parts
    raise AssertionError("every cut near the thirds gives a chain; is the entry one of a chain?")


def is_chain(segments: Sequence[Segment]) -> bool:
    """Whether one tensor leaves each segment but the last, to its successor."""
    edges = [[tensor.target - segment.index for tensor in segment.outgoing]
             for segment in segments]
    return all(steps == [1] for steps in edges[:-1])


def _divisions(graph: Graph) -> Iterator[list[list[int]]]:
    placed = placed_nodes(graph)
    places = cutting_places(graph, placed)

    def near(third: int) -> list[int]:
        return sorted(places, key=lambda place: abs(3 * place - third * len(placed)))[:_REACH]

    pairs = product(enumerate(near(1)), enumerate(near(2)))
    for (_, first), (_, second) in sorted(pairs, key=lambda pair: pair[0][0] + pair[1][0]):
        if first < second:
            yield [placed[:first], placed[first:second], placed[second:]]


class _Trained:
    """Losses of the steps, the state after them, and the loss in evaluation mode."""

    def __init__(self, losses: list, state: Mapping, evaluation: float) -> None:
        self.losses, self.state, self.evaluation = losses, state, evaluation


def _evaluated(pipeline: Pipeline) -> float:
    key = WorkKey(mode="evaluate", step=STEPS, microbatch=0)
    return pipeline.forward(key, pipeline.data(STEPS, 0))


def _gradients(job: Job, parts: list) -> dict[str, np.ndarray]:
    """Of the first step, by parameter; see the module's docstring."""
    spec = OptimizerSpec(kind="sgd", learning_rate=_RATE)
    pipeline = Pipeline(replace(job, training=replace(job.training, optimizer=spec)), parts)
    pipeline.step(0)
    after = pipeline.parameters()
    return {name: (job.parameters[name].astype(np.float64) - after[name]) / _RATE
            for name in after if name in job.trainable}


def _train_natively(
    model: torch.nn.Module, case: Case, spec: OptimizerSpec, pipeline: Pipeline
) -> tuple[_Trained, dict[str, np.ndarray]]:
    model.train()
    optimizer = _optimizer(model, spec)
    losses, gradients = [], {}
    for step in range(STEPS):
        optimizer.zero_grad()
        total = 0.0
        for microbatch in range(MICROBATCHES):
            loss = (case.loss or own_loss)(model, _batch(pipeline, step, microbatch))
            (loss / MICROBATCHES).backward()
            total += loss.item()
        if step == 0:
            gradients = {name: np.zeros(tuple(p.shape)) if p.grad is None else p.grad.numpy().copy()
                         for name, p in model.named_parameters() if p.requires_grad}
        optimizer.step()
        losses.append(total / MICROBATCHES)
    model.eval()
    with torch.no_grad():
        evaluation = (case.loss or own_loss)(model, _batch(pipeline, STEPS, 0)).item()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    return _Trained(losses, state, evaluation), gradients


def _batch(pipeline: Pipeline, step: int, microbatch: int) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(rows) for name, rows in pipeline.data(step, microbatch).items()}


def _optimizer(model: torch.nn.Module, spec: OptimizerSpec) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if spec.kind == "sgd":
        return torch.optim.SGD(parameters, lr=spec.learning_rate, momentum=spec.momentum,
                               weight_decay=spec.weight_decay, nesterov=spec.nesterov)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[spec.kind]
    return kind(parameters, lr=spec.learning_rate, betas=(spec.beta1, spec.beta2),
                eps=spec.epsilon, weight_decay=spec.weight_decay)


def _relative(found: float, expected: float) -> float:
    return abs(found - expected) / max(abs(expected), 1e-12)


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Of two arrays in the 2-norm, relative to the second."""
    size = np.linalg.norm(expected.astype(np.float64))
    return float(np.linalg.norm(found.astype(np.float64) - expected) / max(size, 1e-12))


def _gradient_error(found: Mapping, expected: Mapping) -> float:
    """Largest error of one parameter's gradient in the 2-norm.

    Relative to that gradient, or to a thousandth of the whole gradient if that is larger: some
    parameters have a gradient of zero by the model's symmetry, where only rounding is left.
    """
    # A parameter that the graph does not read has no gradient, natively either.
    unread = [name for name in expected if name not in found and expected[name].any()]
    assert not unread, f"torch gives these a gradient, the graph does not read them: {unread}"
    whole = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in expected.values()))
    assert whole > 0, "the loss has no gradient"
    return max(
        float(np.linalg.norm(found[name] - expected[name])
              / max(np.linalg.norm(expected[name]), 1e-3 * whole)) for name in found)
