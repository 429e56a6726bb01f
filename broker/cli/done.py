"""What a command that changes something prints."""

from __future__ import annotations

import click

from homespun.cli.output import print_json


def say_done(action: str, subject: str, text: str, *, as_json: bool) -> None:
    """Print what was done: as a sentence, or as data.

    Args:
        action: as the audit log calls it.
        subject: full id of what it was done to.
        text: the sentence.
        as_json: whether data is wanted.
    """
    if as_json:
        print_json("done", {"action": action, "subject": subject})
        return
    click.echo(text)
