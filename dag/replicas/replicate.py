"""Data-parallel replicas of a pipeline: how many, on which devices, with which share of the batch.

More devices make a pipeline's stages shorter until the links or one node set its pace. From there
on a second pipeline beside the first does more: both take a share of the batch and sum their
gradients once per step. For every number of replicas the devices are divided into groups, each
group is planned by itself, and the number with the most microbatches per second is taken. One is
among them, so replicas are never slower than the pipeline alone.

A step takes as long as the slowest replica's share and then the exchange, which begins when the
last gradient is there: it overlaps with nothing. Inference exchanges nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dag.mapping.problem import Devices, FloatArray
from dag.placement import Refusal
from dag.placers.ideals import along_links
from dag.replicas.chain_pipeline import Pipeline
from dag.replicas.exchange import exchange_s

Plan = Callable[[Sequence[int], int], Pipeline | Refusal]
"""(device numbers, microbatches) -> the pipeline on some of them, or why there is none."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Replica:
    """One pipeline and the microbatches of each step that are its share, >= 1."""

    pipeline: Pipeline
    microbatches: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Replicated:
    """Replicas that share a step's microbatches.

    Attributes:
        replicas: at least one.
        flow_s: until the last of them has run its share.
        exchange_s: summing gradients after that; 0 for one replica and for inference.
        refused: the other numbers of replicas, and the devices that idle: why.
    """

    replicas: tuple[Replica, ...]
    flow_s: float
    exchange_s: float
    refused: tuple[Refusal, ...] = ()

    @property
    def step_s(self) -> float:
        """One step of the whole batch."""
        return self.flow_s + self.exchange_s

    @property
    def microbatches_per_s(self) -> float:
        """Throughput."""
        return sum(replica.microbatches for replica in self.replicas) / self.step_s

    @property
    def devices(self) -> int:
        """How many devices work."""
        return sum(len(replica.pipeline.devices) for replica in self.replicas)

    @property
    def limit(self) -> str:
        """What takes most of the step: `exchange`, `fill`, or what sets the slowest's period."""
        slowest = max(
            self.replicas, key=lambda one: one.pipeline.seconds(one.microbatches))
        fill_s = slowest.pipeline.once_s
        steady_s = self.flow_s - fill_s
        if self.exchange_s > max(steady_s, fill_s):
            return "exchange"
        return "fill" if fill_s > steady_s else slowest.pipeline.limit


def replicate(
    devices: Devices, microbatches: int, plan: Plan, gradient_bytes: FloatArray | None = None,
    most: int | None = None,
) -> Replicated | Refusal:
    """The number of replicas with the highest throughput.

    Args:
        devices: to use or leave idle.
        microbatches: of one step, over all replicas, >= 1.
        plan: plans one group.
        gradient_bytes: what each node of the chain exchanges, in chain order; None: inference.
        most: replicas to try; None: as many as there are devices and microbatches.

    Returns:
        The replicas; or why not even one pipeline over all devices is possible.

    Cost: 2 * `most` plans for each of up to `most` groups; equal groups are cheap with a plan that
    remembers, as `ChainPlanner` does.
    """
    tried: list[Replicated] = []
    refused: list[Refusal] = []
    for count in range(1, min(most or devices.count, devices.count, microbatches) + 1):
        found = _best_of(devices, count, microbatches, plan, gradient_bytes)
        if isinstance(found, Replicated):
            tried.append(found)
        else:
            refused.append(found)
    if not tried:
        return refused[0]
    best = max(tried, key=lambda one: (one.microbatches_per_s, -one.devices))
    slower = [_slower(one, best) for one in tried if one is not best]
    return Replicated(
        replicas=best.replicas, flow_s=best.flow_s, exchange_s=best.exchange_s,
        refused=(*slower, *refused, *_idle(devices, best)))


def share(pipelines: Sequence[Pipeline], microbatches: int) -> list[int]:
    """Microbatches of each pipeline so that the last is done earliest; some may get none.

    Cost: O(microbatches * log pipelines).
    """
    shares = [0] * len(pipelines)
    periods_s = [pipeline.period_s for pipeline in pipelines]
    ends = [(pipeline.once_s, number) for number, pipeline in enumerate(pipelines)]
    heapq.heapify(ends)
    for _ in range(microbatches):
        end_s, number = ends[0]
        shares[number] += 1
        heapq.heapreplace(ends, (end_s + periods_s[number], number))
    return shares


def groupings(devices: Devices, count: int) -> list[list[list[int]]]:
    """Ways to divide all devices into so many groups, each once.

    First dealt out by speed and memory, back and forth, so that groups are alike; then stretches of
    about equal speed along good links, so that groups are well linked inside.
    """
    ranked = sorted(
        range(devices.count), key=lambda n: (-devices.speed[n], -devices.memory_bytes[n], n))
    dealt: list[list[int]] = [[] for _ in range(count)]
    for place, device in enumerate(ranked):
        row, column = divmod(place, count)
        dealt[column if row % 2 == 0 else count - 1 - column].append(device)
    ways = [[sorted(group) for group in dealt]]
    if not _is_uniform(devices):
        ways.append(_stretches(devices, along_links(_typical_s(devices), ranked[0]), count))
    return ways


def _stretches(devices: Devices, order: Sequence[int], count: int) -> list[list[int]]:
    """The order cut where the speeds so far pass multiples of the mean; no stretch is empty."""
    groups: list[list[int]] = [[] for _ in range(count)]
    total, passed, at = float(devices.speed.sum()), 0.0, 0
    for place, device in enumerate(order):
        left = len(order) - place
        middle = passed + float(devices.speed[device]) / 2
        is_due = middle >= total * (at + 1) / count or left <= count - at - 1
        if groups[at] and at + 1 < count and is_due:
            at += 1
        groups[at].append(device)
        passed += float(devices.speed[device])
    return [sorted(group) for group in groups]


def _best_of(
    devices: Devices, count: int, microbatches: int, plan: Plan,
    gradient_bytes: FloatArray | None,
) -> Replicated | Refusal:
    """The best way to have so many replicas, or why there is none."""
    best: Replicated | None = None
    refusal: Refusal | None = None
    for groups in groupings(devices, count):
        pipelines = []
        for group in groups:
            found = plan(group, -(-microbatches // count))
            if isinstance(found, Refusal):
                refusal = refusal or found
                break
            pipelines.append(found)
        else:
            made = _shared(devices, pipelines, microbatches, gradient_bytes)
            if best is None or made.step_s < best.step_s:
                best = made
    if best is not None:
        return best
    assert refusal is not None
    return Refusal(
        subject=_named(count), rule=refusal.rule, wanted=refusal.wanted, had=refusal.had,
        text=refusal.text)


def _shared(
    devices: Devices, pipelines: Sequence[Pipeline], microbatches: int,
    gradient_bytes: FloatArray | None,
) -> Replicated:
    """Replicas with their shares; those without any are left out."""
    replicas = tuple(
        Replica(pipeline=pipeline, microbatches=part)
        for pipeline, part in zip(pipelines, share(pipelines, microbatches), strict=True) if part)
    exchange = 0.0
    if gradient_bytes is not None and len(replicas) > 1:
        exchange = exchange_s(
            devices, [(one.pipeline.devices, one.pipeline.bounds) for one in replicas],
            gradient_bytes)
    return Replicated(
        replicas=replicas, exchange_s=exchange,
        flow_s=max(one.pipeline.seconds(one.microbatches) for one in replicas))


def _slower(one: Replicated, best: Replicated) -> Refusal:
    wanted, had = best.microbatches_per_s, one.microbatches_per_s
    return Refusal(
        subject=_named(len(one.replicas)), rule="slower", wanted=wanted, had=had,
        text=f"{_named(len(one.replicas))} would run {had:.4g} microbatches per second instead of "
        f"{wanted:.4g}; most of the step would be {one.limit}.")


def _idle(devices: Devices, best: Replicated) -> list[Refusal]:
    working = [device for one in best.replicas for device in one.pipeline.devices]
    return [
        Refusal(
            subject=name, rule="count", wanted=best.devices + 1, had=best.devices,
            text=f"{best.devices} devices in {_named(len(best.replicas))} run the batch fastest; "
            f"the step is limited by {best.limit}.")
        for number, name in enumerate(devices.ids) if number not in working]


def _named(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _is_uniform(devices: Devices) -> bool:
    between = ~np.eye(devices.count, dtype=np.bool_)
    return all(
        len(np.unique(table[between])) <= 1
        for table in (devices.latency_s, devices.bandwidth_bytes_per_s))


def _typical_s(devices: Devices) -> FloatArray:
    """Time of a mebibyte between all pairs, [devices, devices]."""
    seconds: FloatArray = devices.latency_s + 2**20 / devices.bandwidth_bytes_per_s
    return seconds
