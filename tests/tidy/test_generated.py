"""What is generated and committed equals what its generator writes now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_script(name: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, done.stderr


def test_wire_code_is_fresh(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="the protobuf compiler is a development dependency")
    run_script("proto.py", str(tmp_path))
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "homespun" / "v1").iterdir()}
    committed = {path.name: path.read_bytes() for path in (ROOT / "homespun" / "v1").glob("*_pb2*")}
    assert sorted(fresh) == sorted(committed), "run: make proto"
    stale = [name for name in fresh if fresh[name] != committed[name]]
    assert not stale, f"run: make proto ({stale})"


def test_errors_page_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import errors_doc

    written = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert written == errors_doc.errors_page(), "run: make docs"


def test_schemas_are_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import peer_schemas_doc
    import schemas_doc

    fresh = {f"{name}.json": schemas_doc.text_of(schema)
             for name, schema in schemas_doc.schemas().items()}
    fresh |= peer_schemas_doc.peer_schemas()
    committed = {path.name: path.read_text(encoding="utf-8")
                 for path in (ROOT / "docs" / "schemas").iterdir()}
    assert committed == fresh, "run: make docs"


def test_every_error_code_has_a_row() -> None:
    from homespun.errors import CATALOG, Code

    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert set(CATALOG) == set(Code)
    assert not [code for code in Code if f'<a id="{code.lower()}"></a>`{code}`' not in page]


def test_every_exit_code_is_documented() -> None:
    from homespun.errors import CATALOG

    page = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    used = {info.exit_code for info in CATALOG.values()} | {0, 1, 2, 130}
    assert not [code for code in sorted(used) if f"| {code} |" not in page]
