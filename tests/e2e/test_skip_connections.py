"""Any graph can be cut: skips over segments, shared tensors and tied weights change no bit."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import homespun

pytestmark = pytest.mark.e2e


class Shortcuts(nn.Module):
    """A memory from the first layer that every later layer reads, paired layers around a middle
    (the first feeds the last, the second the second last), and one weight at both ends."""

    def __init__(self, vocab=64, width=32, depth=3):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.remember = nn.Linear(width, width)
        self.down = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.up = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        memory = torch.tanh(self.remember(x))
        skips = []
        for down, norm in zip(self.down, self.norm, strict=True):
            x = x + self.dropout(F.gelu(down(norm(x)))) * memory
            skips.append(x)
        for up in self.up:
            x = F.silu(up(torch.cat([x, skips.pop()], -1))) + memory
        return self.head(x * memory)


def next_token_loss(model, batch):
    logits = model(batch["tokens"][:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch["tokens"][:, 1:].flatten())


def arguments(lab, **changes):
    torch.manual_seed(1)
    return lab.arguments(
        **({"model": Shortcuts(), "loss": next_token_loss, "steps": 20, "name": "shortcuts"}
           | changes))


def test_every_segment_feeds_every_other(client, lab):
    """The cut is what this file is about: nobody may be only a neighbour in a chain."""
    job = client.train(**arguments(lab, steps=100_000, clip_norm=0.0, evaluate_every=0), peers=3)

    def is_all_to_all(status):
        sent = [{link.to_peer for link in segment.links if link.sent_bytes > 0}
                for segment in status.segments]
        return len(sent) == 3 and all(len(targets) == 2 for targets in sent)

    try:
        lab.watch_until(job, is_all_to_all)
    finally:
        job.cancel()


@pytest.fixture(scope="module")
def alone(shared_client, lab, tmp_path_factory):
    """The weights that one peer trains with the usual settings."""
    job = shared_client.train(**arguments(lab), peers=1)
    return lab.weights(job, tmp_path_factory.mktemp("alone")), lab.curves(job)


def test_three_peers_train_what_one_does(client, lab, tmp_path, alone):
    job = client.train(**arguments(lab), peers=3)
    assert lab.different(alone[0], lab.weights(job, tmp_path)) == []
    assert lab.curves(job) == alone[1]


def test_recomputing_activations_changes_no_bit(client, lab, tmp_path, alone):
    job = client.train(**arguments(lab, recompute=True), peers=3)
    assert lab.different(alone[0], lab.weights(job, tmp_path)) == []
    assert lab.curves(job) == alone[1]


@pytest.mark.parametrize("changes", [
    {"optimizer": homespun.SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)},
    {"optimizer": homespun.Adam(lr=3e-3, betas=(0.8, 0.99), weight_decay=1e-3), "clip_norm": 0.0},
    {"precision": "bfloat16"},
], ids=["sgd", "adam", "bfloat16"])
def test_other_numbers(client, lab, tmp_path, alone, changes):
    one, three = (client.train(**arguments(lab, **changes), peers=peers) for peers in (1, 3))
    trained = lab.weights(one, tmp_path)
    assert lab.different(trained, lab.weights(three, tmp_path)) == []
    assert lab.curves(one) == lab.curves(three)
    assert lab.different(trained, alone[0]), "the setting had no effect"
