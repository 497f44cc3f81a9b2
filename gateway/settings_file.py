"""A file of settings: what `--config` reads. TOML, flat, with one table for the limits.

    bind = "127.0.0.1:8000"
    keys = ["/etc/gateway/secret"]

    [limits]
    max_connections = 20000

Pure: text in, values out. A wrong line raises `InvalidSettings` saying which and why.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from attrs import fields

from .errors import InvalidSettings
from .limits import Limits
from .settings import CONFIG, SETTINGS

__all__ = ["limits_of", "read_file"]

_SETTINGS = {setting.name: setting for setting in SETTINGS if setting is not CONFIG}
_LIMITS = {field.name: field.default for field in fields(Limits) if field.name != "drain_timeout"}


def read_file(text: str) -> tuple[dict[str, str], dict[str, Any]]:
    """What a TOML file sets: the texts of settings by name, and its table `limits`.

    Lists become comma-separated. Raises `InvalidSettings` naming what is unknown or wrong.
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
    raise InvalidSettings(f"{name} is no text, number or list of texts", field="config")


def _unknown(name: str, known: Iterable[str]) -> str:
    meant = get_close_matches(name, known, n=1)
    return f"{name} is no setting" + (f"; did you mean {meant[0]}?" if meant else "")


def limits_of(table: Mapping[str, Any], *, drain: float | None = None) -> Limits:
    """The limits with those of `table` changed. Raises `InvalidSettings` naming the wrong one."""
    if "drain_timeout" in table:
        raise InvalidSettings("limits.drain_timeout is set by drain", field="config")
    changed: dict[str, Any] = {} if drain is None else {"drain_timeout": drain}
    for name, value in table.items():
        if name in _SETTINGS:
            raise InvalidSettings(f"{name} belongs above the line [limits]", field="config")
        if name not in _LIMITS:
            raise InvalidSettings(f"limits: {_unknown(name, _LIMITS)}", field="config")
        expected = (int,) if type(_LIMITS[name]) is int else (int, float)
        if name == "retry" or isinstance(value, bool) or not isinstance(value, expected):
            kind = "a whole number" if expected == (int,) else "a number"
            raise InvalidSettings(f"limits.{name} is not {kind}", field="config")
        changed[name] = value
    try:
        return Limits(**changed)
    except ValueError:
        wrong = next(name for name, value in changed.items() if not value > 0)
        raise InvalidSettings(f"limits.{wrong} is not above 0", field="config") from None
