"""Do 50 RTX 3080 on home links do the work of 4 H100? Predicted by our planner, with its reasons.

FusionAI's abstract (Tang et al. 2023, arXiv:2309.01172) says that their throughputs are comparable,
from a performance model whose links, models and utilisation it does not give. Here all of them are
stated: see `docs/headline.md`. Nothing is measured: every figure is what the planner predicts.
`--write` puts table, figures and plot under `benchmarks/results`.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import product
from math import ceil
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.baechi_pipelines import BaechiPlan
from benchmarks.headline_report import markdown, picture
from benchmarks.transformer_shapes import SHAPES, Shape, break_even_bytes_per_s, chain
from dag.mapping.build import DeviceCosts, LinkCosts, devices
from dag.mapping.problem import THROUGHPUT, FloatArray, MappingProblem
from dag.placement import Refusal
from dag.replicas.chain_pipeline import ChainPlanner
from dag.replicas.replicate import Replicated, groupings, replicate

RESULTS = Path(__file__).resolve().parent / "results"
NAME = "2026-11-26-rtx3080-vs-h100"
GBITS = (0.1, 1.0, 10.0)
LATENCIES_MS = (1, 10, 100)
COMPRESSIONS = (1, 4, 20)
"""1: bf16, lossless. 4: four bits a value. 20: the largest entries only. Both of these lose."""
INFERENCE_BATCH = 1024
COMPARABLE = 0.8
"""Of the other fleet's throughput, or more."""
UTILISATIONS = (0.5, 0.3)
"""Of the RTX 3080: what large products reach, and what a home GPU may."""
KINDS = ("training", "inference")
BANDWIDTHS = tuple(round(10 ** (step / 8), 3) for step in range(-16, 17))
"""Gbit/s, for the break-even: steps of a third from 0.01 to 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Equal GPUs and the links between all of them.

    Attributes:
        name: for the table.
        count: of GPUs.
        peak_tflops: dense 16-bit tensor products with float32 sums, by the data sheet.
        utilisation: share of it that training or prefill reaches.
        memory_bytes: per GPU, 5 % less than it has.
        link: one direction, between any two.
    """

    name: str
    count: int
    peak_tflops: float
    utilisation: float
    memory_bytes: float
    link: LinkCosts


def home(gbits: float, latency_ms: float, utilisation: float, count: int = 50) -> Fleet:
    return Fleet(
        name="RTX 3080", count=count, peak_tflops=59.5, utilisation=utilisation,
        memory_bytes=0.95 * 10e9, link=LinkCosts(
            latency_s=latency_ms / 1e3, bandwidth_bytes_per_s=gbits * 1e9 / 8))


def h100(kind: str, count: int = 4) -> Fleet:
    """SXM on NVLink 4 (450 GB/s each way), PCIe on Gen5 x16 (55 GB/s)."""
    peak, bandwidth = {"SXM": (989.0, 450e9), "PCIe": (756.0, 55e9)}[kind]
    return Fleet(
        name=f"H100 {kind}", count=count, peak_tflops=peak, utilisation=0.4,
        memory_bytes=0.95 * 80e9,
        link=LinkCosts(latency_s=10e-6, bandwidth_bytes_per_s=bandwidth))


def gpus(fleet: Fleet) -> list[DeviceCosts]:
    return [
        DeviceCosts(id=f"gpu{n}", memory_bytes=fleet.memory_bytes,
                    speed=fleet.utilisation * fleet.peak_tflops)
        for n in range(fleet.count)]


@lru_cache(maxsize=12)
def planner(
    shape: Shape, kind: str, fleet: Fleet, compression: float, recompute: bool
) -> tuple[MappingProblem, ChainPlanner, FloatArray | None]:
    """The mapping problem, a planner of it, and the gradient bytes of each node in training."""
    on = gpus(fleet)
    graph, gradients = chain(shape, on, is_training=kind == "training", recompute=recompute,
                             compression=compression)
    posed = MappingProblem(graph=graph, devices=devices(on, fleet.link), objective=THROUGHPUT)
    return posed, ChainPlanner(posed), gradients if kind == "training" else None


def planned(
    shape: Shape, kind: str, fleet: Fleet, compression: float = 1.0, most: int | None = None
) -> tuple[Replicated | Refusal, bool]:
    """What the planner makes of it, and whether it recomputes activations: the faster of both."""
    found = []
    for recompute in (False, True) if kind == "training" else (False,):
        _, first, gradients = planner(
            shape, kind, replace(fleet, link=replace(fleet.link, latency_s=0.0)), compression,
            recompute)
        on = devices(gpus(fleet), fleet.link)
        found.append((
            replicate(on, batch(shape, kind), first.over(on), gradients, most), recompute))
    fitting = [one for one in found if isinstance(one[0], Replicated)]
    return max(fitting, key=lambda one: one[0].microbatches_per_s) if fitting else found[-1]


def batch(shape: Shape, kind: str) -> int:
    """Sequences of one step."""
    return shape.batch if kind == "training" else INFERENCE_BATCH


@cache
def rate(shape: Shape, kind: str, fleet: Fleet, compression: float = 1.0) -> float | None:
    """Sequences per second, or None where the fleet cannot hold the model."""
    plan, _ = planned(shape, kind, fleet, compression)
    return plan.microbatches_per_s if isinstance(plan, Replicated) else None


def row(
    shape: Shape, kind: str, fleet: Fleet, compression: float, rivals: dict[str, float | None]
) -> dict[str, object]:
    """One line of the table: what the home fleet does, beside the rivals."""
    plan, recompute = planned(shape, kind, fleet, compression)
    made: dict[str, object] = {
        "model": shape.name, "kind": kind, "utilisation": fleet.utilisation,
        "gbits": fleet.link.bandwidth_bytes_per_s * 8 / 1e9,
        "latency_ms": fleet.link.latency_s * 1e3, "compression": compression}
    if isinstance(plan, Refusal):
        return {**made, "fits": False, "reason": plan.text}
    per_s = plan.microbatches_per_s
    return {
        **made, "fits": True, "sequences_per_s": per_s, "tokens_per_s": per_s * shape.sequence,
        "peers": plan.devices, "replicas": len(plan.replicas),
        "stages": [len(one.pipeline.devices) for one in plan.replicas], "limit": plan.limit,
        "step_s": plan.step_s, "exchange_s": plan.exchange_s, "recompute": recompute,
        "of": {name: per_s / rival if rival else None for name, rival in rivals.items()}}


def rival_rows() -> list[dict[str, object]]:
    rows = []
    for shape, kind, slot in product(SHAPES, KINDS, ("SXM", "PCIe")):
        plan, recompute = planned(shape, kind, h100(slot))
        made: dict[str, object] = {"model": shape.name, "kind": kind, "fleet": f"H100 {slot}"}
        if isinstance(plan, Refusal):
            rows.append({**made, "fits": False, "reason": plan.text})
        else:
            rows.append({
                **made, "fits": True, "sequences_per_s": plan.microbatches_per_s,
                "tokens_per_s": plan.microbatches_per_s * shape.sequence,
                "stages": [len(one.pipeline.devices) for one in plan.replicas],
                "limit": plan.limit, "recompute": recompute})
    return rows


def least_count(shape: Shape, kind: str, fleet: Fleet) -> int | None:
    """GPUs below which memory cannot hold the model; None: one operator is larger than a GPU."""
    posed, _, _ = planner(shape, kind, fleet, 1.0, kind == "training")
    if (posed.graph.persistent_bytes + posed.graph.temporary_bytes).max() > fleet.memory_bytes:
        return None
    return ceil(posed.graph.persistent_bytes.sum() / fleet.memory_bytes)


def break_even_gbits(
    shape: Shape, kind: str, utilisation: float, rival: float
) -> float | None:
    """Least of `BANDWIDTHS` at 10 ms with which the home fleet is comparable; None: none is.

    With compression it is that many times less, because all that travels is divided by it.
    """
    low, high = -1, len(BANDWIDTHS) - 1
    if (rate(shape, kind, home(BANDWIDTHS[high], 10, utilisation)) or 0.0) < COMPARABLE * rival:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        per_s = rate(shape, kind, home(BANDWIDTHS[middle], 10, utilisation)) or 0.0
        low, high = (low, middle) if per_s >= COMPARABLE * rival else (middle, high)
    return BANDWIDTHS[high]


def against_baechi(shape: Shape, kind: str, gbits: float) -> dict[str, object] | None:
    """Throughput of m-ETF's and m-SCT's mappings, alone and with our replicas, beside ours."""
    fleet = home(gbits, 10, 0.5)
    ours, recompute = planned(shape, kind, fleet)
    alone, _ = planned(shape, kind, fleet, most=1)
    if isinstance(ours, Refusal):
        return None
    made: dict[str, object] = {
        "model": shape.name, "kind": kind, "gbits": gbits, "ours": ours.microbatches_per_s,
        "ours_peers": ours.devices, "ours_replicas": len(ours.replicas),
        "ours_one_pipeline": alone.microbatches_per_s if isinstance(alone, Replicated) else None}
    posed, _, gradients = planner(shape, kind, fleet, 1.0, recompute)
    sizes = {fleet.count, *(len(group) for group in groupings(
        posed.devices, len(ours.replicas))[0])}
    for name in ("m-etf", "m-sct"):
        plan = BaechiPlan(posed, name, sizes)
        for label, most in (("", 1), ("_replicated", None)):
            found = replicate(posed.devices, batch(shape, kind), plan, gradients, most)
            made[f"{name}{label}"] = (
                found.microbatches_per_s if isinstance(found, Replicated) else None)
            made[f"{name}{label}_peers"] = (
                found.devices if isinstance(found, Replicated) else None)
    return made


def results(processes: int) -> dict[str, object]:
    """Everything that the report shows. Cost: some ten minutes of one core."""
    rivals = rival_rows()
    per_s = {
        (str(entry["model"]), str(entry["kind"]), str(entry["fleet"])):
        entry.get("sequences_per_s") for entry in rivals}
    with ProcessPoolExecutor(processes) as pool:
        rows = pool.map(home_rows, *zip(*[
            (shape, kind, share, {
                name: per_s[shape.name, kind, name] for name in ("H100 SXM", "H100 PCIe")})
            for shape, kind, share in product(SHAPES, KINDS, UTILISATIONS)], strict=True))
        break_evens = pool.map(break_even_row, SHAPES, [per_s] * len(SHAPES))
        baechi = pool.map(against_baechi, *zip(*product(SHAPES, KINDS, GBITS), strict=True))
        least = pool.map(least_row, *zip(*product(SHAPES, KINDS), strict=True))
        return {
            "rivals": rivals, "rows": [line for lines in rows for line in lines],
            "break_even": list(break_evens), "baechi": [one for one in baechi if one],
            "least": list(least)}


def home_rows(
    shape: Shape, kind: str, utilisation: float, rivals: dict[str, float | None]
) -> list[dict[str, object]]:
    """Links and compressions, at low utilisation with 10 ms only; one row if nothing fits."""
    latencies_ms = LATENCIES_MS if utilisation == UTILISATIONS[0] else LATENCIES_MS[1:2]
    grid = list(product(GBITS, latencies_ms, COMPRESSIONS))
    first = row(shape, kind, home(*grid[0][:2], utilisation), grid[0][2], rivals)
    if not first["fits"]:
        return [first]
    rest = [row(shape, kind, home(gbits, latency_ms, utilisation), factor, rivals)
            for gbits, latency_ms, factor in grid[1:]]
    print(f"{shape.name}, {kind}, utilisation {utilisation:g}: done", file=sys.stderr)
    return [first, *rest]


def least_row(shape: Shape, kind: str) -> dict[str, object]:
    return {
        "model": shape.name, "kind": kind, "parameters": shape.parameters,
        "RTX 3080": least_count(shape, kind, home(1.0, 10, 0.5)),
        "H100": least_count(shape, kind, h100("SXM"))}


def break_even_row(
    shape: Shape, per_s: dict[tuple[str, str, str], float | None]
) -> dict[str, object]:
    entry: dict[str, object] = {"model": shape.name, "hop_gbits": {
        str(share): break_even_bytes_per_s(shape, 50, share * 59.5e12) * 8 / 1e9
        for share in (0.3, 0.5)}}
    for kind, rival in product(KINDS, ("H100 SXM", "H100 PCIe")):
        other = per_s[shape.name, kind, rival]
        entry[f"{kind} {rival}"] = (
            "no rival" if other is None else break_even_gbits(shape, kind, 0.5, other))
    return entry


def main() -> None:
    """Predict, print the tables, and with `--json` one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"into results/{NAME}.*")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    found = results(given.processes)
    if given.write:
        (RESULTS / f"{NAME}.json").write_text(
            json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (RESULTS / f"{NAME}.md").write_text(markdown(found), encoding="utf-8")
        (RESULTS / f"{NAME}.svg").write_text(picture(found), encoding="utf-8")
    print(markdown(found))
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
