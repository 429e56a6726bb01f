"""docs/coverage.md says what the executors and the operator list say now."""

import importlib.util
import json
from pathlib import Path

import pytest

from ir.operators import OPERATORS
from tests.peer.executor.expected_failures import EXPECTED_FAILURES, LEAST_SHARE
from tests.peer.executor.node_tests import claims

ROOT = Path(__file__).resolve().parent.parent.parent.parent


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location(
        "coverage_doc", ROOT / "scripts" / "coverage_doc.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stored(page):
    return json.loads(page.RESULTS.read_text(encoding="utf-8"))


def test_the_page_is_fresh(page):
    assert page.TARGET.read_text(encoding="utf-8") == page.render()


def test_every_executor_and_operator_is_measured(stored):
    assert set(stored["executors"]) == set(EXPECTED_FAILURES)
    for name, found in stored["executors"].items():
        assert found["operators"] == claims(name), "run scripts/coverage_doc.py --measure"
        assert set(found["operators"]) <= set(OPERATORS)


@pytest.mark.parametrize("executor", sorted(EXPECTED_FAILURES))
def test_the_measured_share_is_what_is_promised(stored, executor):
    cases = stored["executors"][executor]["cases"].values()
    passing, total = (sum(pair[at] for pair in cases) for at in (0, 1))
    assert passing >= LEAST_SHARE[executor] * total
    assert passing <= total - sum(1 for _ in set(EXPECTED_FAILURES[executor]))
