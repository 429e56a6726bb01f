"""Every example, as a process of its own, with arguments that keep it short."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 280.0


def run(name, *arguments, network=None, **environment):
    """What an example prints. Without a network, it has to start one."""
    if network is not None:
        environment["HOMESPUN_CREDENTIALS"] = str(network.credentials)
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}", *arguments], cwd=ROOT, capture_output=True,
        text=True, timeout=TIMEOUT_S, check=False, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def share(printed):
    """The share of rows that an example has right, in percent."""
    return float(re.search(r"Right on ([0-9.]+)%", printed).group(1))


def test_a_transformer_on_text(network, tmp_path):
    output = tmp_path / "trained.safetensors"
    printed = run("train_text", "--steps", "3", "--output", str(output), network=network)
    assert len(printed) > 100
    assert output.stat().st_size > 100_000


def test_a_network_on_digits(network):
    printed = run("digits_cnn", "--epochs", "3", network=network)
    assert "global_step=68" in printed
    assert share(printed) > 70


def test_the_head_of_a_hugging_face_model(network):
    pytest.importorskip("transformers")
    printed = run("finetune_head", "--steps", "40", network=network)
    # A guess has log 2, which is 0.69.
    assert float(re.search(r"eval_loss=([0-9.]+)", printed).group(1)) < 0.65


def test_an_onnx_file(network):
    pytest.importorskip("skl2onnx")
    printed = run("onnx_inference", "--rows", "500", network=network)
    assert "probabilities: float32 [500, 10]" in printed
    assert "as scikit-learn says on 100.0%" in printed


def test_a_plan_needs_no_network(tmp_path):
    picture = tmp_path / "plan.svg"
    printed = run("plan_only", "--width", "128", "--layers", "2", "--svg", str(picture))
    assert "limited by" in printed
    assert "<svg" in picture.read_text(encoding="utf-8")


def test_every_example_is_run_here():
    """Those that are no modules of others, that is: those with a `main`."""
    programs = {path.stem for path in (ROOT / "examples").glob("*.py")
                if '__name__ == "__main__"' in path.read_text(encoding="utf-8")}
    source = Path(__file__).read_text(encoding="utf-8")
    # The demo has a command of its own and takes minutes: `make demo`.
    assert [name for name in sorted(programs - {"demo"}) if f'"{name}"' not in source] == []


def test_the_notebook_runs_and_is_committed_without_outputs(tmp_path, monkeypatch):
    """Nothing is joined here, so that it starts a private network, as on a reader's machine."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.delenv("HOMESPUN_CREDENTIALS", raising=False)
    for variable in ("XDG_CONFIG_HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    notebook = nbformat.read(ROOT / "examples" / "first_job.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count]
    nbclient.NotebookClient(
        notebook, timeout=TIMEOUT_S, kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in code for output in cell.outputs)
    assert share(printed) > 60


@pytest.mark.parametrize(("name", "library"), [
    ("digits_cnn", "sklearn"), ("finetune_head", "transformers"), ("onnx_inference", "sklearn")])
def test_a_missing_library_is_named_with_what_installs_it(name, library):
    """In a Python that lacks it; no network is started for that."""
    program = (f"import runpy, sys; sys.modules[{library!r}] = None; sys.argv[1:] = []; "
               f"runpy.run_module('examples.{name}', run_name='__main__')")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True,
        timeout=TIMEOUT_S, check=False)
    assert done.returncode != 0
    assert f"needs {library}" in done.stderr
    assert "pip install 'homespun[examples]'" in done.stderr
