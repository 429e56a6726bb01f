"""How a command line describes a job: a Python file, or an ONNX file and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from homespun.cli.output import note

if TYPE_CHECKING:
    from homespun.job_requests import JobRequests

_OPTIMIZERS = ("adamw", "adam", "sgd")
_SCHEDULES = ("constant", "linear", "cosine")
_EXTRA = ("steps", "batch_size", "microbatches", "peers", "seed", "name", "clip_norm", "precision",
          "evaluate_every", "recompute")
_INFERENCE = ("batch_size", "precision", "peers", "name")

Command = Callable[..., Any]
Answer = TypeVar("Answer")


def training_options(command: Command) -> Command:
    """Add what any job may be told on the command line."""
    for option in reversed((
        click.option("--steps", type=int, help="Optimizer steps."),
        click.option("--batch-size", type=int, help="Samples per step."),
        click.option("--microbatches", type=int, help="Slices of a batch."),
        click.option("--peers", type=int, help="Exact number of peers. [default: as planned]"),
        click.option("--seed", type=int, help="Keys every random draw."),
        click.option("--name", help="For people."),
        click.option("--clip-norm", type=float, help="Largest norm of the gradient."),
        click.option("--precision", type=click.Choice(["float32", "bfloat16"])),
        click.option("--evaluate-every", type=int, help="Steps between evaluations."),
        click.option("--recompute/--no-recompute", default=None,
                     help="Save memory by computing activations twice."),
    )):
        command = option(command)
    return command


def graph_options(command: Command) -> Command:
    """Add what describes the job of an ONNX file."""
    for option in reversed((
        click.option("--infer", is_flag=True, default=None,
                     help="ONNX only: run the model over the rows of --data; nothing is trained."),
        click.option("--data", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                     help="ONNX only: columns, a safetensors file."),
        click.option("--validation", type=click.Path(path_type=Path, dir_okay=False),
                     metavar="FILE", help="ONNX only: validation columns."),
        click.option("--loss", "loss_output", metavar="OUTPUT",
                     help="ONNX only: the output that is the loss, or the predictions with "
                     "--append-loss. [default: the first]"),
        click.option("--append-loss", "loss", metavar="KIND",
                     help="ONNX only: cross_entropy, negative_log_likelihood, "
                     "binary_cross_entropy, mse or mae of the output and the target."),
        click.option("--target", metavar="COLUMN",
                     help="ONNX only: what an appended loss compares with. [default: target]"),
        click.option("--optimizer", type=click.Choice(_OPTIMIZERS), help="ONNX only."),
        click.option("--lr", type=float, help="ONNX only: learning rate."),
        click.option("--weight-decay", type=float, help="ONNX only."),
        click.option("--schedule", type=click.Choice(_SCHEDULES), help="ONNX only."),
        click.option("--warmup-steps", type=int, help="ONNX only."),
    )):
        command = option(command)
    return command


def described_job(source: Path, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Which method of `JobRequests` a file and options ask for, and its arguments.

    Raises:
        HomespunError: INVALID_ARGUMENT for what is wrong with the file.
        click.UsageError: for options that do not go together.
    """
    if source.suffix.lower() == ".onnx":
        return _graph_job(source, given)
    return _python_job(source, given)


def ask(asked: JobRequests[Answer], kind: str, arguments: Mapping[str, Any]) -> Answer:
    """Ask for the job that was described."""
    import inspect

    from homespun.errors import Code, HomespunError

    methods: Mapping[str, Callable[..., Answer]] = {
        "train": asked.train, "infer": asked.infer, "graph": asked.submit_graph}
    try:
        inspect.signature(methods[kind]).bind(**arguments)
    except TypeError as error:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"The description of the job is not right: {error}.") from error
    return methods[kind](**arguments)


def _python_job(source: Path, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Run the user's file and take its `job`, with the options given here in front."""
    from homespun.errors import Code, HomespunError

    foreign = [name for name in given if name not in _EXTRA]
    if foreign:
        raise click.UsageError(
            f"--{foreign[0].replace('_', '-')} goes with an ONNX file; write it in {source}.")
    job = _run(source).get("job")
    if not isinstance(job, dict) or not all(isinstance(name, str) for name in job):
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"{source} must define a dict named `job` with the arguments of Client.train or "
            f"Client.infer; it defines {type(job).__name__}.", path=source)
    arguments = {**job, **given}
    kind = arguments.pop("kind", "train")
    if kind not in ("train", "infer"):
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"The job's kind must be 'train' or 'infer', not {kind!r}.")
    return kind, arguments


def _run(source: Path) -> dict[str, Any]:
    """Run the user's own file as Python would, its directory first on the path."""
    import runpy
    import sys
    import traceback

    from homespun.errors import Code, HomespunError
    from homespun.shadowing import check_own_packages

    sys.path.insert(0, str(source.resolve().parent))
    check_own_packages()
    try:
        return runpy.run_path(str(source), run_name="homespun_job")
    except HomespunError:
        raise
    # It is the user's program: anything can come out, and its own traceback is what helps.
    except (Exception, SystemExit) as error:
        note(traceback.format_exc().rstrip())
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"{source} failed: {type(error).__name__}: {error}.",
            path=source) from error


def _graph_job(source: Path, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Which method of the client to call for an ONNX file, and its arguments."""
    if given.get("infer"):
        return "infer", _inference_job(source, given)
    return "graph", {"graph": source, **_training_job(given)}


def _inference_job(source: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `infer` from the options alone."""
    foreign = given.keys() - {"infer", "data", *_INFERENCE}
    if foreign:
        name = min(foreign).replace("_", "-")
        raise click.UsageError(f"--{name} is for training; it does not go with --infer.")
    if "data" not in given:
        raise click.UsageError("--infer needs --data.")
    arguments = {name: given[name] for name in _INFERENCE if name in given}
    return {"model": source, "data": _columns(given["data"]), **arguments}


def _training_job(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `submit_graph` from the options alone, but for the graph."""
    for name in ("data", "optimizer", "lr", "steps", "batch_size"):
        if name not in given:
            raise click.UsageError(f"An ONNX file needs --{name.replace('_', '-')}.")
    arguments = {name: given[name] for name in _EXTRA if name in given}
    arguments["data"] = _columns(given["data"])
    if "validation" in given:
        arguments["validation"] = _columns(given["validation"])
    arguments |= {
        name: given[name] for name in ("loss_output", "loss", "target") if name in given}
    arguments["optimizer"] = _optimizer(given)
    if "schedule" in given:
        arguments["schedule"] = _schedule(given["schedule"], given.get("warmup_steps", 0))
    return arguments


def _columns(data: Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """Columns of a file, or those that were made already."""
    if isinstance(data, Mapping):
        return data
    from homespun.errors import Code, HomespunError
    from homespun.tensor_file import unpack

    if not data.is_file():
        raise HomespunError(Code.NOT_FOUND, f"There is no file {data}.")
    return unpack(data.read_bytes(), str(data))


def _optimizer(given: Mapping[str, Any]) -> Any:
    import homespun

    kind = {"adamw": homespun.AdamW, "adam": homespun.Adam, "sgd": homespun.SGD}
    decay = {"weight_decay": given["weight_decay"]} if "weight_decay" in given else {}
    return kind[given["optimizer"]](lr=given["lr"], **decay)


def _schedule(kind: str, warmup_steps: int) -> Any:
    import homespun

    kinds = {"constant": homespun.Constant, "linear": homespun.Linear, "cosine": homespun.Cosine}
    return kinds[kind](warmup_steps=warmup_steps)
