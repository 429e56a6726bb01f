"""Executors by name, and what each says of itself."""

import pytest
import torch

from dag.support import COMPLETE_EXECUTORS
from homespun.errors import Code, HomespunError
from ir.graph import FLOATS
from ir.operators import OPERATORS, OPSET, OPSETS
from peer.executor.installed import NAMES
from peer.executor.registry import create


@pytest.mark.parametrize("name", NAMES)
def test_capability(name):
    capability = create(name, "cpu", 1).capability()
    assert capability.executor == name
    assert capability.device == "cpu"
    assert capability.operators <= frozenset(OPERATORS)
    assert set(capability.slots) <= capability.operators
    assert OPSET in capability.opsets
    assert capability.memory_bytes > 0


@pytest.mark.parametrize("name", COMPLETE_EXECUTORS)
def test_what_refusals_recommend_runs_everything(name):
    support = create(name, "cpu", 1).capability().support
    assert support.trainable
    assert range(support.opset_min, support.opset_max + 1) == OPSETS
    assert {op for entry in support.operators for op in entry.operators} == set(OPERATORS)
    for entry in support.operators:  # all but a few integers
        assert all({*FLOATS, "bool"} <= {*slot.dtypes} for slot in (*entry.inputs, *entry.outputs))


def test_numeric_class_names_build_device_and_threads():
    one, two = (create("torch", "cpu", threads).numeric_class for threads in (1, 2))
    create("torch", "cpu", 1)
    assert torch.__version__ in one
    assert "cpu" in one
    assert one != two


@pytest.mark.parametrize(("name", "device", "threads"), [
    ("abacus", "cpu", 1), ("torch", "abacus", 1), ("torch", "mps", 1), ("torch", "cuda:99", 1),
    ("torch", "cpu", 0)])
def test_unusable(name, device, threads):
    with pytest.raises(HomespunError) as caught:
        create(name, device, threads)
    assert caught.value.code == Code.BAD_CONFIGURATION
