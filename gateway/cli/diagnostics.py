"""The checks of `gateway check`; each one returns findings.

A finding has the grade FAIL if `gateway serve` would refuse to start, and WARN if the gateway would
start, but not work well: for example, a Redis that is slow for a moment must not prevent a start.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import trio

from ..auth.factory import open_authenticator
from ..config.settings import with_shards
from ..config.settings_file import limits_of
from ..model.errors import InvalidSettings
from ..server import check_address
from ..transports.sockets import open_listeners
from . import redis_checks, summary
from .finding import Finding
from .serve import file_limit
from .serve.supervisor import check_processes, internal_binds

__all__ = ["diagnose"]


def diagnose(values: Mapping[str, Any], *, limits: Mapping[str, Any]) -> list[Finding]:
    """Runs all checks. Wrong settings and unreachable servers are findings, not exceptions."""
    return [
        *_limits(limits, values["shutdown_timeout"]),
        *_authenticator(values),
        *_address("bind", values["bind"], values),
        *_internal(values),
        *_processes(values["processes"], values["redis"]),
        *_redis(values),
    ]


def _limits(table: Mapping[str, Any], shutdown_timeout: float) -> Iterator[Finding]:
    try:
        limits = limits_of(table, shutdown_timeout=shutdown_timeout)
    except InvalidSettings as error:
        yield Finding("limits", str(error), "FAIL")
        return
    files = file_limit.max_open_files()
    enough = files > limits.max_connections
    yield Finding(
        "limits",
        f"{limits.max_connections:,} connections, {files:,} descriptors"
        + ("" if enough else ": raise `ulimit -Hn` (LimitNOFILE=), or lower max_connections"),
        "OK" if enough else "WARN",
    )


def _authenticator(values: Mapping[str, Any]) -> Iterator[Finding]:
    names = ("keys", "secret", "audience", "origins", "insecure")
    try:
        authenticator = open_authenticator(
            **{name: values[name] for name in names}, broker_url=None
        )
    except InvalidSettings as error:
        yield Finding("keys", str(error), "FAIL")
        return
    for subject, text in summary.describe_access(authenticator):
        yield Finding(subject, text)


def _internal(values: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        binds = internal_binds(values["internal_bind"], values["processes"])
    except InvalidSettings as error:
        yield Finding("internal", str(error), "FAIL")
        return
    for bind in binds:
        yield from _address("internal", bind, values)


def _processes(processes: int, broker_url: str | None) -> Iterator[Finding]:
    try:
        check_processes(processes, broker_url)
    except InvalidSettings as error:
        yield Finding("processes", str(error), "FAIL")
    else:
        each = "with the limits above each, " if processes > 1 else ""
        yield Finding("processes", f"{processes}, {each}for {os.cpu_count()} cores")


def _address(subject: str, bind: str, values: Mapping[str, Any]) -> Iterator[Finding]:
    has_keys = bool(values["keys"] or values["secret"])
    try:
        listeners = trio.run(partial(open_listeners, bind))
        try:
            if not has_keys and not values["insecure"]:
                check_address(listeners)
        finally:
            for listener in listeners:
                listener.close()
    except InvalidSettings as error:
        yield Finding(subject, f"{error}{_if_in_use(error.__cause__)}", "FAIL")
    else:
        yield Finding(subject, f"{bind} is free")


def _if_in_use(cause: BaseException | None) -> str:
    if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
        return ""
    return "; that is fine if the gateway itself is running and uses it"


def _redis(values: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        url = with_shards(values["redis"], values["shards"])
    except InvalidSettings as error:
        yield Finding("redis", str(error), "FAIL")
        return
    if url is None:
        yield Finding(*summary.describe_broker(url))
        return
    yield from redis_checks.check(url, tokens=bool(values["keys"] or values["secret"]))
