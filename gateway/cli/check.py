"""`gateway check`: would it serve, with these settings, here and now?"""

from __future__ import annotations

from typing import Any

import click

from .. import settings
from .flags import configured, set_by

__all__ = ["check"]


@click.command()
@configured
@set_by(*settings.SERVING)
@click.pass_context
def check(context: click.Context, /, **values: Any) -> None:
    """Try what `gateway serve` would do, with the same settings, and say what it would be.

    Reads the keys, listens on the addresses for a moment, asks the Redis. Each line begins
    with `ok`, with `but` if it would serve, though not as well as it could, or with `NO`
    if it would not. Exits with 1 if there is a `NO`, else with 0.
    """
    from .checking import look

    findings = look(values, limits=context.meta.get("gateway.limits", {}))
    for finding in findings:
        click.echo(finding)
    raise SystemExit(0 if all(finding.grade != "NO" for finding in findings) else 1)
