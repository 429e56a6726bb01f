"""Ten thousand hostile graphs: none is admitted, each is refused by name and in little memory."""

import random
import subprocess
import sys
import time
from collections import Counter
from functools import cache

import psutil
import pytest

from homespun.errors import Code, HomespunError
from ir.admission import admit
from tests.ir.hostile_graphs import CHANGES, hostile_model, sound_model

GRAPHS = 10_000
SECONDS_MAX = 1.0
"""Of processor time, for a graph of 2,000 nodes: ten times what an idle machine takes."""
MEMORY_BYTES = 64 * 2**20
CODES = (Code.INVALID_GRAPH, Code.UNSUPPORTED_OP, Code.LIMIT_EXCEEDED)


def refusal(data):
    """The error that a graph is refused with; None if it is admitted."""
    try:
        admit(data)
    except HomespunError as error:
        return error
    return None


@pytest.mark.parametrize("nodes", [1, 30, 500])
def test_what_is_spoiled_was_sound(nodes):
    admit(sound_model(random.Random(nodes), nodes).SerializeToString())


def test_none_is_admitted_and_each_is_refused_by_name():
    seen = Counter()
    for seed in range(GRAPHS):
        wrong, said, model = hostile_model(seed)
        data = model.SerializeToString()
        error = refusal(data)
        assert error is not None, f"seed {seed}: {wrong} was admitted"
        assert error.code in CODES, f"seed {seed}: {wrong}: {error.code}"
        assert said in error.message, f"seed {seed}: {wrong} does not say {said!r}: {error.message}"
        seen[wrong] += 1
    assert set(seen) == set(CHANGES)


@cache
def largest():
    """kind -> the largest graph of that kind."""
    found = {}
    for seed in range(3_000):
        wrong, _, model = hostile_model(seed)
        data = model.SerializeToString()
        found[wrong] = max(found.get(wrong, b""), data, key=len)
    return found


@pytest.mark.parametrize("wrong", sorted(CHANGES))
def test_none_takes_long(wrong):
    """A guard against what grows faster than the graph; benchmarks/admission.py has the figures."""
    data = largest()[wrong]
    began = time.process_time()
    refusal(data)
    assert time.process_time() - began < SECONDS_MAX, f"{len(data)} bytes"


MEASURE = """
import psutil
from tests.ir.hostile_graphs import hostile_model
from tests.properties.test_hostile_graphs import peak_bytes, refusal

seeds = range(0, 10_000, 7)
graphs = [hostile_model(seed)[2].SerializeToString() for seed in seeds]
refusal(graphs[0])
before = peak_bytes()
admitted = [seed for seed, data in zip(seeds, graphs) if refusal(data) is None]
print(peak_bytes() - before, len(admitted))
"""


def peak_bytes():
    """Most memory that this process has had."""
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return memory.peak_wset
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def test_refusing_takes_little_memory():
    """In a process of its own: a peak never shrinks, so one bound holds for all."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=200, check=True)
    grown, admitted = map(int, done.stdout.split())
    assert admitted == 0
    assert grown < MEMORY_BYTES, f"refusing took {grown / 2**20:.1f} MiB"
