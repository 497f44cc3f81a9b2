"""The usual mistakes with tokens: each is refused with one precise sentence, which is the same over
HTTP, in the close reason of a WebSocket, and in both log lines."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio

from gateway import Limits
from gateway.auth.authenticator import Authenticator
from gateway.auth.key_sources import KeySources
from gateway.protocol.close_codes import MAX_REASON
from tests.e2e.client import Closed, WebSocketClient, connect, upgrade
from tests.e2e.hosts import Host, listener

from .signing import OTHER_SECRET, SECRET, forge, private_key, sign

START = int(time.time())
"""The time of these tests; `exp` of valid tokens is an hour later."""
GOOD: dict[str, Any] = {"exp": START + 3600, "watch": ["mine:*"], "sub": "me"}
TIME = "a number, the Unix time in seconds"
PATTERNS = 'a list of patterns, such as ["user:7:*"]'
NOT_TOKENS: list[tuple[str, str]] = json.loads(
    Path(__file__).with_name("not_tokens.json").read_text()
)
"""Texts that are not tokens, and the error message for each. The browser client is tested with the
same ones."""


def utc(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def unsafe(**claims: Any) -> str:
    """Returns a signed token with claims that PyJWT refuses to write."""
    return forge({"alg": "HS256"}, GOOD | claims, key=SECRET.encode())


def without(claim: str, **more: Any) -> str:
    return sign({name: value for name, value in GOOD.items() if name != claim} | more)


Mistake = tuple[Callable[[], str], str]

MISTAKES: dict[str, Mistake] = {
    "expired": (
        lambda: sign(GOOD | {"exp": START - 7200}),
        f"the token expired at {utc(START - 7200)}, its `exp`",
    ),
    "not valid yet": (
        lambda: sign(GOOD | {"nbf": START + 7200}),
        f"the token is not valid before {utc(START + 7200)}, its `nbf`",
    ),
    "another secret": (
        lambda: sign(GOOD, key=OTHER_SECRET),
        "no key here matches the token's signature: is it the same secret?",
    ),
    "another algorithm": (
        lambda: sign(GOOD, key=SECRET * 2, algorithm="HS512"),
        "no key here is for the token's `alg`, 'HS512', only for HS256",
    ),
    "a private key": (
        lambda: sign(GOOD, key=private_key("RS256"), algorithm="RS256"),
        "no key here is for the token's `alg`, 'RS256', only for HS256",
    ),
    "not signed": (
        lambda: jwt.encode(GOOD, "", algorithm="none"),
        "no key here is for the token's `alg`, 'none', only for HS256",
    ),
    "no exp": (lambda: without("exp"), f"the token's claims have no `exp`: it must be {TIME}"),
    "exp as a text": (
        lambda: unsafe(exp=str(START + 3600)),
        f"the token's `exp` must be {TIME}",
    ),
    "exp as a date": (
        lambda: unsafe(exp="2030-01-01T00:00:00Z"),
        f"the token's `exp` must be {TIME}",
    ),
    "exp in milliseconds": (
        lambda: sign(GOOD | {"exp": (START + 3600) * 1000}),
        f"the token's `exp` is in milliseconds: it must be {TIME}",
    ),
    "exp as a duration": (
        lambda: sign(GOOD | {"exp": 3600}),
        f"the token's `exp` is 3600: it must be {TIME}",
    ),
    "nbf in milliseconds": (
        lambda: sign(GOOD | {"nbf": START * 1000}),
        f"the token's `nbf` is in milliseconds: it must be {TIME}",
    ),
    "an audience": (
        lambda: sign(GOOD | {"aud": "elsewhere"}),
        "the token is for another audience: there is no --audience here",
    ),
    "another claim's name": (
        lambda: without("watch", jobs=["mine:*"]),
        "the token grants nothing: it has none of `watch`, `publish`, `control` and `revoke`",
    ),
    "a text and no list": (
        lambda: sign(GOOD | {"watch": "user:*"}),
        f"the token's `watch` must be {PATTERNS}",
    ),
    "null": (lambda: sign(GOOD | {"watch": None}), f"the token's `watch` must be {PATTERNS}"),
    "a pattern too clever": (
        lambda: sign(GOOD | {"watch": ["mine:*", "user:*:jobs"]}),
        "the token's `watch` has 'user:*:jobs': not a job id, nor its beginning with * at the end",
    ),
    "a long pattern": (
        lambda: sign(GOOD | {"watch": ["ü" * 150 + "*y"]}),
        f"the token's `watch` has '{'?' * 30}...': "
        "not a job id, nor its beginning with * at the end",
    ),
    "a number as sub": (lambda: unsafe(sub=7), "the token's `sub` must be a text"),
    "a number as jti": (
        lambda: unsafe(jti=7),
        "the token's `jti` must be a text of 1 to 200 characters",
    ),
    "revoke as a text": (
        lambda: sign(GOOD | {"revoke": "yes"}),
        "the token's `revoke` must be true or false",
    ),
    "cut off": (
        lambda: sign(GOOD)[:-6],
        "not a JSON Web Token: its parts are not base64url; perhaps it was cut off or changed",
    ),
} | {text: (lambda text=text: text, sentence) for text, sentence in NOT_TOKENS}

FINE: dict[str, Callable[[], str]] = {
    "no sub": lambda: without("sub"),
    "an issuer": lambda: sign(GOOD | {"iss": "https://login.example", "iat": START + 60}),
    "a fraction": lambda: sign(GOOD | {"exp": START + 3600.5}),
    "no jobs at present": lambda: sign(GOOD | {"watch": []}),
    "a line feed": lambda: f"{sign(GOOD)}\n",
}


class Ends(logging.Handler):
    """Passes on the log records of connections that were closed."""

    def __init__(self) -> None:
        super().__init__()
        self._send, self.lines = trio.open_memory_channel[Any](10)

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "connection closed":
            self._send.send_nowait(record)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with listener(Limits(), Authenticator(KeySources(secret=SECRET))) as host:
        yield host


async def over_http(port: int, token: str) -> tuple[int, dict[str, Any]]:
    head = f"GET /api/jobs/mine:1 HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}"
    async with connect(port) as raw:
        await raw.send(f"{head.rstrip()}\r\nconnection: close\r\n\r\n".encode())
        status, _, content = await raw.receive_response()
        return status, json.loads(content)


async def over_websocket(port: int, token: str) -> Closed | None:
    """Returns how the gateway closes the connection; None if it answers a command."""
    async with connect(port) as raw:
        await raw.send(upgrade())
        assert (await raw.receive_head())[0] == 101
        client = WebSocketClient(raw)
        await client.send("hello", token=token)
        await client.send("ping")
        try:
            await client.receive_type("pong")
        except Closed as closed:
            return closed
    return None


@pytest.mark.parametrize(("token", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
async def test_a_mistake_is_explained_everywhere_in_the_same_words(
    host: Host,
    token: Callable[[], str],
    sentence: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert len(sentence.encode()) <= MAX_REASON
    caplog.set_level(logging.INFO, "gateway")
    text = token()
    status, problem = await over_http(host.port, text)
    assert (status, problem["detail"]) == (401, sentence)
    refused = [record for record in caplog.records if record.msg == "HTTP request refused"]
    assert [vars(record)["reason"] for record in refused] == [sentence]

    ends = Ends()
    logging.getLogger("gateway.node").addHandler(ends)
    try:
        closed = await over_websocket(host.port, text)
        assert closed is not None
        assert (closed.code, closed.reason) == (problem["close_code"], sentence)
        with trio.fail_after(10):
            assert vars(await ends.lines.receive())["reason"] == sentence
    finally:
        logging.getLogger("gateway.node").removeHandler(ends)


@pytest.mark.parametrize("token", FINE.values(), ids=FINE.keys())
async def test_tokens_without_mistakes_are_accepted(host: Host, token: Callable[[], str]) -> None:
    assert (await over_http(host.port, token()))[0] == 404
    assert await over_websocket(host.port, token()) is None
