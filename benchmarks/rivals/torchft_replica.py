"""One torchft replica: trains a small MLP data-parallel and prints `commit STEP UNIX_S`.

Run by `benchmarks/takeover_gap.py` in a virtual environment that has torchft; a lighthouse must be
running at $TORCHFT_LIGHTHOUSE.
"""

import sys
import time
from datetime import timedelta

import torch
from torch import nn
from torch.distributed import TCPStore
from torchft import Manager, Optimizer, ProcessGroupGloo

STEP_S = 0.1
"""Of computing, slept: replicas shall not fight for cores, and all contenders take the same."""


def main() -> None:
    """Train until killed."""
    torch.set_num_threads(1)
    name = sys.argv[1]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def load(state: dict) -> None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    manager = Manager(
        # The timeout is that of torchft's own example.
        pg=ProcessGroupGloo(timeout=timedelta(seconds=5)), min_replica_size=1,
        load_state_dict=load, hostname="127.0.0.1",
        state_dict=lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()},
        replica_id=name, rank=0, world_size=1, store_addr="127.0.0.1", store_port=store.port,
        timeout=timedelta(seconds=30))
    wrapped = Optimizer(manager, optimizer)
    while True:
        x = torch.randn(8, 64)
        wrapped.zero_grad()
        loss = nn.functional.mse_loss(model(x), x)
        time.sleep(STEP_S)
        loss.backward()
        # By hand: with torch 2.13 the survivors' own wrapper of torchft 0.2.0
        # (DistributedDataParallel) fails on an assertion when a replica is lost.
        gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        manager.allreduce(gradients).wait()
        begin = 0
        for parameter in model.parameters():
            end = begin + parameter.numel()
            parameter.grad.copy_(gradients[begin:end].view_as(parameter))
            begin = end
        before = manager.current_step()
        wrapped.step()
        if manager.current_step() > before:
            print("commit", manager.current_step(), time.time(), flush=True)


if __name__ == "__main__":
    main()
