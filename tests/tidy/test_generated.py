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


def test_error_pages_are_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import errors_doc

    docs = ROOT / "docs"
    committed = {path.relative_to(docs).as_posix(): path.read_text(encoding="utf-8")
                 for path in [docs / "errors.md", *(docs / "errors").iterdir()]}
    assert committed == errors_doc.pages(), "run: make docs"


def test_schemas_are_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import client_schemas_doc
    import peer_schemas_doc
    import schemas_doc

    fresh = schemas_doc.files(schemas_doc.schemas() | client_schemas_doc.client_schemas())
    fresh |= peer_schemas_doc.peer_schemas()
    committed = {path.name: path.read_text(encoding="utf-8")
                 for path in (ROOT / "docs" / "schemas").iterdir()}
    assert committed == fresh, "run: make docs"


def test_every_error_code_has_a_row_and_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    from homespun.cli.output import error_value
    from homespun.errors import CATALOG, Code, HomespunError

    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from error_notes import NOTES

    assert set(CATALOG) == set(Code) == set(NOTES)
    table = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for code in Code:
        page = ROOT / str(error_value(HomespunError(code, "it"))["doc"])
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {code}\n")
        assert CATALOG[code].meaning in text
        assert CATALOG[code].remedy in text
        assert f'<a id="{code.lower()}"></a>[`{code}`](errors/{page.name})' in table


def test_every_exit_code_is_documented() -> None:
    from homespun.errors import CATALOG

    page = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    used = {info.exit_code for info in CATALOG.values()} | {0, 1, 2, 130}
    assert not [code for code in sorted(used) if f"| {code} |" not in page]
