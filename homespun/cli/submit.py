"""`homespun submit`: a Python description or an ONNX file becomes a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from homespun.cli.job_options import ask, described_job, graph_options, training_options
from homespun.cli.jobs import exit_with
from homespun.cli.output import json_option, note, print_json, run_command
from homespun.cli.session import broker_options, connected


@click.command()
@click.argument("source", metavar="SPEC.py|MODEL.onnx",
                type=click.Path(path_type=Path, exists=True, dir_okay=False))
@training_options
@graph_options
@click.option("--watch", is_flag=True, help="Follow the job to its end.")
@broker_options
@json_option
@run_command
def submit(
    source: Path, watch: bool, address: str | None, credentials: Path | None, as_json: bool,
    **options: Any,
) -> None:
    """Submit a job.

    SPEC.py is run here, on your machine, and defines a dict `job` with the arguments of
    homespun.Client.train (model, loss, data, optimizer, steps, batch_size, ...) or, with
    "kind": "infer" among them, of homespun.Client.infer (model, data, ...). MODEL.onnx comes
    with --data FILE.safetensors; its symbolic axes are bound from the columns. With --infer it is
    run over them, else it is trained. Options given here
    win over the file. No Python ever leaves your machine.
    """
    given = {name: value for name, value in options.items() if value is not None}
    kind, arguments = described_job(source, given)
    with connected(address, credentials, quiet=as_json) as client:
        job = ask(client, kind, arguments)
        if as_json:
            print_json("submitted", {"job_id": job.id})
        else:
            click.echo(job.id)
            note(f"Follow it: homespun watch {job.id}; end it: homespun cancel {job.id}; "
                 f"fetch the result: homespun download {job.id}")
        if watch:
            exit_with(job.watch(), as_json=as_json)
