"""Architectures written in plain torch: what no library of models has in one class.

Layers before a batch normalisation have no bias: its gradient is zero but for rounding, which Adam
would scale up to steps of full size, natively and here, each in its own direction.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.universality.entry import Case, Entry
from tests.universality.vision import images, labels

ROWS = 8


def floats(*shape: int) -> np.ndarray:
    """Normal draws, float32."""
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32)


class UNet(nn.Module):
    """Predicts the noise in an image; its skips pass over the middle."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for _ in range(3))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, stride=2) for _ in range(2))
        self.mix = nn.ModuleList(nn.Conv2d(2 * width, width, 3, padding=1) for _ in range(2))
        self.leave = nn.Conv2d(width, 3, 1)
        frequencies = torch.exp(-math.log(1e4) * torch.arange(width // 2) / (width // 2))
        self.register_buffer("frequencies", frequencies)

    def forward(self, x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        angles = step[:, None] * self.frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))[:, :, None, None]
        skips = [self.enter(x)]
        for down, norm in zip(self.down, self.norms, strict=False):
            skips.append(down(F.silu(norm(skips[-1] + time))))
        low = self.norms[2](skips.pop())
        tokens = low.flatten(2).transpose(1, 2)
        mixed = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        low = mixed.transpose(1, 2).reshape(low.shape)
        for up, mix in zip(self.up, self.mix, strict=True):
            low = F.silu(mix(torch.cat([up(low), skips.pop()], 1)) + time)
        return self.leave(low)


def unet() -> Case:
    """Denoising diffusion: noise of a given strength is added, and predicted."""
    share = torch.linspace(0.999, 0.01, 50)

    def loss(model: nn.Module, batch: dict) -> torch.Tensor:
        kept = share[batch["step"]][:, None, None, None]
        noisy = kept.sqrt() * batch["image"] + (1 - kept).sqrt() * batch["noise"]
        return F.mse_loss(model(noisy, batch["step"].float()), batch["noise"])

    columns = {"image": images(ROWS, 16), "noise": floats(ROWS, 3, 16, 16),
               "step": labels(ROWS, classes=50)}
    return Case(model=UNet(), loss=loss, columns=columns)


class Siamese(nn.Module):
    """One encoder looks at two images; the decoder marks what changed between them."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inner, outer, 3, stride=2, padding=1, bias=False),
                          nn.BatchNorm2d(outer), nn.ReLU())
            for inner, outer in ((3, width), (width, 2 * width)))
        self.up = nn.ConvTranspose2d(4 * width, width, 2, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.leave = nn.ConvTranspose2d(3 * width, 1, 2, stride=2)

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for block in self.encoder:
            x = block(x)
            found.append(x)
        return found

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        (fine, coarse), (fine_after, coarse_after) = self.encode(before), self.encode(after)
        low = self.up(torch.cat([coarse_after - coarse, coarse_after * coarse], 1))
        low = F.relu(self.norm(low))
        return self.leave(torch.cat([low, fine, fine_after - fine], 1))[:, 0]


def siamese() -> Case:
    """Change detection."""
    columns = {"before": images(ROWS, 16), "after": floats(ROWS, 3, 16, 16),
               "mask": labels(ROWS, 16, 16, classes=2).astype(np.float32)}

    def loss(model: nn.Module, batch: dict) -> torch.Tensor:
        logits = model(batch["before"], batch["after"])
        return F.binary_cross_entropy_with_logits(logits, batch["mask"])

    return Case(model=Siamese(), loss=loss, columns=columns)


class VideoNet(nn.Module):
    """Residual three-dimensional convolutions over space and time."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.enter = nn.Conv3d(3, width, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1), bias=False),
                nn.BatchNorm3d(width), nn.ReLU(),
                nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0), bias=False),
                nn.BatchNorm3d(width))
            for _ in range(2))
        self.head = nn.Linear(width, 5)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        x = F.max_pool3d(F.relu(self.enter(clip)), (1, 2, 2))
        for block in self.blocks:
            x = F.relu(x + block(x))
        return self.head(F.adaptive_avg_pool3d(x, 1).flatten(1))


def video() -> Case:
    """Action recognition on short clips."""
    return Case(model=VideoNet(), loss=lambda m, b: F.cross_entropy(m(b["clip"]), b["label"]),
                columns={"clip": floats(ROWS, 3, 4, 16, 16), "label": labels(ROWS)})


def random_edges(nodes: int, edges: int) -> torch.Tensor:
    """Source and target of directed edges, each node with a loop to itself, [2, edges + nodes]."""
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randint(0, nodes, (2, edges), generator=generator)
    return torch.cat([drawn, torch.arange(nodes).expand(2, nodes)], 1)


class GraphConvolution(nn.Module):
    """Kipf and Welling 2017 (arXiv:1609.02907), equation 2, by gather and scatter over edges."""

    def __init__(self, inner: int, outer: int, edges: torch.Tensor, nodes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inner, outer)
        degree = torch.bincount(edges[1], minlength=nodes).float()
        self.register_buffer("edges", edges)
        self.register_buffer("weight", (degree[edges[0]] * degree[edges[1]]).rsqrt())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        messages = self.linear(x)[:, self.edges[0]] * self.weight[:, None]
        return torch.zeros_like(self.linear(x)).index_add(1, self.edges[1], messages)


class GCN(nn.Module):
    """Two graph convolutions with a residual."""

    def __init__(self, nodes: int = 20, width: int = 16) -> None:
        super().__init__()
        edges = random_edges(nodes, 60)
        self.first = GraphConvolution(6, width, edges, nodes)
        self.second = GraphConvolution(width, width, edges, nodes)
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        return self.head(F.relu(x + self.second(x)))


def gcn() -> Case:
    """Classify every node of a fixed graph; a sample is one set of node features."""
    return Case(
        model=GCN(),
        loss=lambda m, b: F.cross_entropy(m(b["features"]).flatten(0, 1), b["label"].flatten()),
        columns={"features": floats(ROWS, 20, 6), "label": labels(ROWS, 20)})


class GraphTransformer(nn.Module):
    """Attention between all nodes, biased by learned weights of their distance in the graph."""

    def __init__(self, nodes: int = 20, width: int = 16, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.register_buffer("distance", self.distances(random_edges(nodes, 40), nodes))
        self.bias = nn.Embedding(8, heads)
        self.enter = nn.Linear(6, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(layers))
        self.head = nn.Linear(width, 1)

    @staticmethod
    def distances(edges: torch.Tensor, nodes: int) -> torch.Tensor:
        """Hops between nodes, at most 7."""
        near = torch.zeros(nodes, nodes)
        near[edges[0], edges[1]] = near[edges[1], edges[0]] = 1.0
        reached, distance = torch.eye(nodes), torch.full((nodes, nodes), 7)
        for hops in range(7):
            distance = torch.where((reached > 0) & (distance == 7), hops, distance)
            reached = reached @ near
        return distance

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, bias = self.enter(x), self.bias(self.distance).permute(2, 0, 1)
        rows, nodes, width = x.shape
        for qkv, out, mlp, before, after in zip(
                self.qkv, self.out, self.mlp, self.norms[::2], self.norms[1::2], strict=True):
            split = qkv(before(x)).view(rows, nodes, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*split, attn_mask=bias)
            x = x + out(mixed.transpose(1, 2).reshape(rows, nodes, width))
            x = x + mlp(after(x))
        return self.head(x.mean(1))[:, 0]


def graph_transformer() -> Case:
    """Regression of one number per graph."""
    return Case(model=GraphTransformer(), loss=lambda m, b: F.mse_loss(m(b["features"]), b["y"]),
                columns={"features": floats(ROWS, 20, 6), "y": floats(ROWS)})


class NeRF(nn.Module):
    """Mildenhall et al. 2020 (arXiv:2003.08934): colour and density of points, and rendering."""

    def __init__(self, width: int = 32, frequencies: int = 4) -> None:
        super().__init__()
        inner = 3 + 6 * frequencies
        self.register_buffer("scales", 2.0 ** torch.arange(frequencies) * math.pi)
        self.first = nn.ModuleList([nn.Linear(inner, width), nn.Linear(width, width)])
        self.second = nn.ModuleList([nn.Linear(width + inner, width), nn.Linear(width, width)])
        self.density = nn.Linear(width, 1)
        self.colour = nn.Linear(width + inner, 3)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        angles = (x[..., None] * self.scales).flatten(-2)
        return torch.cat([x, angles.sin(), angles.cos()], -1)

    def forward(self, origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        depths = torch.linspace(0.1, 1.0, 12)
        points = origin[:, None] + direction[:, None] * depths[:, None]
        encoded = self.encode(points)
        x = encoded
        for layer in self.first:
            x = F.relu(layer(x))
        x = torch.cat([x, encoded], -1)
        for layer in self.second:
            x = F.relu(layer(x))
        opacity = 1 - torch.exp(-F.softplus(self.density(x))[..., 0] * (depths[1] - depths[0]))
        through = torch.cumprod(torch.cat([torch.ones_like(opacity[:, :1]), 1 - opacity], 1), 1)
        facing = self.encode(F.normalize(direction, dim=-1))[:, None].expand(-1, 12, -1)
        colours = torch.sigmoid(self.colour(torch.cat([x, facing], -1)))
        return ((through[:, :-1] * opacity)[..., None] * colours).sum(1)


def nerf() -> Case:
    """Fit the colours of rays."""
    return Case(
        model=NeRF(),
        loss=lambda m, b: F.mse_loss(m(b["origin"], b["direction"]), b["colour"]),
        columns={"origin": floats(ROWS, 3), "direction": floats(ROWS, 3) + 0.5,
                 "colour": np.random.default_rng(4).random((ROWS, 3), np.float32)})


class Seq2Seq(nn.Module):
    """An LSTM reads, another writes from its final state."""

    def __init__(self, vocab: int = 23, width: int = 16) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(vocab, width), nn.Embedding(vocab, width)
        self.encoder = nn.LSTM(width, width, num_layers=2, batch_first=True)
        self.decoder = nn.LSTM(width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, vocab)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        _, state = self.encoder(self.source(source))
        return self.head(self.decoder(self.target(target), state)[0])


def seq2seq() -> Case:
    """Translation with teacher forcing."""

    def loss(model: nn.Module, batch: dict) -> torch.Tensor:
        logits = model(batch["source"], batch["target"][:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), batch["target"][:, 1:].flatten())

    return Case(model=Seq2Seq(), loss=loss, columns={
        "source": labels(ROWS, 7, classes=23), "target": labels(ROWS, 6, classes=23)})


class ActorCritic(nn.Module):
    """A body with two heads."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.policy, self.value = nn.Linear(width, 4), nn.Linear(width, 1)

    def forward(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(state)
        return self.policy(x), self.value(x)[:, 0]


def actor_critic() -> Case:
    """Proximal policy optimisation: clipped ratio, value error and entropy."""

    def loss(model: nn.Module, batch: dict) -> torch.Tensor:
        logits, value = model(batch["state"])
        log_p = F.log_softmax(logits, -1)
        chosen = log_p.gather(1, batch["action"][:, None])[:, 0]
        ratio = torch.exp(chosen - batch["old_log_p"])
        gain = torch.minimum(
            ratio * batch["advantage"], ratio.clamp(0.8, 1.2) * batch["advantage"])
        entropy = -(log_p.exp() * log_p).sum(-1)
        error = F.smooth_l1_loss(value, batch["return"])
        return -gain.mean() + 0.5 * error - 0.01 * entropy.mean()

    draws = floats(3, ROWS)
    return Case(model=ActorCritic(), loss=loss, columns={
        "state": floats(ROWS, 6), "action": labels(ROWS, classes=4),
        "old_log_p": -np.abs(draws[0]) - 1.0, "advantage": draws[1], "return": draws[2]})


class MultiTask(nn.Module):
    """One convolutional trunk; heads for class, box and depth, weighted by learned uncertainty."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width),
            nn.ReLU(), nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width), nn.ReLU())
        self.kind, self.box = nn.Linear(width, 5), nn.Linear(width, 4)
        self.depth = nn.ConvTranspose2d(width, 1, 4, stride=4)
        self.log_variance = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.trunk(x)
        pooled = x.mean((2, 3))
        return self.kind(pooled), self.box(pooled).sigmoid(), self.depth(x)[:, 0]


def multi_task() -> Case:
    """Three losses with learned weights (Kendall et al. 2018, arXiv:1705.07115)."""

    def loss(model: nn.Module, batch: dict) -> torch.Tensor:
        kind, box, depth = model(batch["pixels"])
        losses = torch.stack([
            F.cross_entropy(kind, batch["label"]), F.l1_loss(box, batch["box"]),
            F.huber_loss(depth, batch["depth"])])
        return (losses * torch.exp(-model.log_variance) + model.log_variance).sum()

    return Case(model=MultiTask(), loss=loss, columns={
        "pixels": images(ROWS, 16), "label": labels(ROWS),
        "box": np.random.default_rng(5).random((ROWS, 4), np.float32),
        "depth": floats(ROWS, 16, 16)})


ENTRIES = (
    Entry(name="U-Net, diffusion", family="Generation", source="torch: convolutions, attention",
          build=unet, notes="Noise and its strength are columns: a step draws nothing itself."),
    Entry(name="Siamese change detection", family="Vision", source="torch: shared encoder",
          build=siamese, notes="The encoder's BatchNorm is called twice in a forward, so the "
          "encoder is in one segment; the cut goes through the decoder."),
    Entry(name="Video CNN", family="Vision", source="torch: Conv3d, BatchNorm3d", build=video),
    Entry(name="GCN", family="Graphs", source="torch: gather and index_add over edges", build=gcn,
          uncounted="it computes a product for the sake of its shape; the graph needs no shape",
          notes="The graph is fixed: its edges are buffers."),
    Entry(name="Graph transformer", family="Graphs", source="torch: attention with distance bias",
          build=graph_transformer,
          memory_off="attention with a bias per head keeps its scores where it is written out"),
    Entry(name="NeRF", family="Fields", source="torch: positional encoding, volume rendering",
          build=nerf),
    Entry(name="LSTM seq2seq", family="Recurrent", source="torch.nn.LSTM", build=seq2seq,
          uncounted="the counter does not see into torch's LSTM kernel"),
    Entry(name="Actor-critic, PPO", family="Reinforcement learning", source="torch: two heads",
          build=actor_critic, notes="Advantages and old probabilities are columns, as in PPO's "
          "epochs over stored experience."),
    Entry(name="Multi-task", family="Several losses", source="torch: trunk and three heads",
          build=multi_task),
)
