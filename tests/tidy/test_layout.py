"""Sizes and names of files and functions: rules that keep every file readable in one sitting."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("homespun", "broker", "peer", "dag", "ir", "sim")
FOLDERS = (*PACKAGES, "scripts", "benchmarks", "examples", "tests")
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
BANNED_NAMES = {"utils.py", "util.py", "common.py", "helpers.py", "helper.py", "manager.py",
                "misc.py"}
ALLOWED_LONG: frozenset[str] = frozenset()
"""Paths that may be too long. It is empty and may only ever shrink."""


def sources(*folders: str) -> Iterator[Path]:
    """All hand-written Python files in `folders`."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            generated = path.is_relative_to(ROOT / "homespun" / "v1")
            if not generated and "__pycache__" not in path.parts:
                yield path


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_walk_sees_the_code() -> None:
    assert len(list(sources(*PACKAGES))) > 20


def test_no_file_is_longer_than_the_limit() -> None:
    long = {relative(path): lines for path in sources(*FOLDERS)
            if (lines := path.read_text(encoding="utf-8").count("\n")) > FILE_LINES_MAX}
    assert set(long) <= ALLOWED_LONG, f"split these by noun: {long}"


def test_no_function_is_longer_than_the_limit() -> None:
    long = {}
    for path in sources(*FOLDERS):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), relative(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long[f"{relative(path)}:{node.name}"] = lines
    assert not long, f"functions over {FUNCTION_LINES_MAX} lines: {long}"


def test_the_allow_list_is_empty() -> None:
    assert not ALLOWED_LONG


def test_no_file_has_a_name_that_says_nothing() -> None:
    vague = [relative(path) for path in sources(*FOLDERS) if path.name in BANNED_NAMES]
    assert not vague, f"name these after what they hold: {vague}"


def test_proto_is_no_python_package() -> None:
    assert not list((ROOT / "proto").rglob("__init__.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is_for(package: str) -> None:
    silent = [relative(path) for path in sources(package)
              if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not silent, f"modules without a docstring: {silent}"
