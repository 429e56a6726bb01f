"""Every model trains as torch trains it, or is refused with the reason in the table."""

import pytest

from homespun.errors import HomespunError
from tests.universality.catalogue import ENTRIES
from tests.universality.harness import build, import_case, inference_error, measure

TRAINED = [entry for entry in ENTRIES if entry.refusal is None]
REFUSED = [entry for entry in ENTRIES if entry.refusal is not None]


@pytest.mark.parametrize("entry", TRAINED, ids=lambda entry: entry.slug)
def test_trains_like_torch(entry):
    found = measure(entry)
    errors = {"loss": found.loss_error, "gradient": found.gradient_error,
              "state": found.state_error, "evaluation": found.evaluation_error,
              "inference": found.inference_error or 0.0}
    assert max(errors.values()) <= entry.tolerance, errors
    assert found.same_bits, "one segment and three differ"
    assert not entry.branches or found.skips or found.fan_out > 1


@pytest.mark.parametrize("entry", TRAINED, ids=lambda entry: entry.slug)
def test_infers_like_torch(entry):
    assert inference_error(entry) <= entry.tolerance


@pytest.mark.parametrize("entry", REFUSED, ids=lambda entry: entry.slug)
def test_is_refused_with_the_reason_in_the_table(entry):
    case = build(entry)
    with pytest.raises(HomespunError) as raised:
        import_case(case, entry.optimizer)
    assert raised.value.code == entry.refusal.code
    assert entry.refusal.text in raised.value.message
