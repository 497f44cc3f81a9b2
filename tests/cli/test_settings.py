from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.origins import Origins
from gateway.errors import InvalidSettings
from gateway.settings import (
    SETTINGS,
    SHARDS,
    Setting,
    in_shards,
    read_settings,
    suspicious_variables,
)


def test_defaults_are_valid_and_used() -> None:
    assert read_settings({}) == read_settings({"GATEWAY_BIND": ""}) == {
        "config": None,
        "bind": "127.0.0.1:8000",
        "internal_bind": None,
        "internal": frozenset({"publish", "metrics"}),
        "keys": (),
        "secret": None,
        "audience": None,
        "origins": Origins(),
        "insecure": False,
        "trusted_proxies": (ip_network("127.0.0.1"), ip_network("::1")),
        "forwarded": "x-forwarded-for",
        "drain": 10.0,
        "log_level": "info",
        "redis": None,
        "shards": None,
        "workers": 1,
        "url": "http://127.0.0.1:8000",
        "token": None,
        "token_file": None,
    }  # fmt: skip


def test_the_environment_counts() -> None:
    values = read_settings(
        {
            "GATEWAY_BIND": "[::1]:80",
            "GATEWAY_DRAIN": "2.5",
            "GATEWAY_LOG_LEVEL": "DEBUG",
            "GATEWAY_URL": "https://example.org/progress",
        }
    )
    assert (values["bind"], values["drain"], values["log_level"]) == ("[::1]:80", 2.5, "debug")
    assert values["url"] == "https://example.org/progress"


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("GATEWAY_BIND", "8000", "HOST:PORT"),
        ("GATEWAY_BIND", "::1:8000", "HOST:PORT"),
        ("GATEWAY_BIND", "127.0.0.1:65536", "HOST:PORT"),
        ("GATEWAY_BIND", ":8000", "HOST:PORT"),
        ("GATEWAY_INTERNAL", "publish,health", "metrics, page, publish"),
        ("GATEWAY_INSECURE", "maybe", "yes or no"),
        ("GATEWAY_TRUSTED_PROXIES", "10.0.0.1/8", "host bits"),
        ("GATEWAY_FORWARDED", "x-real-ip", "proxy-protocol"),
        ("GATEWAY_DRAIN", "0", "seconds"),
        ("GATEWAY_DRAIN", "nan", "seconds"),
        ("GATEWAY_DRAIN", "ten", "seconds"),
        ("GATEWAY_LOG_LEVEL", "loud", "debug, info"),
    ],
)
def test_a_wrong_value_is_named(variable: str, text: str, expected: str) -> None:
    with pytest.raises(InvalidSettings, match=expected) as caught:
        read_settings({variable: text})
    assert f"GATEWAY_{caught.value.field}".upper() == variable
    assert repr(text) in str(caught.value)


def test_a_wrong_secret_is_not_shown() -> None:
    with pytest.raises(InvalidSettings) as caught:
        read_settings({"GATEWAY_TOKEN": "hush hush"})
    assert "hush" not in str(caught.value)


@given(st.sampled_from(SETTINGS), st.text())
def test_any_text_is_a_value_or_an_error(setting: Setting, text: str) -> None:
    with suppress(InvalidSettings):
        setting.read(text)


def test_typos_are_noticed_and_a_service_of_that_name_is_not_one() -> None:
    environ = {
        "GATEWAY_BNID": "x",
        "GATEWAY_COLOUR": "blue",
        "GATEWAY_URL": "http://x",
        "GATEWAY_PORT": "tcp://10.0.0.1:80",
        "GATEWAY_PORT_80_TCP_ADDR": "10.0.0.1",
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "PATH": "/bin",
    }
    assert suspicious_variables(environ) == {"GATEWAY_BNID": "GATEWAY_BIND", "GATEWAY_COLOUR": None}


def test_a_number_of_shards_goes_into_the_url_that_workers_have_too() -> None:
    assert in_shards(None, None) is None
    assert in_shards("redis://h", None) == "redis://h"
    assert in_shards("redis://h", 3) == "redis://h?shards=3"
    assert in_shards("redis://h?prefix=p", 3) == "redis://h?prefix=p&shards=3"
    for redis in (None, "redis://h?shards=2"):
        with pytest.raises(InvalidSettings) as caught:
            in_shards(redis, 3)
        assert caught.value.field == "shards"


@pytest.mark.parametrize("text", ["0", "1001", "x", "-1", "1.5"])
def test_a_wrong_number_of_shards(text: str) -> None:
    with pytest.raises(InvalidSettings, match="from 1 to 1000"):
        SHARDS.read(text)
