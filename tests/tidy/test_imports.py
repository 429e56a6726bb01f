"""Imports point one way, cores are pure, and nothing heavy loads before it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORES = ("broker.core", "peer.core")
IMPURE = ("grpc", "google.protobuf", "torch", "onnx", "onnxscript", "onnx_ir", "sqlalchemy",
          "structlog", "homespun.v1", "asyncio", "socket", "multiprocessing", "subprocess",
          "safetensors", "rich")
SHARED = ("homespun.causes", "homespun.errors", "homespun.explanation", "homespun.ids",
          "homespun.pieces", "homespun.sampling")


def core_modules(core: str) -> list[str]:
    folder = ROOT.joinpath(*core.split("."))
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in folder.rglob("*.py")
    )


def loaded_after(statement: str) -> set[str]:
    """Names in `sys.modules` of a fresh interpreter once it has run `statement`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys, json; print(json.dumps([*sys.modules]))"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_contracts_hold() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(command), "--no-logo", "--no-cache"], cwd=ROOT,
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("core", CORES)
def test_core_loads_nothing_impure(core: str) -> None:
    baseline = loaded_after("pass") | loaded_after("import numpy")
    loaded = loaded_after("\n".join(f"import {module}" for module in core_modules(core)))
    assert core in loaded
    # numpy alone pulls in some standard modules; what it brings is not the core's doing.
    assert not (loaded - baseline) & set(IMPURE)


@pytest.mark.parametrize("core", CORES)
def test_core_imports_only_downwards(core: str) -> None:
    wrong = []
    for module in core_modules(core):
        path = ROOT.joinpath(*module.split("."))
        source = (path / "__init__.py") if path.is_dir() else path.with_suffix(".py")
        for name in imported_modules(source):
            ours = name.split(".")[0] in {"homespun", "broker", "peer", "dag", "ir", "sim"}
            fine = name.startswith((core + ".", "dag.", "ir.", *SHARED)) or name == core
            if ours and not fine:
                wrong.append(f"{module} imports {name}")
    assert not wrong


def imported_modules(source: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: imports are absolute"
            names.append(node.module or "")
    return names


@pytest.mark.parametrize("core", CORES)
def test_banned_calls_are_flagged_in_a_core(core: str) -> None:
    """The lint rules bite: a core that reads a clock or rolls a global die does not pass."""
    bad = ("import random\nimport time\n\n"
           "def drift() -> float:\n    return time.time() + random.random()\n\n"
           "def fair(seed: int) -> float:\n    return random.Random(seed).random()\n")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251",
         "--output-format", "json",
         "--stdin-filename", str(ROOT.joinpath(*core.split(".")) / "sample.py"), "-"],
        cwd=ROOT, input=bad, capture_output=True, text=True, timeout=60, check=False,
    )
    flagged = {finding["location"]["row"] for finding in json.loads(done.stdout)}
    assert flagged == {2, 5}, done.stdout
