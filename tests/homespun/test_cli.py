from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from homespun.cli import cli
from homespun.cli.output import (
    json_option,
    print_json,
    print_table,
    printable,
    run_command,
)
from homespun.cli.secret_text import read_secret
from homespun.errors import CATALOG, Code, HomespunError


@pytest.fixture(autouse=True)
def _same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """`submit` puts the description's directory on the path: take it off again."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def invoke(*arguments: str, **options: object) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False, **options)


def failing(error: BaseException) -> click.Command:
    @click.command()
    @json_option
    @run_command
    def fail(as_json: bool) -> None:
        raise error

    return fail


@pytest.mark.parametrize("code", list(Code))
def test_every_error_has_its_exit_code_and_remedy(code: Code) -> None:
    done = CliRunner().invoke(failing(HomespunError(code, "It broke.", peer="peer_1")), [])
    assert done.exit_code == CATALOG[code].exit_code
    assert done.stdout == ""
    assert f"It broke. [{code}]" in done.stderr
    assert CATALOG[code].remedy in done.stderr
    assert f"homespun error {code}" in done.stderr


def test_errors_as_json_are_one_object() -> None:
    error = HomespunError(Code.CANNOT_PLACE, "Too big.", missing_bytes=5)
    done = CliRunner().invoke(failing(error), ["--json"])
    assert done.exit_code == 7
    assert json.loads(done.stderr) == {"error": {
        "code": "CANNOT_PLACE", "message": "Too big.", "hint": error.remedy, "exit_code": 7,
        "doc": "docs/errors/cannot_place.md", "details": {"missing_bytes": "5"}}}


@pytest.mark.parametrize(("raised", "code"), [
    (OSError(errno.ENOSPC, "No space left on device", "/disk/x"), Code.DISK_FULL),
    (PermissionError(errno.EACCES, "Permission denied", "/root/x"), Code.BAD_CONFIGURATION),
    (ZeroDivisionError("division by zero"), Code.INTERNAL),
])
def test_other_exceptions_get_a_code(raised: Exception, code: Code) -> None:
    done = CliRunner().invoke(failing(raised), [])
    assert done.exit_code == CATALOG[code].exit_code
    assert f"[{code}]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMESPUN_TRACEBACK", "1")
    done = CliRunner().invoke(failing(ZeroDivisionError("division by zero")), [])
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" in done.stderr


def test_an_interrupt_is_130() -> None:
    assert CliRunner().invoke(failing(KeyboardInterrupt()), []).exit_code == 130


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    program = tmp_path / "many.py"
    program.write_text(
        "import click\nfrom homespun.cli.output import run_command\n"
        "@click.command()\n@run_command\ndef many():\n"
        "    for n in range(200000): click.echo(str(n))\nmany()\n", encoding="utf-8")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, str(program)], stdout=writer, stderr=subprocess.PIPE,
                          text=True, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_tables_align_and_hide_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("peer", "step"), [("attic\x1b[2J", 5), ("den", 120)])
    assert capsys.readouterr().out == "peer       step\nattic?[2J     5\nden         120\n"
    assert printable("a\x1b\u202eb\n") == "a??b?"


def test_json_has_a_schema_and_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json("job", {"loss": float("nan"), "losses": (1.0, float("inf")), "name": "é"})
    assert json.loads(capsys.readouterr().out) == {
        "schema": "job", "schema_version": 1, "loss": None, "losses": [1.0, None], "name": "é"}


def test_secrets_come_from_files_and_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    path = tmp_path / "key"
    path.write_text("hsk1_abc\n", encoding="utf-8")
    assert read_secret(f"file:{path}") == "hsk1_abc"
    assert read_secret(" hsk1_abc ") == "hsk1_abc"
    monkeypatch.setattr(sys, "stdin", io.StringIO("hsk1_stdin\n"))
    assert read_secret("-") == "hsk1_stdin"
    path.write_bytes(b"\xff\xfe")
    for text, code in ((f"file:{tmp_path / 'none'}", Code.NOT_FOUND),
                       (f"file:{path}", Code.INVALID_ARGUMENT), ("", Code.INVALID_ARGUMENT),
                       ("x" * 5000, Code.INVALID_ARGUMENT)):
        with pytest.raises(HomespunError) as caught:
            read_secret(text)
        assert caught.value.code is code


def test_without_an_identity_every_command_says_what_to_do(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    for arguments in (["jobs"], ["job", "job_1"], ["watch", "job_1"], ["cancel", "job_1"],
                      ["download", "job_1"]):
        done = invoke(*arguments, "--credentials", nowhere)
        assert done.exit_code == 78, done.stderr
        assert "Join a network first" in done.stderr


def test_a_mistyped_key_is_told_at_once(tmp_path: Path) -> None:
    done = invoke("join", "nas.local:7700", "--key", "hsk1_oops", "--credentials", str(tmp_path))
    assert done.exit_code == 4
    assert "[WRONG_KEY]" in done.stderr


def test_usage_errors_are_2() -> None:
    assert invoke("jobs", "--limit", "0").exit_code == 2
    assert invoke("nonsense").exit_code == 2
    assert invoke("submit", "missing.py").exit_code == 2


@pytest.mark.parametrize(("text", "named"), [
    ("x = 1\n", "must define a dict named `job`"),
    ("job = [1]\n", "defines list"),
    ("raise RuntimeError('no data today')\n", "RuntimeError: no data today"),
    ("import sys; sys.exit(3)\n", "SystemExit: 3"),
    ("def broken(:\n", "SyntaxError"),
])
def test_a_description_that_is_none(tmp_path: Path, text: str, named: str) -> None:
    spec = tmp_path / "spec.py"
    spec.write_text(text, encoding="utf-8")
    done = invoke("submit", str(spec), "--credentials", str(tmp_path))
    assert done.exit_code == 2
    assert "[INVALID_ARGUMENT]" in done.stderr
    assert named in done.stderr


def test_a_module_beside_the_description_that_hides_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "spec.py").write_text("job = {}\n", encoding="utf-8")
    (tmp_path / "dag.py").write_text("", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "from homespun.cli import main; main()", "submit",
         str(tmp_path / "spec.py")],
        cwd=Path.home(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    assert "SHADOWED_MODULE" in done.stderr


def test_an_onnx_file_needs_its_options(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"")
    done = invoke("submit", str(graph))
    assert done.exit_code == 2
    assert "needs --data" in done.stderr
    spec = tmp_path / "spec.py"
    spec.write_text("job = {}\n", encoding="utf-8")
    done = invoke("submit", str(spec), "--lr", "0.1")
    assert "--lr goes with an ONNX file" in done.stderr


@pytest.mark.parametrize(("options", "words"), [
    (("--infer",), "--infer needs --data"),
    (("--infer", "--data", "x", "--lr", "1"), "--lr is for training"),
    (("--infer", "--data", "x", "--steps", "1"), "--steps is for training"),
])
def test_options_of_training_do_not_go_with_infer(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"")
    done = invoke("submit", str(model), *options)
    assert done.exit_code == 2
    assert words in done.stderr


def test_another_kind_of_job_is_refused(tmp_path: Path) -> None:
    spec = tmp_path / "spec.py"
    spec.write_text("job = dict(kind='graph', graph=b'')", "utf-8")
    done = invoke("submit", str(spec))
    assert done.exit_code == CATALOG[Code.INVALID_ARGUMENT].exit_code
    assert "'train' or 'infer', not 'graph'" in done.stderr


@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_explained_without_a_network(code: Code) -> None:
    done = CliRunner().invoke(cli, ["error", code.lower()])
    assert done.exit_code == 0
    for text in (code, CATALOG[code].meaning, CATALOG[code].remedy, CATALOG[code].grpc_status):
        assert text in done.stdout
    listed = json.loads(CliRunner().invoke(cli, ["error", "--json"]).stdout)["errors"]
    assert [each["code"] for each in listed] == list(Code)


def test_a_code_that_does_not_exist_names_those_like_it() -> None:
    done = CliRunner().invoke(cli, ["error", "cannot-plase"])
    assert done.exit_code == 3
    assert "Did you mean CANNOT_PLACE?" in done.stderr
