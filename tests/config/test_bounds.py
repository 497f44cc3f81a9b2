"""Every limit and every setting has bounds, so that no unusable value is accepted."""

from __future__ import annotations

from contextlib import suppress
from math import inf, isfinite, nan
from typing import Any

import pytest
from attrs import fields

from gateway import Limits, MemoryBroker
from gateway.brokers.redis.broker import RedisBroker
from gateway.config.settings import SETTINGS, Setting
from gateway.config.settings_file import limits_of, parse_settings
from gateway.model.errors import InvalidInput, InvalidSettings
from gateway.model.limits import NEEDS_RESTART
from gateway.protocol.commands import parse_update
from tests.brokers.redis.server import session_server

NUMBERS = [field for field in fields(Limits) if field.name != "reconnect_window"]
WRONG = [inf, -inf, nan, -1, -0.0, 0, 1e300, 10**30, 2**63, "1", True, None, [], 1e-9]


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("name", [field.name for field in NUMBERS])
def test_a_limit_is_a_number_within_bounds(name: str, value: Any) -> None:
    changed: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name} must be a .*number from"):
        Limits(**changed)
    if name != "shutdown_timeout":
        with pytest.raises(InvalidSettings, match=f"limits.{name} must be"):
            limits_of(changed)


@pytest.mark.parametrize(
    "name", [field.name for field in NUMBERS if isinstance(field.default, int)]
)
def test_a_count_is_a_whole_number(name: str) -> None:
    for value in (1.5, 2.0):
        changed: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match="whole number"):
            Limits(**changed)


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_the_minimum_and_maximum_are_accepted(field: Any) -> None:
    most = field.metadata["maximum"]
    least = 1 if isinstance(field.default, int) else 0.001
    for value in (least, field.default, most):
        changed: dict[str, Any] = {field.name: value}
        assert getattr(Limits(**changed), field.name) == value


@pytest.mark.parametrize(
    "value", [(nan, 1), (1, nan), (0, inf), (2, 1), (-1, 1), (1,), 1, None, ("0", "1"), (0, 1e9)]
)
def test_the_retry_window_is_limited(value: Any) -> None:
    with pytest.raises(ValueError, match="reconnect_window must be two numbers"):
        Limits(reconnect_window=value)


@pytest.mark.parametrize(
    "line", ["retention = inf", "retention = nan", "history = 1e3", "reconnect_window = 1"]
)
def test_an_error_in_the_settings_file_names_the_limit(line: str) -> None:
    with pytest.raises(InvalidSettings, match=line.partition(" ")[0]):
        parse_settings(f"[limits]\n{line}")


def test_the_settings_file_can_set_the_reconnect_window() -> None:
    _, table = parse_settings("[limits]\nreconnect_window = [1, 2.5]")
    assert limits_of(table).reconnect_window == (1, 2.5)


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "-1", "1e999", "1e300", "9" * 400, "0x10"])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_numeric_setting_has_bounds(setting: Setting, text: str) -> None:
    with suppress(InvalidSettings):
        value = setting.read(text)
        assert not isinstance(value, float) or isfinite(value)
        assert not isinstance(value, int | float) or 0 <= value < 1e6


@pytest.mark.parametrize("kind", [MemoryBroker, RedisBroker])
async def test_brokers_work_with_limits_at_their_bounds(kind: Any) -> None:
    bounds = {f.name: f.metadata["maximum"] for f in NUMBERS if f.name in ("history", "retention")}
    limits = Limits(**bounds)
    broker = kind(limits) if kind is MemoryBroker else kind(session_server().url, limits)
    await broker.publish("a", parse_update(b'{"percent": 1}'))
    (event,) = (await broker.read(["a"])).values()
    assert event.state.percent == 1


def test_limits_that_need_a_restart_exist() -> None:
    assert {field.name for field in fields(Limits)} >= NEEDS_RESTART


@pytest.mark.parametrize("text", [b"Infinity", b"NaN", b"1e999", b"-1", b"9" * 400])
@pytest.mark.parametrize("name", ["percent", "done", "total", "lease", "attempt"])
def test_numbers_of_an_update_are_limited(name: str, text: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_update(b'{"%b": %b}' % (name.encode(), text))


@pytest.mark.parametrize("line", ['config = "a"', "hypercorn_guard = false"])
def test_the_settings_file_cannot_contain_what_is_only_a_flag_or_a_variable(line: str) -> None:
    with pytest.raises(InvalidSettings, match=line.split()[0]):
        parse_settings(line)
