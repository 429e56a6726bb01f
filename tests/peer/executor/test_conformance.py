"""ONNX's own node tests, on every executor that computes."""

import pytest

from tests.peer.executor.expected_failures import EXPECTED_FAILURES, LEAST_SHARE
from tests.peer.executor.node_tests import (
    NOT_CLAIMED,
    cases,
    claims,
    collected,
    outcomes,
    outside_scope,
)

EXECUTORS = sorted(EXPECTED_FAILURES)
CLAIMS = [(executor, op_type) for executor in EXECUTORS for op_type in claims(executor)]


@pytest.mark.parametrize(("executor", "op_type"), CLAIMS)
def test_node_tests(executor, op_type):
    found = outcomes(executor, op_type)
    assert not _unexpected(executor, found)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_node_tests_of_what_it_does_not_claim(executor):
    for op_type in set(cases()) - set(claims(executor)):
        found = outcomes(executor, op_type)
        assert not _unexpected(executor, found)


def _unexpected(executor, found):
    """Case -> what is wrong: it fails, but is not listed, or the other way round.

    What an executor declares not to run needs no other list.
    """
    expected = EXPECTED_FAILURES[executor]
    return {name: reason or "passes now: take it off the list" for name, reason in found.items()
            if (reason is None) == (name in expected)
            and not (reason or "").startswith(NOT_CLAIMED)}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_share_of_passing_cases(executor):
    found = {name: reason for op_type in cases()
             for name, reason in outcomes(executor, op_type).items()}
    out_of_scope = sum(outside_scope(case) is not None for case in collected())
    assert len(found) + out_of_scope == len(collected()) > 1800
    passing = sum(reason is None for reason in found.values())
    print(f"{executor}: {passing} of {len(found)} node tests in scope "
          f"({100 * passing / len(found):.1f} %), {out_of_scope} out of scope, "
          f"{len(claims(executor))} operators")
    assert passing >= LEAST_SHARE[executor] * len(found)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_expected_failures_exist(executor):
    names = {case.name for group in cases().values() for case in group}
    assert set(EXPECTED_FAILURES[executor]) <= names
