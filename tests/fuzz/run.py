"""Fuzz one target with coverage guidance: `python -m tests.fuzz.run graph --seconds 60`.

Needs atheris (Linux). Inputs that reach new code are kept in the corpus beside this file if
`--keep` is given; a finding is written to the current directory as `crash-...`: put it into the
corpus with a mend, and tests/fuzz/test_corpus.py replays it for ever.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
INPUT_BYTES_MAX = 16_384


def main() -> None:
    """Fuzz until the time is over; the exit status is not 0 if something was found."""
    import atheris

    with atheris.instrument_imports(include=["ir", "peer.frames", "homespun"]):
        # What the targets import later has to be loaded here, or it would not guide anything.
        for module in ("ir.admission", "peer.frames", "homespun.tensor_file",
                       "homespun.identity.join_key"):
            importlib.import_module(module)
        from tests.fuzz.targets import TARGETS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0: from the clock; it is printed")
    parser.add_argument("--keep", action="store_true", help="add to the corpus in the repository")
    given = parser.parse_args()
    corpus = CORPUS / given.target
    found = corpus if given.keep else Path(tempfile.mkdtemp(prefix="homespun-fuzz-"))
    atheris.Setup(
        [sys.argv[0], str(found), str(corpus), f"-max_total_time={given.seconds}",
         f"-max_len={INPUT_BYTES_MAX}", f"-seed={given.seed}", "-timeout=10", "-rss_limit_mb=2048"],
        TARGETS[given.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
