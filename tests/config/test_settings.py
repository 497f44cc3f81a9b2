from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.origins import Origins
from gateway.config.settings import (
    SETTINGS,
    SHARDS,
    Setting,
    read_settings,
    suspicious_variables,
    with_shards,
)
from gateway.model.errors import InvalidSettings


def test_default_settings_are_valid_and_used() -> None:
    assert read_settings({}) == read_settings({"PROGRESS_GATEWAY_BIND": ""}) == {
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
        "client_ip_header": "x-forwarded-for",
        "shutdown_timeout": 10.0,
        "hypercorn_guard": True,
        "shutdown_delay": None,
        "exit_if_unavailable": False,
        "log_level": "info",
        "redis": None,
        "shards": None,
        "processes": 1,
        "url": "http://127.0.0.1:8000",
        "token": None,
        "token_file": None,
    }  # fmt: skip


def test_settings_are_read_from_the_environment() -> None:
    values = read_settings(
        {
            "PROGRESS_GATEWAY_BIND": "[::1]:80",
            "PROGRESS_GATEWAY_SHUTDOWN_TIMEOUT": "2.5",
            "PROGRESS_GATEWAY_LOG_LEVEL": "DEBUG",
            "PROGRESS_GATEWAY_URL": "https://example.org/progress",
        }
    )
    assert (values["bind"], values["shutdown_timeout"], values["log_level"]) == (
        "[::1]:80",
        2.5,
        "debug",
    )
    assert values["url"] == "https://example.org/progress"


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("PROGRESS_GATEWAY_BIND", "8000", "HOST:PORT"),
        ("PROGRESS_GATEWAY_BIND", "::1:8000", "HOST:PORT"),
        ("PROGRESS_GATEWAY_BIND", "127.0.0.1:65536", "HOST:PORT"),
        ("PROGRESS_GATEWAY_BIND", ":8000", "HOST:PORT"),
        ("PROGRESS_GATEWAY_INTERNAL", "publish,health", "metrics, page, publish"),
        ("PROGRESS_GATEWAY_INSECURE", "maybe", "yes or no"),
        ("PROGRESS_GATEWAY_TRUSTED_PROXIES", "10.0.0.1/8", "host bits"),
        ("PROGRESS_GATEWAY_CLIENT_IP_HEADER", "x-real-ip", "proxy-protocol"),
        ("PROGRESS_GATEWAY_SHUTDOWN_TIMEOUT", "0", "seconds"),
        ("PROGRESS_GATEWAY_SHUTDOWN_TIMEOUT", "nan", "seconds"),
        ("PROGRESS_GATEWAY_SHUTDOWN_TIMEOUT", "ten", "seconds"),
        ("PROGRESS_GATEWAY_LOG_LEVEL", "loud", "debug, info"),
    ],
)
def test_an_invalid_value_is_named(variable: str, text: str, expected: str) -> None:
    with pytest.raises(InvalidSettings, match=expected) as caught:
        read_settings({variable: text})
    assert f"PROGRESS_GATEWAY_{caught.value.field}".upper() == variable
    assert repr(text) in str(caught.value)


def test_an_invalid_secret_is_not_shown() -> None:
    with pytest.raises(InvalidSettings) as caught:
        read_settings({"PROGRESS_GATEWAY_TOKEN": "hush hush"})
    assert "hush" not in str(caught.value)


@given(st.sampled_from(SETTINGS), st.text())
def test_any_text_is_a_valid_value_or_raises(setting: Setting, text: str) -> None:
    with suppress(InvalidSettings):
        setting.read(text)


def test_misspelled_variables_are_reported_and_kubernetes_services_are_not() -> None:
    environ = {
        "PROGRESS_GATEWAY_BNID": "x",
        "PROGRESS_GATEWAY_COLOUR": "blue",
        "PROGRESS_GATEWAY_URL": "http://x",
        "PROGRESS_GATEWAY_PORT": "tcp://10.0.0.1:80",
        "PROGRESS_GATEWAY_PORT_80_TCP_ADDR": "10.0.0.1",
        "PROGRESS_GATEWAY_SERVICE_HOST": "10.0.0.1",
        "PATH": "/bin",
    }
    assert suspicious_variables(environ) == {
        "PROGRESS_GATEWAY_BNID": "PROGRESS_GATEWAY_BIND",
        "PROGRESS_GATEWAY_COLOUR": None,
    }


def test_the_number_of_shards_is_in_the_url() -> None:
    assert with_shards(None, None) is None
    assert with_shards("redis://h", None) == "redis://h"
    assert with_shards("redis://h", 3) == "redis://h?shards=3"
    assert with_shards("redis://h?prefix=p", 3) == "redis://h?prefix=p&shards=3"
    for redis in (None, "redis://h?shards=2"):
        with pytest.raises(InvalidSettings) as caught:
            with_shards(redis, 3)
        assert caught.value.field == "shards"


@pytest.mark.parametrize("text", ["0", "1001", "x", "-1", "1.5"])
def test_an_invalid_number_of_shards_is_rejected(text: str) -> None:
    with pytest.raises(InvalidSettings, match="from 1 to 1000"):
        SHARDS.read(text)
