"""Ask what would run where, before any peer exists: nothing is started, sent or run.

`python -m examples.plan_only` plans a transformer for three machines that are only described. Of
peers that exist, `homespun fleet save fleet.json` writes such a description, with measured rates.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

import homespun
from dag.cluster import Link, PeerRates, PeerResources
from dag.placement import Infeasible
from examples.transformer import Transformer, language_loss
from homespun.fleet import Fleet, FleetPeer
from homespun.plan.job_picture import job_picture
from homespun.plan.job_plan import best_alone, plan_job
from homespun.plan.job_problem import JobPlanner
from homespun.plan.job_text import print_infeasible, print_plan

CONTEXT = 128


def peer(name: str, memory_gib: float, tflops: float, memory_gb_per_s: float) -> FleetPeer:
    """A machine with an NVIDIA-like device: dense float32 speed, and speed of its memory."""
    rate = tflops * 1e12
    return FleetPeer(name=name, resources=PeerResources(
        peer_id=name, memory_bytes=int(memory_gib * 2**30), rates=PeerRates(
            matmul_flops_per_s=rate, attention_flops_per_s=rate / 2,
            memory_bytes_per_s=memory_gb_per_s * 1e9, is_asynchronous=True)))


def home_fleet(megabits_per_s: float) -> Fleet:
    """Three machines in one home, each pair over a line of this speed."""
    peers = (peer("attic", 10, 20, 600), peer("study", 8, 12, 400), peer("laptop", 4, 5, 190))
    names = [each.resources.peer_id for each in peers]
    return Fleet(peers=peers, links=tuple(
        Link(source=source, target=target, latency_s=0.0005,
             bandwidth_bytes_per_s=megabits_per_s * 1e6 / 8)
        for source in names for target in names if source != target))


def main() -> None:
    """Plan a training, and print the plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512, help="of the model; a multiple of 16")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--megabits", type=float, default=1000, help="speed of each line, per s")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the plan into this file")
    asked = parser.parse_args()
    fleet = home_fleet(asked.megabits)
    problem = JobPlanner(fleet.cluster).train(
        Transformer(width=asked.width, layers=asked.layers, heads=8, hidden=3 * asked.width,
                    context=CONTEXT),
        loss=language_loss, data={"tokens": torch.zeros(64, CONTEXT + 1, dtype=torch.int64)},
        optimizer=homespun.AdamW(), steps=1, batch_size=32, microbatches=8)
    began_s = time.perf_counter()
    plan = plan_job(problem)
    took_s = time.perf_counter() - began_s
    labels = {each.resources.peer_id: each.label for each in fleet.peers}
    if isinstance(plan, Infeasible):
        print_infeasible(plan, labels, best_alone(problem), None)
        return
    print_plan(plan, labels, best_alone(problem), None, took_s)
    if asked.svg:
        asked.svg.write_text(job_picture(plan, labels), encoding="utf-8")


if __name__ == "__main__":
    main()
