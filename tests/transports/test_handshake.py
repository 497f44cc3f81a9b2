"""The WebSocket handshake: the example of RFC 6455, and each way in which a request may be
incomplete."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transports.handshake import parse_upgrade
from gateway.transports.request_head import BadRequest

GOOD = {
    "Host": "server.example.com",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def request(line: str = "GET /ws?token=a HTTP/1.1", **changed: str | None) -> bytes:
    headers = GOOD | {name.replace("_", "-"): text for name, text in changed.items()}
    lines = [f"{name}: {text}" for name, text in headers.items() if text is not None]
    return "\r\n".join([line, *lines, "", ""]).encode("latin-1")


def test_the_handshake_example_of_the_rfc_works() -> None:
    handshake = parse_upgrade(request(Sec_WebSocket_Protocol="chat, progress.v1"))
    assert (handshake.path, handshake.joins_messages) == ("/ws", True)
    assert handshake.headers["host"] == "server.example.com"
    assert handshake.answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in handshake.answer
    assert b"Sec-WebSocket-Protocol: progress.v1\r\n" in handshake.answer
    assert handshake.answer.endswith(b"\r\n\r\n")


def test_only_known_subprotocols_are_chosen() -> None:
    handshake = parse_upgrade(request(Sec_WebSocket_Protocol="chat"))
    assert not handshake.joins_messages
    assert b"Protocol:" not in handshake.answer


def test_other_headers_may_be_latin_1() -> None:
    assert parse_upgrade(request(X_Name="Zoë")).headers["x-name"] == "Zoë"


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_a_bare_line_feed_ends_a_header_line(line_end: str) -> None:
    assert parse_upgrade(request().replace(b"\r\n", line_end.encode())).path == "/ws"


@pytest.mark.parametrize(
    "bad",
    [
        request("POST /ws HTTP/1.1"),
        request("GET /ws HTTP/1.0"),
        request("GET /w s HTTP/1.1"),
        request("GET  HTTP/1.1"),
        request(Host=None),
        request(Host=""),
        request(Host="ÿ"),
        request(Sec_WebSocket_Protocol="ÿ"),
        request(Connection="keep-alive"),
        request(Connection=None),
        request(Sec_WebSocket_Key=None),
        request(Sec_WebSocket_Key="dGhlIHNhbXBsZQ=="),
        request(Sec_WebSocket_Version=None),
        request(Content_Length="5"),
        request(Transfer_Encoding="chunked"),
        request(Bad_Text="a\0b"),
        request().replace(b"Host:", b"Host :"),
        request().replace(b"Host:", b"Host: a\r\nHost:"),
        request().replace(b"\r\nHost", b"\r\nnonsense\r\nHost"),
    ],
)
def test_an_invalid_handshake_is_refused(bad: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_upgrade(bad)
    assert caught.value.status == 400


def test_another_websocket_version_gets_the_supported_one() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_upgrade(request(Sec_WebSocket_Version="8"))
    assert caught.value.status == 426


@given(st.binary(max_size=300), st.integers(0, 200))
def test_random_changes_of_a_request_are_accepted_or_refused(noise: bytes, at: int) -> None:
    head = request()
    try:
        found = parse_upgrade(head[:at] + noise + head[at:])
    except BadRequest:
        return
    assert b"\r\n" not in found.path.encode("latin-1")
