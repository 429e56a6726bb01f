"""A job small enough to run anywhere, in two segments, and an authority for its network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from blake3 import blake3

from broker.identity.authority import create_authority
from dag.job import ColumnRef, JobSpec, OptimizerSpec, ParameterRef, TrainingSpec
from homespun.identity import directory as identity_directory
from homespun.identity.certificates import (
    new_private_key,
    private_key_pem,
    signing_request,
    utc_now,
)
from homespun.identity.directory import Credentials
from homespun.tensor_file import pack
from ir import serde
from ir.cut import cut
from ir.graph import Graph, Node, TensorType
from peer.owner.core.limits import NO_LIMITS
from peer.settings import PeerDirectory, PeerSettings

ROWS, WIDTH = 2, 4
STEPS = 3


@dataclass
class TinyJob:
    """A job, its two segments, and its blobs by digest."""

    spec: JobSpec
    segments: tuple
    blobs: dict


def _graph():
    wide, weight = TensorType("float32", (ROWS, WIDTH)), TensorType("float32", (WIDTH, WIDTH))
    nodes = (
        Node(0, "m0", "MatMul", ("x", "w0"), ("m0",)),
        Node(1, "r0", "Relu", ("m0",), ("r0",)),
        Node(2, "m1", "MatMul", ("r0", "w1"), ("m1",)),
        Node(3, "loss", "ReduceMean", ("m1",), ("loss",), {"keepdims": 0}),
    )
    types = {"x": wide, "w0": weight, "w1": weight, "m0": wide, "r0": wide, "m1": wide,
             "loss": TensorType("float32", ())}
    return Graph(opset=23, nodes=nodes, inputs=("x",), parameters=("w0", "w1"),
                 outputs=("loss",), constants={}, types=types)


@pytest.fixture(scope="session")
def tiny():
    graph, blobs = _graph(), {}

    def blob(data):
        digest = blake3(data).hexdigest()
        blobs[digest] = data
        return {"digest": digest, "blob_bytes": len(data)}

    whole = blob(serde.dump(graph))
    parameters = tuple(
        ParameterRef(
            name=name, aliases=(), type=graph.types[name], trainable=True,
            **blob(pack({name: np.full((WIDTH, WIDTH), value, np.float32)})))
        for value, name in enumerate(graph.parameters))
    data = np.arange(8 * WIDTH, dtype=np.float32).reshape(8, WIDTH)
    column = ColumnRef(
        name="x", split="train", type=TensorType("float32", data.shape), **blob(pack({"x": data})))
    training = TrainingSpec(
        steps=STEPS, batch_size=4, microbatches=2, seed=1, clip_norm=1.0,
        optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1))
    spec = JobSpec(
        name="tiny", graph_digest=whole["digest"], graph_bytes=whole["blob_bytes"],
        parameters=parameters, columns=(column,), training=training, peers=2)
    segments = cut(graph, [[0, 1], [2, 3]], frozenset(graph.parameters))
    return TinyJob(spec, segments, blobs)


class Network:
    """One network's authority, and members that need no enrolment."""

    def __init__(self, directory):
        self.directory = directory
        self.authority = create_authority(
            directory, broker_address="127.0.0.1:1", now=utc_now())

    def member(self, role, identity, address="127.0.0.1:1"):
        key = new_private_key()
        issued = self.authority.issue(signing_request(key), identity, role, utc_now())
        return Credentials(
            broker_address=address, name=identity, key_pem=private_key_pem(key),
            chain_pem=issued.chain_pem, root_pem=self.authority.root_pem)


@pytest.fixture
def peer_network(tmp_path):
    return Network(tmp_path / "broker")


@pytest.fixture
def place(tmp_path, peer_network):
    """The directory of a peer that has joined and lends without limits."""
    place = PeerDirectory(tmp_path / "peer")
    place.save_settings(PeerSettings(
        name="attic", device="cpu", executor="null", limits=NO_LIMITS))
    identity_directory.save(place.identity, peer_network.member("peer", "peer_1"))
    return place
