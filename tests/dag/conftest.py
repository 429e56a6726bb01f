"""Graphs, jobs and clusters that the tests of the planner share."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from dag.cluster import Cluster, Link, PeerRates, PeerResources
from dag.job import JobSpec, OptimizerSpec, ParameterRef, TrainingSpec
from dag.placement import PlacementProblem
from ir.graph import Graph, Node, TensorType


class World:
    """Makes problems. All sizes in elements of float32."""

    def chain(self, widths, rows=8, tied=False, skip=False):
        """x @ W0 -> Relu -> @ W1 -> Relu ... -> ReduceMean, `rows` samples per microbatch."""
        types = {"x": TensorType("float32", (rows, widths[0]))}
        nodes, parameters, value = [], [], "x"
        for layer, (inner, outer) in enumerate(pairwise(widths)):
            weight = "w0" if tied and layer == len(widths) - 2 else f"w{layer}"
            if weight not in parameters:
                parameters.append(weight)
            types[weight] = TensorType("float32", (inner, outer))
            for suffix, op_type, inputs in (
                    ("m", "MatMul", (value, weight)), ("r", "Relu", (f"m{layer}",))):
                name = f"{suffix}{layer}"
                nodes.append(Node(len(nodes), name, op_type, inputs, (name,)))
                types[name] = TensorType("float32", (rows, outer))
            value = f"r{layer}"
        if skip:
            nodes.append(Node(len(nodes), "add", "Add", (value, "r0"), ("add",)))
            types["add"] = types[value]
            value = "add"
        nodes.append(Node(
            len(nodes), "loss", "ReduceMean", (value,), ("loss",), {"keepdims": 0}))
        types["loss"] = TensorType("float32", ())
        return Graph(
            opset=23, nodes=tuple(nodes), inputs=("x",), parameters=tuple(parameters),
            outputs=("loss",), constants={}, types=types)

    def job(self, graph, peers=0, microbatches=4, frozen=(), **training):
        parameters = tuple(
            ParameterRef(
                name=name, aliases=(), digest="0" * 64, blob_bytes=1, type=graph.types[name],
                trainable=name not in frozen)
            for name in graph.parameters)
        optimizer = training.pop("optimizer", OptimizerSpec(kind="adamw", learning_rate=1e-3))
        spec = TrainingSpec(
            steps=1, batch_size=8 * microbatches, microbatches=microbatches, seed=0,
            optimizer=optimizer, **training)
        return JobSpec(
            name="test", graph_digest="0" * 64, graph_bytes=1, parameters=parameters, columns=(),
            training=spec, peers=peers)

    def peer(self, name, speed=1.0, memory=1 << 40):
        rates = PeerRates(
            matmul_flops_per_s=1e9 * speed, attention_flops_per_s=1e9 * speed,
            memory_bytes_per_s=1e9 * speed)
        return PeerResources(peer_id=f"peer_{name}", memory_bytes=memory, rates=rates)

    def cluster(self, *peers, latency_s=1e-4, bandwidth=1e9):
        links = tuple(
            Link(source=a.peer_id, target=b.peer_id, latency_s=latency_s,
                 bandwidth_bytes_per_s=bandwidth)
            for a in peers for b in peers if a is not b)
        return Cluster(peers=peers, links=links)

    def problem(self, graph, cluster, **job):
        return PlacementProblem(graph=graph, job=self.job(graph, **job), cluster=cluster)

    def uniform(self, layers=8, width=256, peers=(1.0, 1.0), **job):
        """Equal layers on peers of the given speeds."""
        graph = self.chain([width] * (layers + 1), rows=64)
        cluster = self.cluster(*(self.peer(i, speed) for i, speed in enumerate(peers)))
        return self.problem(graph, cluster, **job)

    def random(self, seed, peers=3):
        """A small chain with random widths, speeds, memories and links."""
        draw = Random(seed)
        widths = [draw.choice([16, 64, 256, 256]) for _ in range(draw.randint(3, 5))]
        graph = self.chain(
            widths, rows=draw.choice([8, 64, 512]),
            skip=widths[1] == widths[-1] and draw.random() < 0.5)
        members = [
            self.peer(
                i, draw.choice([0.5, 1.0, 3.0]), draw.choice([600_000, 3_000_000, 1 << 30]))
            for i in range(draw.randint(1, peers))]
        cluster = self.cluster(
            *members, latency_s=draw.choice([1e-5, 1e-3]), bandwidth=draw.choice([1e7, 1e9]))
        return self.problem(graph, cluster, microbatches=draw.choice([1, 2, 5, 8]))

    def with_memory(self, problem, memory_bytes):
        peers = tuple(
            replace(peer, memory_bytes=memory_bytes) for peer in problem.cluster.peers)
        return replace(problem, cluster=replace(problem.cluster, peers=peers))


@pytest.fixture
def world():
    return World()
