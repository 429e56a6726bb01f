"""The kept corpus, whole and mutated: nothing but a refusal comes out of any parser."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FILES = {name: sorted((CORPUS / name).iterdir()) for name in TARGETS}
EXAMPLES = 300


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_corpus_is_read_or_refused(name):
    assert FILES[name], "a target needs something to begin with"
    for file in FILES[name]:
        TARGETS[name](file.read_bytes())


@st.composite
def mutated(draw, seeds):
    """A corpus entry with bytes changed, cut out, doubled, or joined to another entry."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        end = min(len(data), place + draw(st.integers(0, 12)))
        data[place:end] = draw(st.one_of(
            st.binary(max_size=12), st.just(bytes(data[place:end]) * 2), st.sampled_from(seeds)))
    return bytes(data)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_mutations_of_the_corpus_are_read_or_refused(name):
    seeds = [file.read_bytes() for file in FILES[name]]

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True,
              suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
    @given(mutated(seeds))
    def run(data):
        TARGETS[name](data)

    run()
