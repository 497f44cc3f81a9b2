"""The HTTP publisher against a true server."""

from __future__ import annotations

import gc
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gateway import Job
from gateway.worker import publisher
from gateway.worker.http import HttpPublisher
from gateway.worker.publisher import Receipt, Rejected, Unreachable
from tests.auth.signing import SECRET, sign
from tests.cli.conftest import address
from tests.cli.processes import GATEWAY, WITHIN, Running

from .fake import until
from .peer import Answer, Peer, hang_up, problem, receipt
from .recorder import Recorder


@pytest.fixture
def carrier(peer: Peer) -> Any:
    carrier = publisher.connect(peer.url, None)
    yield carrier
    carrier.close()
    gc.collect()  # a descriptor left open would warn here


FIELDS = {"status": "running", "message": "ü"}


def test_a_request(peer: Peer) -> None:
    carrier = HttpPublisher(peer.url + "/prefix/", "s3cret")
    assert carrier.publish("a:b/c@d.e-f_g", FIELDS) == Receipt(1, True, epoch=1, seq=1)
    carrier.close()
    (got,) = peer.got
    assert got.path == "/prefix/api/jobs/a%3Ab%2Fc%40d.e-f_g"
    assert got.job == "a:b/c@d.e-f_g"
    assert got.fields == FIELDS
    assert got.headers["Authorization"] == "Bearer s3cret"
    assert got.headers["Content-Type"] == "application/json"


def test_no_token_no_header(peer: Peer, carrier: HttpPublisher) -> None:
    carrier.publish("job", FIELDS)
    assert "Authorization" not in peer.got[0].headers


def test_a_file_is_read_for_each_request(peer: Peer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    carrier = publisher.connect(peer.url, file)
    for token in ("first", "second"):
        file.write_text(f"{token}\n")
        carrier.publish("job", FIELDS)
    carrier.close()
    shown = [got.headers["Authorization"] for got in peer.got]
    assert shown == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        ("", "it is empty"),
        ("a\nb", "printable ASCII"),
        ("ü", "ascii"),
    ],
)
def test_a_file_without_a_token_may_have_one_soon(
    peer: Peer, tmp_path: Path, content: str | None, problem: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    carrier = publisher.connect(peer.url, file)
    with pytest.raises(Unreachable, match=f"no token in .*{problem}"):
        carrier.publish("job", FIELDS)
    assert not peer.got
    file.write_text("good")
    assert carrier.publish("job", FIELDS).applied
    carrier.close()


def test_an_expired_token_waits_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the file: a true gateway says that it has expired, and takes the next."""
    file = tmp_path / "token"
    claims = {"publish": ["*"], "watch": ["*"]}
    file.write_text(sign(claims | {"exp": time.time() - 60}))
    monkeypatch.setenv("GATEWAY_TOKEN_FILE", str(file))
    serve = (*GATEWAY, "serve", "--bind", "127.0.0.1:0")
    with Running(*serve, env={"GATEWAY_SECRET": SECRET}) as gateway:
        job = Job("job", url=address(gateway), timeout=WITHIN)
        job.update(done=1)
        until(job, lambda: job._sender._outage.failures)
        assert "401" in job._sender._outage.why
        file.write_text(sign(claims | {"exp": time.time() + 60}))
        job.succeed()
        assert job.wait()


def test_one_connection_is_kept(peer: Peer, carrier: HttpPublisher) -> None:
    for _ in range(3):
        carrier.publish("job", FIELDS)
    peer.plan.append(problem(422, "no"))
    with pytest.raises(Rejected):
        carrier.publish("job", FIELDS)
    carrier.publish("job", FIELDS)
    assert len({got.connection for got in peer.got}) == 1


def test_a_fresh_connection_that_dies_is_unreachable(peer: Peer, carrier: HttpPublisher) -> None:
    peer.plan.append(hang_up)
    with pytest.raises(Unreachable, match="closed connection"):
        carrier.publish("job", FIELDS)
    carrier.publish("job", FIELDS)
    peer.plan.extend([hang_up, hang_up])
    with pytest.raises(Unreachable):
        carrier.publish("job", FIELDS)
    assert carrier.publish("job", FIELDS).applied


def test_nobody_there(nowhere: str) -> None:
    with pytest.raises(Unreachable, match="refused"):
        HttpPublisher(nowhere, None).publish("job", FIELDS)


def test_a_host_that_is_none() -> None:
    with pytest.raises(Unreachable):
        HttpPublisher("http://a..b", None).publish("job", FIELDS)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://[::1]", "::1", 80),
        ("https://[::1]/prefix", "::1", 443),
        ("http://[::1]:8000", "::1", 8000),
        ("https://example.org", "example.org", 443),
    ],
)
def test_where_it_connects(url: str, host: str, port: int) -> None:
    connection = HttpPublisher(url, None)._connection
    assert (connection.host, connection.port) == (host, port)


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.worker.http.REQUEST", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        carrier = HttpPublisher(f"http://127.0.0.1:{server.getsockname()[1]}", None)
        with pytest.raises(Unreachable, match=r"no answer within 0\.05 s"):
            carrier.publish("job", FIELDS)
        assert carrier._connection.sock is None


def test_https_to_a_server_without_tls(peer: Peer) -> None:
    carrier = HttpPublisher(peer.url.replace("http:", "https:"), None)
    with pytest.raises(Unreachable, match=r"(?i)ssl"):
        carrier.publish("job", FIELDS)
    gc.collect()


def raw(status: int, content: bytes, **headers: str) -> Answer:
    return lambda _: (status, headers, content)


def odd(content: bytes) -> Answer:
    return raw(400, content, **{"Content-Type": "application/problem+json"})


@pytest.mark.parametrize(
    ("answer", "error", "text", "field"),
    [
        (problem(422, "percent: too big", field="percent"), Rejected, "422 percent", "percent"),
        (problem(401, "no token"), Rejected, "401 no token", None),
        (odd(b'{"status": 400, "title": "Bad", "field": 5}'), Rejected, "400 Bad", None),
        (odd(b'{"status": 404}'), Unreachable, "400 Bad Request, but not", None),
        (raw(400, b'{"status": 400}'), Unreachable, "400 Bad Request, but not", None),
        (raw(404, b"404 page not found"), Unreachable, "404 Not Found, but not", None),
        (raw(301, b"", Location="https://x/"), Unreachable, "301 redirected to https://x/", None),
        (problem(503, "draining"), Unreachable, "503 draining", None),
        (raw(500, b""), Unreachable, "500", None),
        (problem(429, "slowly"), Unreachable, "429 slowly", None),
        (raw(200, b"<html>"), Unreachable, "200, but not the answer of a gateway", None),
        (raw(200, b"[]"), Unreachable, "200, but", None),
        (raw(200, b'{"attempt": "1"}'), Unreachable, "200, but", None),
        (raw(200, b" " * 70_000), Unreachable, "200, but", None),
    ],
)
def test_what_answers_mean(
    peer: Peer,
    carrier: HttpPublisher,
    answer: Answer,
    error: type[Exception],
    text: str,
    field: str | None,
) -> None:
    peer.plan.append(answer)
    with pytest.raises(error, match=text) as caught:
        carrier.publish("job", FIELDS)
    assert getattr(caught.value, "field", None) == field
    assert carrier.publish("job", FIELDS).applied


def test_an_end_outlives_what_a_proxy_says_meanwhile(peer: Peer) -> None:
    """An ingress answers so while the gateway behind it is started anew."""
    with Job("job") as job:
        until(job, lambda: job.attempt)
        peer.plan.extend([raw(404, b"404 page not found\n")] * 2)
    assert job.wait(0)
    assert len(peer.ends("job")) == 3


def test_what_a_gateway_refuses_with(peer: Peer) -> None:
    """A true one: what it says is understood as its own."""
    recorder = Recorder()
    try:
        carrier = HttpPublisher(recorder.url, None)
        with pytest.raises(Rejected) as caught:
            carrier.publish("job", {"status": "running", "percent": 101})
        assert caught.value.field == "percent"
        carrier.close()
    finally:
        recorder.close()


def test_reasons(peer: Peer, carrier: HttpPublisher) -> None:
    peer.plan.extend([receipt(3, "stale_attempt"), raw(200, b'{"attempt": 1}', Connection="close")])
    assert carrier.publish("job", FIELDS) == Receipt(3, False, "stale_attempt", epoch=1, seq=1)
    assert carrier.publish("job", FIELDS) == Receipt(1, False)
    assert carrier._connection.sock is None


def test_a_publisher_of_another_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(publisher.SCHEMES, "test", __name__)
    publisher.check("test://x", None)
    with pytest.raises(ValueError, match="not this one"):
        publisher.check("test://y", None)
    made: object = publisher.connect("test://x", "token")
    assert made == ("test://x", "token")
    with pytest.raises(ValueError, match=r"one of http://, https://, redis://.*, test://"):
        publisher.check("redis//x", None)


def check(url: str, token: str | None) -> None:
    """This test module is a publisher module too."""
    if url != "test://x":
        raise ValueError("not this one")


def connect(url: str, token: str | None) -> Any:
    return url, token


assert sys.modules[__name__].check is check
