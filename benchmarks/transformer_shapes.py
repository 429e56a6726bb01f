"""Published transformer shapes: their operations, parameters and bytes, and their cost graphs.

A multiplication and an addition are two operations; h is the width, s the sequence, f the width
inside the MLP. Forward, one sequence, one layer (Narayanan et al. 2021, arXiv:2104.04473, appendix;
Hoffmann et al. 2022, arXiv:2203.15556, appendix F):

    projections of attention   8 h^2 s        scores and their product with the values   4 s^2 h
    MLP of two matrices        4 h f s        of three (SwiGLU, f about 8/3 h)           6 h f s

With f = 4 h or three matrices of f = 8/3 h that is 24 h^2 s + 4 s^2 h; the head adds 2 s h V.
Causal masking is not credited, as `ir.cost` does not. Backward takes twice the forward, three times
where activations are recomputed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dag.mapping.build import DeviceCosts, EdgeCosts, NodeCosts, cost_graph
from dag.mapping.problem import CostGraph, FloatArray

TRAINING_BYTES = 16
"""Per parameter: bf16 weight and gradient, float32 weight and two of Adam (Rajbhandari et al. 2020,
arXiv:1910.02054, section 3.1). Gradients summed in float32 would make it 18."""
INFERENCE_BYTES = 2
VALUE_BYTES = 2
"""bf16 activations and gradients, in memory and on the wire."""
KEPT_PER_LAYER = (10, 3, 12, 9)
"""Bytes per token and unit of width that each of a layer's four nodes keeps for backward, 34 in all
(Korthikanti et al. 2022, arXiv:2205.05198, section 4.1; scores are recomputed by fused kernels).
The MLP's share is for f = 4 h and scales with the bytes that f takes."""
TERA = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder-only transformer.

    Attributes:
        name: as published, with what differs here.
        width: h.
        layers: number of them.
        sequence: s, tokens.
        vocabulary: V; embedding and head are counted apart even where a model ties them.
        inner: f.
        is_gated: an MLP of three matrices.
        positions: learned, or 0.
        batch: sequences of one training step.
    """

    name: str
    width: int
    layers: int
    sequence: int
    vocabulary: int
    inner: int
    is_gated: bool
    positions: int
    batch: int

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer; biases and norms are left out (below 0.1 %)."""
        return 4 * self.width**2 + (3 if self.is_gated else 2) * self.width * self.inner

    @property
    def parameters(self) -> int:
        """All weights, embedding and head each once."""
        ends = (2 * self.vocabulary + self.positions) * self.width
        return self.layers * self.layer_parameters + ends

    @property
    def layer_flops(self) -> int:
        """One sequence forward through one layer."""
        return sum(self.node_flops())

    @property
    def flops(self) -> int:
        """One sequence forward through everything."""
        return self.layers * self.layer_flops + self.head_flops

    @property
    def head_flops(self) -> int:
        """Logits of one sequence."""
        return 2 * self.sequence * self.width * self.vocabulary

    def node_flops(self) -> tuple[int, int, int, int]:
        """A layer's nodes: projections in, attention and projection out, MLP up, MLP down."""
        h, s, f = self.width, self.sequence, self.inner
        return 6 * h * h * s, 4 * s * s * h + 2 * h * h * s, (
            4 if self.is_gated else 2) * h * f * s, 2 * h * f * s

    def node_parameters(self) -> tuple[int, int, int, int]:
        """Weights of the same nodes."""
        h, f = self.width, self.inner
        return 3 * h * h, h * h, (2 if self.is_gated else 1) * h * f, h * f

    def node_cut_bytes(self) -> tuple[int, int, int, int]:
        """What crosses a cut after each of them: their results and the residual."""
        h, s, f = self.width, self.sequence, self.inner
        return tuple(VALUE_BYTES * s * width for width in (4 * h, h, f + h, h))  # type: ignore

    @property
    def hop_bytes(self) -> int:
        """Activations of one sequence between layers."""
        return VALUE_BYTES * self.sequence * self.width


SHAPES = (
    Shape(name="GPT-2 XL", width=1600, layers=48, sequence=1024, vocabulary=50257, inner=6400,
          is_gated=False, positions=1024, batch=512),
    Shape(name="LLaMA-7B", width=4096, layers=32, sequence=2048, vocabulary=32000, inner=11008,
          is_gated=True, positions=0, batch=2048),
    Shape(name="LLaMA-65B", width=8192, layers=80, sequence=2048, vocabulary=32000, inner=22016,
          is_gated=True, positions=0, batch=2048),
    Shape(name="GPT-3 175B", width=12288, layers=96, sequence=2048, vocabulary=50257, inner=49152,
          is_gated=False, positions=2048, batch=1536),
)


def break_even_bytes_per_s(shape: Shape, stages: int, flops_per_s: float) -> float:
    """Bandwidth at which a hop takes as long as a stage, forward, layers spread evenly.

    The head and the embedding are left out, and so is latency, which overlaps.
    """
    stage_s = shape.layers * shape.layer_flops / stages / flops_per_s
    return shape.hop_bytes / stage_s


def chain(
    shape: Shape, on: list[DeviceCosts], *, is_training: bool, recompute: bool = False,
    compression: float = 1.0,
) -> tuple[CostGraph, FloatArray]:
    """The shape as a chain, one sequence a microbatch; seconds are on one TFLOP/s.

    Args:
        shape: the model.
        on: devices of the problem.
        is_training: with backward, gradients and Adam; otherwise forward alone.
        recompute: keep the inputs of attention and MLP only, run the rest again.
        compression: what crosses devices is divided by it.

    Returns:
        The graph, and the gradient bytes that replicas exchange for each node.
    """
    rows = [("embedding", 0, (shape.vocabulary + shape.positions) * shape.width, shape.hop_bytes,
             0.0)]
    for layer in range(shape.layers):
        rows += [
            (f"{name}{layer}", flops, weights, cut, kept)
            for name, flops, weights, cut, kept in zip(
                ("project", "attend", "up", "down"), shape.node_flops(), shape.node_parameters(),
                shape.node_cut_bytes(), _kept_bytes(shape, is_training, recompute), strict=True)]
    rows.append(("head", shape.head_flops, shape.vocabulary * shape.width, 0, 0.0))
    backward = (3 if recompute else 2) if is_training else 0
    per_parameter = TRAINING_BYTES if is_training else INFERENCE_BYTES
    nodes = [
        NodeCosts(
            id=name, compute_s=flops / TERA, backward_s=backward * flops / TERA,
            persistent_bytes=per_parameter * weights, output_bytes=kept,
            temporary_bytes=_temporary_bytes(shape, name, is_training))
        for name, flops, weights, _, kept in rows]
    edges = [
        EdgeCosts(src=rows[n][0], dst=rows[n + 1][0], bytes=rows[n][3] / compression)
        for n in range(len(rows) - 1)]
    graph, _ = cost_graph(nodes, edges, on)
    return graph, np.array([VALUE_BYTES * row[2] / compression for row in rows])


def _kept_bytes(shape: Shape, is_training: bool, recompute: bool) -> tuple[float, ...]:
    """Of one sequence, by node of a layer."""
    token = shape.sequence * shape.width
    if not is_training:
        # Keys and values of the sequence, as generation after it would need.
        return (2.0 * VALUE_BYTES * token, 0.0, 0.0, 0.0)
    if recompute:
        return (0.0, 1.0 * VALUE_BYTES * token, 0.0, 1.0 * VALUE_BYTES * token)
    gates = 2 if shape.is_gated else 1
    inner = (gates + 1) * shape.inner / (2 * 4 * shape.width)
    up = 4 + inner * (KEPT_PER_LAYER[2] - 4)
    down = 1 + inner * (KEPT_PER_LAYER[3] - 1)
    return (KEPT_PER_LAYER[0] * token, KEPT_PER_LAYER[1] * token, up * token, down * token)


def _temporary_bytes(shape: Shape, name: str, is_training: bool) -> float:
    """Working memory: a layer's activations once, logits in float32 once (twice in training)."""
    if name == "head":
        return (2 if is_training else 1) * 4.0 * shape.sequence * shape.vocabulary
    return 34.0 * shape.sequence * shape.width
