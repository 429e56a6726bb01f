"""Models whose training on any cut is compared, and what the tests beside this file share."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from dag.cluster import PeerRates
from examples.transformer import Transformer, language_loss
from homespun.blobs.store import BlobStore
from peer.blob_cache import BlobCache
from peer.lease_fetch import load_request
from tests.pipeline import (
    Pipeline,
    contiguous_parts,
    different,
    job_of,
    placed_nodes,
    single,
    training_spec,
)

# XLA compiles these small segments in a fifth of the time when LLVM optimises less and kernels do
# not go through MLIR; the bits that the tests compare are those of one process. Read when XLA
# starts, which no import here causes. Tests of real processes (tests/e2e) keep XLA's own emitters.
os.environ["XLA_FLAGS"] = " ".join([
    os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true", "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_fusion_emitters=false"])


class EncoderDecoder(nn.Module):
    """A memory that every later layer reads, tied weights, a parameter with three consumers."""

    def __init__(self, width=16, layers=3, vocab=31):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.encoder = nn.Linear(width, width)
        self.position = nn.Parameter(torch.randn(8, width) * 0.1)
        self.query = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.key = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.head = nn.Linear(width, vocab)
        self.head.weight = self.embed.weight
        self.dropout = nn.Dropout(0.1)

    def forward(self, tokens):
        memory = torch.tanh(self.encoder(self.embed(tokens) + self.position))
        y = self.embed(tokens.flip(1)) + self.position.mean(0)
        for query, key, norm in zip(self.query, self.key, self.norm, strict=True):
            scores = query(norm(y)) @ key(memory).transpose(1, 2)
            y = y + self.dropout(torch.softmax(scores, -1) @ memory)
            y = y + memory * torch.sigmoid(y).mean(1, keepdim=True)
        return self.head(y * memory + self.position)


class SmallUNet(nn.Module):
    """Convolutions with a skip connection around the middle."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(16, 16, 3, padding=1)
        self.mix = nn.Linear(16, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.leave = nn.Conv2d(16, 3, 1)

    def forward(self, x):
        skip = F.gelu(self.norm(self.enter(x)))
        low = F.silu(self.down(skip))
        low = self.mix(low.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        low = self.middle(low) + low.transpose(2, 3) + torch.exp(-low * low)
        return self.leave(torch.cat([self.up(F.silu(low)), skip], 1)) + x * 0.5


def transformer(dropout=0.1, tied=True, **sizes):
    torch.manual_seed(0)
    fields = {"vocab": 61, "width": 32, "layers": 2, "heads": 4, "hidden": 48, "context": 16}
    return Transformer(**(fields | sizes), dropout=dropout, tied=tied)


def token_columns(vocab=61, length=17):
    return {"tokens": np.random.default_rng(0).integers(0, vocab, (32, length))}


def make_job(name):
    torch.manual_seed(0)
    if name == "transformer":
        return job_of(transformer(), language_loss, token_columns(), 2)
    if name == "encoder-decoder":
        return job_of(EncoderDecoder(), language_loss, token_columns(31, 9), 2)
    draws = np.random.default_rng(0)
    images = {column: draws.standard_normal((8, 3, 8, 8)).astype(np.float32) for column in "xy"}
    return job_of(SmallUNet(), nn.MSELoss(), images, 2)


@pytest.fixture(scope="session")
def jobs():
    """name -> job, exported once."""
    cache = {}

    def job(name):
        if name not in cache:
            cache[name] = make_job(name)
        return cache[name]

    return job


@pytest.fixture(scope="session")
def lab():
    """The functions and classes of this file, for the test modules beside it."""
    return SimpleNamespace(
        Pipeline=Pipeline, contiguous_parts=contiguous_parts, different=different, job_of=job_of,
        placed_nodes=placed_nodes, single=single, token_columns=token_columns,
        training_spec=training_spec, transformer=transformer)


RATES = PeerRates(matmul_flops_per_s=1e12, attention_flops_per_s=1e12, memory_bytes_per_s=1e11)


@pytest.fixture
def load(tiny, tmp_path):
    """Requests for the segments of the tiny job, by index."""
    store = BlobStore(tmp_path / "blobs")
    for data in tiny.blobs.values():
        store.put(data)
    return lambda index: load_request(
        tiny.spec, tiny.segments[index], BlobCache(store, 0), tmp_path / f"out {index}", RATES)
