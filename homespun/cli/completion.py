"""`completion`: what a shell needs to complete this program's commands and options.

One command for `homespun`, `broker` and `peer`: it speaks of the program that it is a command of.
"""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL, for its start-up file.

    \b
    Examples:
      eval "$(homespun completion bash)"              # in ~/.bashrc
      eval "$(peer completion zsh)"                   # in ~/.zshrc, after compinit
      broker completion fish > ~/.config/fish/completions/broker.fish
    """
    from click.shell_completion import get_completion_class

    root = context.find_root()
    program = root.info_name or "homespun"
    maker = get_completion_class(shell)
    assert maker is not None, shell
    variable = f"_{program.upper()}_COMPLETE"  # where click looks by itself
    click.echo(maker(root.command, {}, program, variable).source())
