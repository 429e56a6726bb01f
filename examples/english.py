"""English text that every Python installation carries: its own documentation.

The language reference's help topics and the docstrings of the standard library's modules. Files are
parsed, never imported, so nothing runs and nothing is downloaded. One installation always gives the
same text; another Python version gives a little more or less of it.
"""

from __future__ import annotations

import ast
import importlib.util
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

HELD_OUT_EVERY = 20
"""Each 20th document is kept for validation."""
SHORTEST_DOCUMENT = 200
"""Shorter docstrings say little more than the name of their function; in characters."""
LARGEST_FILE_BYTES = 1_000_000

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Text:
    """Rows of tokens, int64 [rows, length + 1]; a token is a byte of UTF-8, 0 to 255."""

    train: Tokens
    validation: Tokens


def english(length: int) -> Text:
    """Gather the text and cut it into rows of `length` tokens and the one that follows them.

    Args:
        length: tokens that a model sees at once, >= 1.
    """
    documents = list(dict.fromkeys(_documents()))
    held_out = documents[::HELD_OUT_EVERY]
    rest = [text for index, text in enumerate(documents) if index % HELD_OUT_EVERY]
    return Text(_rows(rest, length), _rows(held_out, length))


def _documents() -> Iterator[str]:
    """Help topics by name, then docstrings by file. Layout goes: it is the words that count."""
    for text in _topics():
        yield " ".join(text.split())
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for text in _docstrings(path):
            if len(text) >= SHORTEST_DOCUMENT:
                yield " ".join(text.split())


def _topics() -> Iterator[str]:
    if importlib.util.find_spec("pydoc_data.topics") is None:
        return  # some distributions leave it out; the docstrings are there
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name]


def _docstrings(path: Path) -> Iterator[str]:
    """All docstrings of one source file, outer before inner."""
    if path.stat().st_size > LARGEST_FILE_BYTES:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # templates in there are not for us to fix
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # a file that is no Python of this version
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node, clean=False) or ""


def _rows(documents: Sequence[str], length: int) -> Tokens:
    data = np.frombuffer("\n\n".join(documents).encode(), np.uint8).astype(np.int64)
    starts = np.arange(0, len(data) - length, length)
    return data[starts[:, None] + np.arange(length + 1)]
