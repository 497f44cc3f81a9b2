"""The matrices of tokens and origins, on real sockets: over both WebSocket transports, by
`hello` and by header, and over the HTTP API."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from attrs import frozen

from gateway import Gateway, Limits, serve_gateway
from gateway.auth.authenticator import Authenticator
from gateway.auth.factory import open_authenticator
from gateway.auth.key_sources import KeySources
from gateway.auth.origins import Origins
from gateway.auth.permissions import LEEWAY
from gateway.auth.revocations import MemoryRevocations
from gateway.model.errors import InvalidSettings
from gateway.server import Internal
from tests.e2e.client import Json, Raw, WebSocketClient, command, connect, upgrade
from tests.e2e.conftest import HOSTS
from tests.e2e.hosts import Host

from .signing import OTHER_SECRET, SECRET, forge, sign

Claims = dict[str, Any]


def claims(**more: Any) -> Claims:
    return {"exp": time.time() + 600, "watch": ["mine:*"], "publish": ["mine:*"]} | more


@frozen
class Wrong:
    token: Callable[[], str]
    code: int
    """The close code of a connection with such a token; over HTTP the status is always 401."""


WRONG = {
    "expired": Wrong(lambda: sign(claims(exp=time.time() - 100)), 4100),
    "wrong key": Wrong(lambda: sign(claims(), key=OTHER_SECRET), 4500),
    "wrong algorithm": Wrong(lambda: sign(claims(), key=SECRET * 2, algorithm="HS512"), 4500),
    "alg: none": Wrong(lambda: forge({"alg": "none"}, claims()), 4500),
    "future nbf": Wrong(lambda: sign(claims(nbf=time.time() + 100)), 4500),
    "no exp": Wrong(lambda: sign({"watch": ["*"]}), 4500),
    "revoked": Wrong(lambda: sign(claims(jti="revoked")), 4502),
    "nonsense": Wrong(lambda: "nonsense", 4500),
}

LIMITS = Limits(hello_timeout=0.3, close_timeout=0.3)


@pytest.fixture
async def authenticator() -> Authenticator:
    revocations = MemoryRevocations()
    await revocations.revoke({"revoked": time.time() + 600})
    origins = Origins.parse("https://shop.example")
    ring = KeySources(secret=SECRET)
    return Authenticator(ring, origins=origins, revocations=revocations, limits=LIMITS)


# A program's own trio-websocket has no HTTP side.
@pytest.fixture(params=[name for name in HOSTS if name != "trio-websocket"])
async def host(request: pytest.FixtureRequest, authenticator: Authenticator) -> AsyncIterator[Host]:
    """The gateway with each transport in turn, and with tokens required."""
    async with HOSTS[request.param](LIMITS, authenticator) as host:
        await host.publish("mine:1", percent=10)
        await host.publish("theirs:1", percent=20)
        yield host


async def end_of(port: int, *said: bytes, **headers: str) -> int | None:
    """Returns the close code of a connection with these headers that sends this message."""
    async with connect(port) as raw:
        await _upgrade(raw, **headers)
        await raw.send(b"".join(said))
        return await WebSocketClient(raw).close_code()


async def _upgrade(raw: Raw, path: str = "/ws", **headers: str) -> None:
    # Send nothing with the request: hypercorn would crash.
    await raw.send(upgrade(path, **headers))
    assert (await raw.receive_head())[0] == 101


async def send_request(
    port: int, method: str, path: str, body: Json | None = None, /, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Sends a request; returns status, headers and document."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = {"host": "127.0.0.1", "content-length": str(len(data)), "connection": "close"}
    lines |= {name.replace("_", "-"): text for name, text in headers.items()}
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *(f"{n}: {t}" for n, t in lines.items())])
    async with connect(port) as raw:
        await raw.send(f"{head}\r\n\r\n".encode() + data)
        status, answered, content = await raw.receive_response()
        is_json = "json" in answered.get("content-type", "")
        return status, answered, json.loads(content) if is_json else None


class TestTokens:
    @pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
    async def test_an_invalid_token_closes_the_websocket(self, host: Host, wrong: Wrong) -> None:
        token = wrong.token()
        assert await end_of(host.port, command("hello", token=token)) == wrong.code
        assert await end_of(host.port, authorization=f"Bearer {token}") == wrong.code

    @pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
    async def test_an_invalid_token_is_401(self, host: Host, wrong: Wrong) -> None:
        shown = {"authorization": f"Bearer {wrong.token()}"}
        for method, path in (
            ("GET", "/api/jobs/mine:1"),
            ("GET", "/api/jobs"),
            ("GET", "/api/events?job=mine:1"),
            ("POST", "/api/jobs/mine:1"),
            ("POST", "/api/revocations"),
        ):
            status, headers, problem = await send_request(host.port, method, path, {}, **shown)
            assert (status, problem["status"]) == (401, 401)
            assert headers["www-authenticate"] == 'Bearer error="invalid_token"'

    async def test_a_missing_token_is_401_and_4500(self, host: Host) -> None:
        status, headers, _ = await send_request(host.port, "GET", "/api/jobs/mine:1")
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert await end_of(host.port) == 4500  # after `hello_timeout`
        assert await end_of(host.port, command("subscribe", jobs=["mine:1"])) == 4500
        assert await end_of(host.port, authorization="Basic dTpw") == 4500

    async def test_a_token_in_the_url_is_ignored(self, host: Host) -> None:
        query = f"?token={sign(claims())}&access_token={sign(claims())}"
        status, _, _ = await send_request(host.port, "GET", f"/api/jobs/mine:1{query}")
        assert status == 401
        async with connect(host.port) as raw:
            await _upgrade(raw, f"/ws{query}")
            await raw.send(command("subscribe", jobs=["mine:1"]))
            assert await WebSocketClient(raw).close_code() == 4500

    @pytest.mark.parametrize("way", ["hello", "header"])
    async def test_a_valid_token_shows_only_its_jobs(self, host: Host, way: str) -> None:
        token = sign(claims())
        headers = {"authorization": f"bearer {token}"} if way == "header" else {}
        async with connect(host.port) as raw:
            await _upgrade(raw, **headers)
            client = WebSocketClient(raw)
            if way == "hello":
                await client.send("hello", token=token)
            await client.send("subscribe", jobs=["mine:1", "theirs:1", "theirs:2"])
            states = {}
            for _ in range(3):
                frame = await client.receive_type("progress")
                states[frame["job"]] = frame["state"] and frame["state"]["percent"]
            assert states == {"mine:1": 10, "theirs:1": None, "theirs:2": None}
            await host.publish("theirs:2", percent=50)
            await host.publish("mine:1", percent=50)
            assert (await client.receive_type("progress"))["job"] == "mine:1"

    async def test_over_http_a_token_reads_and_writes_only_its_jobs(self, host: Host) -> None:
        headers = {"authorization": f"Bearer {sign(claims())}"}
        assert (await send_request(host.port, "GET", "/api/jobs/mine:1", **headers))[0] == 200
        hidden, absent = [
            await send_request(host.port, "GET", f"/api/jobs/{job}", **headers)
            for job in ("theirs:1", "mine:2")
        ]
        assert hidden[0] == 404
        assert {**hidden[1], "date": ""} == {**absent[1], "date": ""}
        assert hidden[2] == absent[2]
        _, _, page = await send_request(host.port, "GET", "/api/jobs", **headers)
        assert [job["job"] for job in page["jobs"]] == ["mine:1"]
        for path in ("?prefix=theirs:", "?prefix=t", "?prefix=n"):
            _, _, page = await send_request(host.port, "GET", f"/api/jobs{path}", **headers)
            assert page == {"jobs": [], "next": None}
        # The common prefix of the patterns is not one of them: jobs exist under `t`, none under
        # `n`.
        shared = {"authorization": f"Bearer {sign(claims(watch=['them:*', 'theirs:9']))}"}
        for number in range(12):
            await host.publish(f"theirs:secret-{number}", percent=1)
        for prefix in ("theirs:secret", "theirs:s", "theirs:n", "the", ""):
            path = f"/api/jobs?limit=1&prefix={prefix}"
            _, _, page = await send_request(host.port, "GET", path, **shared)
            assert page == {"jobs": [], "next": None}
        for job, status in (("mine:9", 200), ("theirs:1", 403), ("theirs:9", 403)):
            answer = await send_request(
                host.port, "POST", f"/api/jobs/{job}", {"done": 1}, **headers
            )
            assert answer[0] == status

    @pytest.mark.parametrize("job", ["mine:1", "mine:unseen", "theirs:1"])
    @pytest.mark.parametrize("how", ["revoked", "expired"])
    async def test_a_waiting_long_poll_ends_with_its_token(
        self, host: Host, authenticator: Authenticator, job: str, how: str
    ) -> None:
        """The poll ends within a second of revocation or expiry, whether the token allows the job
        or not."""
        exp = time.time() + (600 if how == "revoked" else 2 - LEEWAY)
        bearer_headers = {"authorization": f"Bearer {sign(claims(jti='polling', exp=exp))}"}
        _, headers, _ = await send_request(host.port, "GET", f"/api/jobs/{job}", **bearer_headers)
        bearer_headers["if_none_match"] = headers.get("etag", '"none"')
        async with connect(host.port) as raw:
            lines = "".join(
                f"{name.replace('_', '-')}: {text}\r\n" for name, text in bearer_headers.items()
            )
            path = f"/api/jobs/{job}?wait=30"
            await raw.send(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines}\r\n".encode())
            if how == "revoked":
                await authenticator.revoke("polling", until=exp)
            with trio.fail_after(10):
                status, headers, _ = await raw.receive_response()
        assert status == 401
        assert "invalid_token" in headers["www-authenticate"]

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "anything"])
    async def test_a_long_poll_of_another_origin_reveals_nothing(
        self, host: Host, site: str
    ) -> None:
        """A request without CORS has no Origin, but says whether it is from another site."""
        headers = {"authorization": f"Bearer {sign(claims())}", "sec_fetch_site": site}
        for path in ("/api/jobs/mine:1?wait=30", "/api/jobs", "/api/events?job=mine:1"):
            assert (await send_request(host.port, "GET", path, **headers))[0] == 403
        for own in ("same-origin", "none"):
            answer = await send_request(
                host.port, "GET", "/api/jobs", **headers | {"sec_fetch_site": own}
            )
            assert answer[0] == 200
        headers["origin"] = "https://shop.example"
        assert (await send_request(host.port, "GET", "/api/jobs", **headers))[0] == 200

    async def test_a_long_poll_of_a_denied_job_waits_like_for_an_unknown_one(
        self, host: Host
    ) -> None:
        shown = {"authorization": f"Bearer {sign(claims())}"}
        for job in ("theirs:1", "mine:2"):
            start = trio.current_time()
            path = f"/api/jobs/{job}?wait=0.3"
            assert (await send_request(host.port, "GET", path, **shown))[0] == 404
            assert 0.3 <= trio.current_time() - start < 1

    async def test_a_watch_token_cannot_publish(self, host: Host) -> None:
        shown = {"authorization": f"Bearer {sign(claims(publish=[]))}"}
        for job in ("mine:1", "theirs:1"):
            answer = await send_request(host.port, "POST", f"/api/jobs/{job}", {"done": 1}, **shown)
            assert answer[0] == 403

    async def test_a_request_to_a_group_reaches_only_the_children_that_the_token_allows(
        self, host: Host
    ) -> None:
        async def ask(group: str, **rights: Any) -> int:
            token = sign(claims(watch=["*"], publish=["*"], **rights))
            bearer = {"authorization": f"Bearer {token}"}
            path = f"/api/jobs/{group}/requests"
            return (await send_request(host.port, "POST", path, {"verb": "cancel"}, **bearer))[0]

        async def begin(job: str, **fields: Any) -> bool:
            return (await host.publish(job, accepts=("cancel",), **fields)).request is not None

        for group in ("one", "all"):
            await begin(group, children=4)
            await begin(f"{group}/a")
            await begin(f"{group}/b")
            assert await ask(group) == 403
        assert await ask("one", control=["one", "one/a", "one/b:*"]) == 202
        assert await ask("all", control=["al*"]) == 202
        # Jobs that run now, and jobs that begin later.
        assert [await begin(f"one/{name}", percent=1) for name in "abc"] == [True, False, False]
        assert [await begin(f"all/{name}", percent=1) for name in "abc"] == [True, True, True]

    async def test_a_request_is_logged_with_the_subject_of_its_token(
        self, host: Host, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "gateway.http")
        await host.publish("mine:1", accepts=("cancel",))
        for rights in ({}, {"control": ["mine:*"]}):
            token = sign(claims(sub="anna", **rights))
            bearer = {"authorization": f"Bearer {token}"}
            body = {"verb": "cancel", "id": "r"}
            path = "/api/jobs/mine:1/requests"
            status = (await send_request(host.port, "POST", path, body, **bearer))[0]
            assert status == (202 if rights else 403)
        (line,) = [line for line in caplog.records if line.getMessage() == "job request"]
        logged = {name: vars(line)[name] for name in ("job", "verb", "id", "result", "subject")}
        assert logged == {
            "job": "mine:1", "verb": "cancel", "id": "r", "result": "applied", "subject": "anna",
        }  # fmt: skip

    async def test_health_and_page_need_no_token(self, host: Host) -> None:
        for path in ("/healthz", "/readyz"):
            assert (await send_request(host.port, "GET", path))[0] == 200
        async with connect(host.port) as raw:
            await raw.send(b"GET / HTTP/1.1\r\nhost: progress.example\r\n\r\n")
            assert (await raw.receive_head())[0] == 200


class TestRevoking:
    async def test_a_token_revokes_itself_and_with_permission_others(self, host: Host) -> None:
        async with connect(host.port) as raw:
            token = sign(claims(jti="a"))
            await _upgrade(raw)
            await raw.send(command("hello", token=token))
            client = WebSocketClient(raw)
            await client.receive_type("welcome")
            ways: list[tuple[Claims, int]] = [
                (claims(jti="b"), 403),
                (claims(revoke=True), 200),
            ]
            for other, expected in ways:
                start = trio.current_time()
                status, _, _ = await send_request(
                    host.port, "POST", "/api/revocations", {"id": "a"},
                    authorization=f"Bearer {sign(other)}",
                )  # fmt: skip
                assert status == expected
            assert await client.close_code() == 4502
            assert trio.current_time() - start < 1
        shown = {"authorization": f"Bearer {sign(claims(jti='c'))}"}
        done = await send_request(host.port, "POST", "/api/revocations", {"id": "c"}, **shown)
        assert done[0] == 200

    async def test_a_revocation_lasts_until_its_expiry_or_for_ever(self, host: Host) -> None:
        may = {"authorization": f"Bearer {sign(claims(revoke=True))}"}

        async def revoke(id_: str, **until: float) -> tuple[int, Json]:
            body = {"id": id_, **until}
            status, _, answer = await send_request(
                host.port, "POST", "/api/revocations", body, **may
            )
            return status, answer

        later = time.time() + 600
        assert await revoke("a") == (200, {"id": "a", "until": None})
        assert await revoke("b", until=later) == (200, {"id": "b", "until": later})
        assert (await revoke("d", until=time.time() - LEEWAY / 2))[
            0
        ] == 200  # valid for the same time
        for over in (0, time.time() - LEEWAY):
            status, answer = await revoke("c", until=over)
            assert (status, answer["field"]) == (400, "until")
        centuries = sign(claims(jti="a", exp=time.time() + 1e10))
        shown = {"authorization": f"Bearer {centuries}"}
        assert (await send_request(host.port, "GET", "/api/jobs", **shown))[0] == 401

    @pytest.mark.parametrize("body", [{}, {"id": ""}, {"id": 7}, {"id": "x" * 201}, {"di": "a"}])
    async def test_a_text_that_is_not_a_token_cannot_be_revoked(
        self, host: Host, body: Json
    ) -> None:
        shown = {"authorization": f"Bearer {sign(claims(revoke=True))}"}
        status, _, problem = await send_request(
            host.port, "POST", "/api/revocations", body, **shown
        )
        assert (status, problem["field"]) == (400, "id")


class TestOrigins:
    FOREIGN = ("null", "https://other.example", "https://shop.example.evil", "http://127.0.0.1:1")

    @pytest.mark.parametrize("origin", FOREIGN)
    async def test_websockets_of_other_origins_are_closed(self, host: Host, origin: str) -> None:
        token = sign(claims())
        code = await end_of(host.port, command("hello", token=token), origin=origin)
        assert code == 4501

    @pytest.mark.parametrize("origin", FOREIGN)
    async def test_requests_of_other_origins_are_403(self, host: Host, origin: str) -> None:
        shown = {"authorization": f"Bearer {sign(claims())}", "origin": origin}
        for method, path in (
            ("POST", "/api/jobs/mine:1"),
            ("GET", "/api/jobs/mine:1"),
            ("GET", "/api/events?job=mine:1"),
        ):
            status, headers, problem = await send_request(host.port, method, path, {}, **shown)
            assert (status, problem["status"]) == (403, 403)
            assert "access-control-allow-origin" not in headers

    async def test_allowed_origins_may_send_and_read(self, host: Host) -> None:
        for origin in ("http://127.0.0.1", "https://shop.example"):
            request_headers = {"authorization": f"Bearer {sign(claims())}", "origin": origin}
            status, headers, _ = await send_request(
                host.port, "GET", "/api/jobs/mine:1", **request_headers
            )
            assert status == 200
            if origin.startswith("https"):
                assert headers["access-control-allow-origin"] == origin
            async with connect(host.port) as raw:
                await _upgrade(raw, **request_headers)
                await raw.send(command("ping"))
                assert await WebSocketClient(raw).receive_type("pong")

    async def test_a_preflight_is_answered(self, host: Host) -> None:
        for origin, status in (("https://shop.example", 200), ("https://other.example", 400)):
            answer = await send_request(
                host.port, "OPTIONS", "/api/jobs/mine:1", origin=origin,
                access_control_request_method="POST",
                access_control_request_headers="authorization",
            )  # fmt: skip
            assert answer[0] == status


class TestWithoutKeys:
    """On loopback, without tokens: only the address and the check of origins protect the
    gateway."""

    async def test_a_public_page_gets_no_access_to_a_local_gateway(self) -> None:
        async with HOSTS["listener"](LIMITS) as host:
            foreign = {"origin": "https://evil.example"}
            post = await send_request(host.port, "POST", "/api/jobs/a", {}, **foreign)
            assert post[0] == 403
            assert await end_of(host.port, command("ping"), **foreign) == 4501

    async def test_a_page_with_a_rebound_name_gets_no_access(self) -> None:
        async with HOSTS["listener"](LIMITS) as host:
            rebound = {"host": f"evil.example:{host.port}"}
            rebound["origin"] = f"http://{rebound['host']}"
            assert (await send_request(host.port, "GET", "/api/jobs", **rebound))[0] == 403
            del rebound["origin"]
            assert (await send_request(host.port, "GET", "/api/jobs", **rebound))[0] == 403
            assert await end_of(host.port, command("ping"), **rebound) == 4501

    async def test_a_token_without_configured_keys_is_ignored(self) -> None:
        async with HOSTS["listener"](LIMITS) as host, connect(host.port) as raw:
            await _upgrade(raw, authorization="Bearer nonsense")
            client = WebSocketClient(raw)
            await client.send("hello", token="nonsense")  # noqa: S106 - of a test
            await client.send("ping")
            assert await client.receive_type("pong")

    @pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0"])
    async def test_without_keys_only_loopback_addresses_are_bound(self, bind: str) -> None:
        with pytest.RaisesGroup(
            pytest.RaisesExc(InvalidSettings, match="--keys.*--insecure"), flatten_subgroups=True
        ):
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_gateway, bind)

    async def test_the_insecure_option_allows_other_addresses(self) -> None:
        async with trio.open_nursery() as nursery:
            gateway: Gateway = await nursery.start(_serve_insecurely)
            port = gateway.addresses[0][1]
            status, _, _ = await send_request(port, "GET", "/api/jobs", host="anything.example")
            assert status == 200
            nursery.cancel_scope.cancel()


async def _serve_insecurely(*, task_status: trio.TaskStatus[Gateway]) -> None:
    await serve_gateway("0.0.0.0:0", insecure=True, task_status=task_status)


class TestInternalAddress:
    async def test_publishing_can_be_moved_to_an_internal_address(self) -> None:
        async def serve(*, task_status: trio.TaskStatus[Gateway]) -> None:
            await serve_gateway(
                "127.0.0.1:0",
                authenticator=open_authenticator(secret=SECRET),
                internal=Internal("127.0.0.1:0"),
                task_status=task_status,
            )

        headers = {"authorization": f"Bearer {sign(claims())}"}
        async with trio.open_nursery() as nursery:
            gateway: Gateway = await nursery.start(serve)
            public, inside = gateway.addresses[0][1], gateway.internal_addresses[0][1]
            refused = await send_request(public, "POST", "/api/jobs/mine:1", {}, **headers)
            assert refused[0] == 405
            assert (await send_request(inside, "POST", "/api/jobs/mine:1", {}))[0] == 401
            done = await send_request(inside, "POST", "/api/jobs/mine:1", {"done": 1}, **headers)
            assert done[0] == 200
            for port, status in ((public, 200), (inside, 404)):
                async with connect(port) as raw:
                    await raw.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                    assert (await raw.receive_head())[0] == status
            nursery.cancel_scope.cancel()
