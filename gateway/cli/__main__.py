"""The command `gateway` (also `python -m gateway.cli`): the group of its subcommands, and `main`.

Each subcommand has a function with its options, in the module that `COMMANDS` names. The module is
imported when the subcommand is used, and the function imports the server's packages when it runs,
so that `gateway publish` in a loop starts fast.

Exit codes: 0 success, 1 failure (an update was rejected, a job failed), 2 wrong usage, 3 the
gateway or the Redis does not answer (`watch`: or the gateway refuses the client), 130 Ctrl-C.
`run` exits as its command does.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from ..config.settings import suspicious_variables

__all__ = ["cli", "main"]

INTERRUPTED = 130  # 128 + SIGINT, as in shells


COMMANDS = {
    "cancel": "gateway.cli.cancel",
    "check": "gateway.cli.check",
    "demo": "gateway.demo.command",
    "publish": "gateway.cli.publish",
    "revoke": "gateway.cli.token",
    "run": "gateway.cli.run",
    "serve": "gateway.cli.serve.command",
    "token": "gateway.cli.token",
    "watch": "gateway.cli.watch.command",
}
"""The module of each subcommand, which has a function of the same name."""


class _Group(click.Group):
    """Imports the module of a subcommand when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="progress-gateway", prog_name="gateway")
def cli() -> None:
    """Live job progress, from any worker to every browser.

    \b
    gateway demo                          see it work
    gateway serve                         the gateway and its page
    gateway run video:42 -- make -j4      show any command's progress
    gateway watch video:42                follow a job in the terminal
    """
    for name, meant in suspicious_variables(os.environ).items():
        hint = f"; did you mean {meant}?" if meant else ""
        click.echo(f"Warning: {name} is not a variable of the gateway{hint}", err=True)


def main() -> None:
    """Runs a command and exits the process with its code."""
    try:
        code = cli.main(prog_name="gateway", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has closed the pipe (`… | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
