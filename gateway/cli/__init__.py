"""The command line: `gateway serve`, `check`, `publish`, `watch`, `run`, `demo`, `token`,
`revoke`.

A module per command, each a thin door: its flags, and a body that imports what does the
work only when it is run, so that `gateway publish` in a loop starts fast.

Exit codes: 0 as wished, 1 not (rejected, a job failed), 2 the call was wrong, 3 the
gateway cannot be reached or will have nothing to do with us, 130 Ctrl-C. `run` ends as
its command does.
"""

from __future__ import annotations

import os
import sys

import click

from ..settings import suspicious_variables
from .check import check
from .demo import demo
from .publish import publish
from .run import run
from .serve import serve
from .token import revoke, token
from .watch import watch

__all__ = ["cli", "main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
        click.echo(f"Warning: {name} is no variable of the gateway{hint}", err=True)


for command in (serve, check, publish, watch, run, demo, token, revoke):
    cli.add_command(command)


def main() -> None:
    """The entry point: runs a command and exits the process with its code."""
    try:
        code = cli.main(prog_name="gateway", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough (`… | head`); nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
