"""A user's own `dag.py` must not break the client with a riddle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PROBE = """
import sys
try:
    import homespun
except Exception as error:
    print(type(error).__name__, error.code, error.message)
else:
    print("imported", homespun.__version__, "torch" in sys.modules, "grpc" in sys.modules)
"""


def import_in(folder: Path, *arguments: str, program: str = _PROBE) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, *arguments, "-c", program], cwd=folder, env=environment,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_empty_folder_imports_quickly_and_lightly(tmp_path: Path) -> None:
    assert import_in(tmp_path).startswith("imported 0.1.0 False False")


@pytest.mark.parametrize("name", ["dag", "ir", "peer", "broker"])
def test_a_users_file_is_named(tmp_path: Path, name: str) -> None:
    mine = tmp_path / f"{name}.py"
    mine.write_text("raise RuntimeError('must not be run')\n", encoding="utf-8")
    printed = import_in(tmp_path)
    assert printed.startswith("BadConfiguration SHADOWED_MODULE")
    assert str(mine) in printed
    assert f"my_{name}.py" in printed


def test_a_users_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "__init__.py").write_text("", encoding="utf-8")
    printed = import_in(tmp_path)
    assert "SHADOWED_MODULE" in printed
    assert f"folder {str(tmp_path / 'peer')!r}" in printed


def test_a_users_module_that_is_already_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "dag.py").write_text("", encoding="utf-8")
    printed = import_in(tmp_path, program="import dag\n" + _PROBE)
    assert "SHADOWED_MODULE" in printed
    assert "restart Python" in printed


def test_the_advice_works(tmp_path: Path) -> None:
    (tmp_path / "dag.py").write_text("", encoding="utf-8")
    assert import_in(tmp_path, "-P").startswith("imported")
