"""One hivemind peer: trains a small MLP in a swarm and prints `commit EPOCH UNIX_S`.

Run by `benchmarks/takeover_gap.py` in a virtual environment that has hivemind. Prints `address A`
first; others are given that as their argument.
"""

import sys
import time

import hivemind
import torch
from torch import nn

STEP_S = 0.1
"""Of computing, slept: peers shall not fight for cores, and all contenders take the same."""
BATCH = 8


def main() -> None:
    """Train until killed.

    Arguments: number of peers, seconds of matchmaking, longest seconds of averaging, then addresses
    of peers that run.
    """
    torch.set_num_threads(1)
    peers, matchmaking_s, averaging_s = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    addresses = sys.argv[4:]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    dht = hivemind.DHT(
        initial_peers=addresses, host_maddrs=["/ip4/127.0.0.1/tcp/0"], start=True)
    print("address", dht.get_visible_maddrs()[0], flush=True)
    optimizer = hivemind.Optimizer(
        dht=dht, run_id="gap", params=model.parameters(),
        optimizer=lambda params: torch.optim.AdamW(params, lr=1e-3),
        # An epoch, which is what hivemind commits, is two batches of every peer.
        target_batch_size=2 * BATCH * peers, batch_size_per_step=BATCH,
        matchmaking_time=matchmaking_s, averaging_timeout=averaging_s)
    epoch = optimizer.local_epoch
    while True:
        x = torch.randn(BATCH, 64)
        loss = nn.functional.mse_loss(model(x), x)
        loss.backward()
        time.sleep(STEP_S)
        optimizer.step()
        optimizer.zero_grad()
        if optimizer.local_epoch != epoch:
            epoch = optimizer.local_epoch
            print("commit", epoch, time.time(), flush=True)


if __name__ == "__main__":
    main()
