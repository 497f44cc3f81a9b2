"""`gateway check`: whether `gateway serve` would start."""

from __future__ import annotations

from typing import Any

import click

from ..config import settings
from .options import config_option, require_server_packages, setting_options

__all__ = ["check"]


@click.command()
@config_option
@setting_options(*settings.SERVING)
@click.pass_context
def check(context: click.Context, /, **values: Any) -> None:
    """Check whether `gateway serve` would start with these settings, here and now.

    It reads the keys, listens on the addresses for a moment, and connects to Redis. Each line
    begins with OK, with WARN if the gateway would serve, but not well, or with FAIL if it would
    not start.
    Exits with 1 if a line has FAIL, otherwise with 0.
    """
    require_server_packages()
    from .diagnostics import diagnose

    findings = diagnose(values, limits=context.meta.get("gateway.limits", {}))
    for finding in findings:
        click.echo(finding)
    raise SystemExit(0 if all(finding.grade != "FAIL" for finding in findings) else 1)
