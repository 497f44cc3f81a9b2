"""The HTTP publisher against a real server."""

from __future__ import annotations

import gc
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gateway import Job, Limits
from gateway.model.constants import MAX_ARGS, MAX_REQUEST_ID
from gateway.worker import publisher
from gateway.worker.http import HttpPublisher
from gateway.worker.limits import MAX_UPDATES_PER_REQUEST
from gateway.worker.publisher import PublishResult, Rejected, Unreachable, publish_one
from tests.auth.signing import SECRET, sign
from tests.cli.conftest import address
from tests.cli.processes import GATEWAY, WITHIN, Running

from .fake import until
from .fake_gateway import Answer, FakeGateway, acceptance, drop_connection, problem
from .recorder import Recorder


@pytest.fixture
def carrier(fake_gateway: FakeGateway) -> Any:
    carrier = publisher.connect(fake_gateway.url, None)
    yield carrier
    carrier.close()
    gc.collect()  # a descriptor left open would warn here


FIELDS = {"status": "running", "message": "ü"}


def test_the_request_example_works(fake_gateway: FakeGateway) -> None:
    carrier = HttpPublisher(fake_gateway.url + "/prefix/", "s3cret")
    assert publish_one(carrier, "a:b/c@d.e-f_g", FIELDS) == PublishResult(1, True, epoch=1, seq=1)
    carrier.close()
    (request,) = fake_gateway.received
    assert request.path == "/prefix/api/jobs"
    assert request.job == "a:b/c@d.e-f_g"
    assert request.fields == FIELDS
    assert request.headers["Authorization"] == "Bearer s3cret"
    assert request.headers["Content-Type"] == "application/json"


def test_without_a_token_there_is_no_header(
    fake_gateway: FakeGateway, carrier: HttpPublisher
) -> None:
    publish_one(carrier, "job", FIELDS)
    assert "Authorization" not in fake_gateway.received[0].headers


def test_a_file_is_read_for_each_request(fake_gateway: FakeGateway, tmp_path: Path) -> None:
    file = tmp_path / "token"
    carrier = publisher.connect(fake_gateway.url, file)
    for token in ("first", "second"):
        file.write_text(f"{token}\n")
        publish_one(carrier, "job", FIELDS)
    carrier.close()
    shown = [got.headers["Authorization"] for got in fake_gateway.received]
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
def test_a_token_file_without_a_token_is_a_temporary_error(
    fake_gateway: FakeGateway, tmp_path: Path, content: str | None, problem: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    carrier = publisher.connect(fake_gateway.url, file)
    with pytest.raises(Unreachable, match=f"no token in .*{problem}"):
        publish_one(carrier, "job", FIELDS)
    assert not fake_gateway.received
    file.write_text("good")
    assert publish_one(carrier, "job", FIELDS).applied
    carrier.close()


def test_a_rejected_token_from_a_file_is_a_temporary_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real gateway refuses the expired token of the file, and accepts the next one."""
    file = tmp_path / "token"
    claims = {"publish": ["*"], "watch": ["*"]}
    file.write_text(sign(claims | {"exp": time.time() - 60}))
    monkeypatch.setenv("PROGRESS_GATEWAY_TOKEN_FILE", str(file))
    serve = (*GATEWAY, "serve", "--bind", "127.0.0.1:0")
    with Running(*serve, env={"PROGRESS_GATEWAY_SECRET": SECRET}) as gateway:
        job = Job("job", url=address(gateway), timeout=WITHIN)
        job.update(done=1)
        until(job, lambda: job._sender._queue.outage.failures)
        assert "401" in job._sender._queue.outage.reason
        file.write_text(sign(claims | {"exp": time.time() + 60}))
        job.succeed()
        assert job.wait()


def test_one_connection_is_reused(fake_gateway: FakeGateway, carrier: HttpPublisher) -> None:
    for _ in range(3):
        publish_one(carrier, "job", FIELDS)
    fake_gateway.answers.append(problem(422, "no"))
    with pytest.raises(Rejected):
        publish_one(carrier, "job", FIELDS)
    publish_one(carrier, "job", FIELDS)
    assert len({got.connection for got in fake_gateway.received}) == 1


def test_a_new_connection_that_breaks_raises_unreachable(
    fake_gateway: FakeGateway, carrier: HttpPublisher
) -> None:
    fake_gateway.answers.append(drop_connection)
    with pytest.raises(Unreachable, match="closed connection"):
        publish_one(carrier, "job", FIELDS)
    publish_one(carrier, "job", FIELDS)
    fake_gateway.answers.extend([drop_connection, drop_connection])
    with pytest.raises(Unreachable):
        publish_one(carrier, "job", FIELDS)
    assert publish_one(carrier, "job", FIELDS).applied


def test_an_unreachable_server_is_reported(nowhere: str) -> None:
    with pytest.raises(Unreachable, match="refused"):
        publish_one(HttpPublisher(nowhere, None), "job", FIELDS)


def test_an_invalid_host_is_reported() -> None:
    with pytest.raises(Unreachable):
        publish_one(HttpPublisher("http://a..b", None), "job", FIELDS)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://[::1]", "::1", 80),
        ("https://[::1]/prefix", "::1", 443),
        ("http://[::1]:8000", "::1", 8000),
        ("https://example.org", "example.org", 443),
    ],
)
def test_the_url_decides_where_to_connect(url: str, host: str, port: int) -> None:
    connection = HttpPublisher(url, None)._connection
    assert (connection.host, connection.port) == (host, port)


def test_a_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.worker.http.REQUEST_STEP_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        carrier = HttpPublisher(f"http://127.0.0.1:{server.getsockname()[1]}", None)
        with pytest.raises(Unreachable, match=r"no answer within 0\.05 s"):
            publish_one(carrier, "job", FIELDS)
        assert carrier._connection.sock is None


def test_https_to_a_server_without_tls_is_unreachable(fake_gateway: FakeGateway) -> None:
    carrier = HttpPublisher(fake_gateway.url.replace("http:", "https:"), None)
    with pytest.raises(Unreachable, match=r"(?i)ssl"):
        publish_one(carrier, "job", FIELDS)
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
        (raw(200, b'{"attempt": "1"}'), Unreachable, "not the answer of a gateway", None),
        (raw(200, b" " * 70_000), Unreachable, "200, but", None),
    ],
)
def test_each_answer_has_the_expected_outcome(
    fake_gateway: FakeGateway,
    carrier: HttpPublisher,
    answer: Answer,
    error: type[Exception],
    text: str,
    field: str | None,
) -> None:
    fake_gateway.answers.append(answer)
    with pytest.raises(error, match=text) as caught:
        publish_one(carrier, "job", FIELDS)
    assert getattr(caught.value, "field", None) == field
    assert publish_one(carrier, "job", FIELDS).applied


def test_an_end_is_sent_again_after_an_error_of_a_proxy(fake_gateway: FakeGateway) -> None:
    """An ingress answers like this while the gateway behind it is being restarted."""
    with Job("job") as job:
        until(job, lambda: job.attempt)
        fake_gateway.answers.extend([raw(404, b"404 page not found\n")] * 2)
    assert job.wait(0)
    assert len(fake_gateway.ends("job")) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_respected(fake_gateway: FakeGateway, status: int) -> None:
    fake_gateway.answers.append(raw(status, b"", **{"Retry-After": "1"}))
    with Job("job"):
        pass
    first, second = (got.at for got in fake_gateway.requests_of("job")[:2])
    assert second - first >= 1.0  # without it: some 0.1 s


def test_errors_of_a_gateway_are_rejections(fake_gateway: FakeGateway) -> None:
    """The responses of a real gateway are recognised as a gateway's."""
    recorder = Recorder()
    try:
        carrier = HttpPublisher(recorder.url, None)
        with pytest.raises(Rejected) as caught:
            publish_one(carrier, "job", {"status": "running", "percent": 101})
        assert caught.value.field == "percent"
        carrier.close()
    finally:
        recorder.close()


def test_reasons_are_returned(fake_gateway: FakeGateway, carrier: HttpPublisher) -> None:
    fake_gateway.answers.extend(
        [acceptance(3, "stale_attempt"), raw(200, b'{"attempt": 1}', Connection="close")]
    )
    assert publish_one(carrier, "job", FIELDS) == PublishResult(
        3, False, "stale_attempt", epoch=1, seq=1
    )
    assert publish_one(carrier, "job", FIELDS) == PublishResult(1, False)
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
    """Checks nothing. This test module is a publisher module too."""
    if url != "test://x":
        raise ValueError("not this one")


def connect(url: str, token: str | None) -> Any:
    return url, token


assert sys.modules[__name__].check is check


def test_the_largest_answer_is_read(fake_gateway: FakeGateway, carrier: HttpPublisher) -> None:
    """The answer is that to a full batch of jobs which all get a request, with every field at its
    limit."""
    request = {
        "id": "i" * MAX_REQUEST_ID,
        "verb": "v" * 32,
        "args": "ä" * (MAX_ARGS // 2 - 1),
        "by": "😀" * 200,
        "alone": True,
        "at": 1_700_000_000.123,
    }
    largest = 2**53 - 1
    answer: dict[str, Any] = {"epoch": largest, "seq": largest, "attempt": largest}
    answer |= {"applied": False, "reason": "unchanged", "request": request}
    body = json.dumps([answer] * MAX_UPDATES_PER_REQUEST, ensure_ascii=False).encode()
    fake_gateway.answers.append(lambda _: (200, {}, body))
    outcomes = carrier.publish(
        [(f"job{number}", {"run": "r"}) for number in range(MAX_UPDATES_PER_REQUEST)]
    )
    assert [getattr(outcome, "request", outcome) for outcome in outcomes] == [
        request
    ] * MAX_UPDATES_PER_REQUEST


@pytest.mark.parametrize("limits", [Limits(max_batch=7), Limits(max_batch_body=2_000)])
def test_a_batch_is_split_for_a_gateway_that_takes_fewer_updates(limits: Limits) -> None:
    recorder = Recorder(limits)
    try:
        carrier = HttpPublisher(recorder.url, None)
        updates = [(f"job:{n}", FIELDS | {"message": 100 * "x"}) for n in range(50)]
        for _ in range(2):
            outcomes = carrier.publish(updates)
            assert [type(outcome) for outcome in outcomes] == [PublishResult] * 50
        too_large = carrier.publish([("job:1", FIELDS | {"data": 70_000 * "x"}), *updates])
        assert isinstance(too_large[0], Rejected)
        assert [type(outcome) for outcome in too_large[1:]] == [PublishResult] * 50
        carrier.close()
    finally:
        recorder.close()
