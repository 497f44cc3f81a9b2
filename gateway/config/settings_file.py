"""The file of settings that `--config` reads: TOML, flat, with one table for the limits.

    bind = "127.0.0.1:8000"
    keys = ["/etc/gateway/secret"]

    [limits]
    max_connections = 20000

Pure: text in, values out. A wrong line raises `InvalidSettings`, which names it and the reason.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from attrs import fields

from ..model.errors import InvalidSettings
from ..model.limits import Limits
from .settings import CONFIG, HYPERCORN_GUARD, SETTINGS

__all__ = ["limits_of", "parse_settings"]

_SETTINGS = {
    setting.name: setting for setting in SETTINGS if setting not in (CONFIG, HYPERCORN_GUARD)
}
_LIMITS = {
    field.name: field.default for field in fields(Limits) if field.name != "shutdown_timeout"
}


def parse_settings(text: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the settings in a TOML file: their texts by name, and the table `limits`.

    Lists become comma-separated. Raises `InvalidSettings`, which names what is unknown or wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"not TOML: {error}", field="config") from None
    table = document.pop("limits", {})
    if not isinstance(table, dict):
        raise InvalidSettings("limits is not a table: [limits]", field="config")
    texts: dict[str, str] = {}
    for name, value in document.items():
        if name in _LIMITS:
            raise InvalidSettings(f"{name} belongs below the line [limits]", field="config")
        if name not in _SETTINGS:
            raise InvalidSettings(_unknown(name, [*_SETTINGS, "limits"]), field="config")
        _SETTINGS[name].read(texts.setdefault(name, _text(name, value)))
    limits_of(table)
    return texts, table


def _text(name: str, value: object) -> str:
    match value:
        case bool():
            return "yes" if value else ""
        case str() | int() | float():
            return str(value)
        case list() if all(isinstance(one, str) for one in value):
            return ",".join(value)
    raise InvalidSettings(f"{name} must be a text, a number or a list of texts", field="config")


def _unknown(name: str, known: Iterable[str]) -> str:
    similar = get_close_matches(name, known, n=1)
    return f"{name} is not a setting" + (f"; did you mean {similar[0]}?" if similar else "")


def limits_of(table: Mapping[str, Any], *, shutdown_timeout: float | None = None) -> Limits:
    """Returns the default limits, changed by those in `table`. Raises `InvalidSettings`, which
    names the wrong one."""
    if "shutdown_timeout" in table:
        raise InvalidSettings(
            "limits.shutdown_timeout is set by the setting shutdown_timeout", field="config"
        )
    changed: dict[str, Any] = (
        {} if shutdown_timeout is None else {"shutdown_timeout": shutdown_timeout}
    )
    for name, value in table.items():
        if name in _SETTINGS:
            raise InvalidSettings(f"{name} belongs above the line [limits]", field="config")
        if name not in _LIMITS:
            raise InvalidSettings(f"limits: {_unknown(name, _LIMITS)}", field="config")
        changed[name] = tuple(value) if isinstance(value, list) else value
    try:
        return Limits(**changed)
    except ValueError as error:
        raise InvalidSettings(f"limits.{error}", field="config") from None
