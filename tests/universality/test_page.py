"""The page says what the catalogue and the stored results say."""

from pathlib import Path

import pytest

from tests.universality.catalogue import ENTRIES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def universality_doc(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import universality_doc

    return universality_doc


def test_names_are_unique():
    assert len({entry.slug for entry in ENTRIES}) == len(ENTRIES)


def test_page_is_fresh(universality_doc):
    written = universality_doc.TARGET.read_text(encoding="utf-8")
    assert written == universality_doc.render(), "run: python scripts/universality_doc.py"


def test_results_are_those_of_the_catalogue(universality_doc):
    stored = {path.stem for path in universality_doc.RESULTS.glob("*.json")}
    assert stored == {entry.slug for entry in ENTRIES if entry.refusal is None}


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry.refusal is None], ids=lambda entry: entry.slug)
def test_stored_results_hold(universality_doc, entry):
    found = universality_doc.load(entry)
    errors = (found.loss_error, found.gradient_error, found.state_error, found.evaluation_error,
              found.inference_error)
    assert max(errors) <= entry.tolerance
    assert found.same_bits
    assert abs(found.flops - 1) <= 0.05
