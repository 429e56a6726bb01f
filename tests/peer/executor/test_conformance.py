"""ONNX's own node tests, on every executor that computes."""

import pytest

from tests.peer.executor.expected_failures import EXPECTED_FAILURES, LEAST_SHARE
from tests.peer.executor.node_tests import cases, claims, outcomes

EXECUTORS = sorted(EXPECTED_FAILURES)
CLAIMS = [(executor, op_type) for executor in EXECUTORS for op_type in claims(executor)]


@pytest.mark.parametrize(("executor", "op_type"), CLAIMS)
def test_node_tests(executor, op_type):
    expected, found = EXPECTED_FAILURES[executor], outcomes(executor, op_type)
    unexpected = {name: reason for name, reason in found.items()
                  if reason is not None and name not in expected}
    assert not unexpected, unexpected
    stale = [name for name, reason in found.items() if name in expected and reason is None]
    assert not stale, f"these pass now, take them off the list: {stale}"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_share_of_passing_cases(executor):
    total = sum(len(group) for group in cases().values())
    assert total > 850, "ONNX's node tests were not found"
    passing = sum(
        reason is None for op_type in claims(executor)
        for reason in outcomes(executor, op_type).values())
    print(f"{executor}: {passing} of {total} node tests of the closed list "
          f"({100 * passing / total:.1f} %), {len(claims(executor))} operators")
    assert passing >= LEAST_SHARE[executor] * total


@pytest.mark.parametrize("executor", EXECUTORS)
def test_expected_failures_exist(executor):
    names = {case.name for group in cases().values() for case in group}
    assert set(EXPECTED_FAILURES[executor]) <= names
