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
from gateway.auth.gate import Gate
from gateway.auth.keyring import Keyring
from gateway.auth.opening import open_gate
from gateway.auth.origins import Origins
from gateway.auth.revocations import MemoryRevocations
from gateway.auth.rights import LEEWAY
from gateway.errors import InvalidSettings
from gateway.server import Internal
from tests.e2e.client import Client, Json, Raw, command, connect, upgrade
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
    """How a connection that shows it ends; over HTTP it is always 401."""


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
async def gate() -> Gate:
    revocations = MemoryRevocations()
    await revocations.revoke({"revoked": time.time() + 600})
    origins = Origins.parse("https://shop.example")
    ring = Keyring(secret=SECRET)
    return Gate(ring, origins=origins, revocations=revocations, limits=LIMITS)


@pytest.fixture(params=HOSTS)
async def host(request: pytest.FixtureRequest, gate: Gate) -> AsyncIterator[Host]:
    """The gateway behind each transport in turn, asking for tokens."""
    async with HOSTS[request.param](LIMITS, gate) as host:
        await host.publish("mine:1", percent=10)
        await host.publish("theirs:1", percent=20)
        yield host


async def end_of(port: int, *said: bytes, **headers: str) -> int | None:
    """How a connection ends whose request has these headers, and which says this."""
    async with connect(port) as raw:
        await _upgrade(raw, **headers)
        await raw.send(b"".join(said))
        return await Client(raw).ending()


async def _upgrade(raw: Raw, path: str = "/ws", **headers: str) -> None:
    # Nothing with the request: hypercorn dies of that.
    await raw.send(upgrade(path, **headers))
    assert (await raw.head())[0] == 101


async def asked(
    port: int, method: str, path: str, body: Json | None = None, /, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """A request and its answer: status, headers, document."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = {"host": "127.0.0.1", "content-length": str(len(data)), "connection": "close"}
    lines |= {name.replace("_", "-"): text for name, text in headers.items()}
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *(f"{n}: {t}" for n, t in lines.items())])
    async with connect(port) as raw:
        await raw.send(f"{head}\r\n\r\n".encode() + data)
        status, answered, content = await raw.response()
        is_json = "json" in answered.get("content-type", "")
        return status, answered, json.loads(content) if is_json else None


class TestTokens:
    @pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
    async def test_a_wrong_one_ends_it(self, host: Host, wrong: Wrong) -> None:
        token = wrong.token()
        assert await end_of(host.port, command("hello", token=token)) == wrong.code
        assert await end_of(host.port, authorization=f"Bearer {token}") == wrong.code

    @pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
    async def test_a_wrong_one_is_401(self, host: Host, wrong: Wrong) -> None:
        shown = {"authorization": f"Bearer {wrong.token()}"}
        for method, path in (
            ("GET", "/api/jobs/mine:1"),
            ("GET", "/api/jobs"),
            ("GET", "/api/events?job=mine:1"),
            ("POST", "/api/jobs/mine:1"),
            ("POST", "/api/revocations"),
        ):
            status, headers, problem = await asked(host.port, method, path, {}, **shown)
            assert (status, problem["status"]) == (401, 401)
            assert headers["www-authenticate"] == 'Bearer error="invalid_token"'

    async def test_none_is_401_and_4500(self, host: Host) -> None:
        status, headers, _ = await asked(host.port, "GET", "/api/jobs/mine:1")
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert await end_of(host.port) == 4500  # after the time for hello
        assert await end_of(host.port, command("subscribe", jobs=["mine:1"])) == 4500
        assert await end_of(host.port, authorization="Basic dTpw") == 4500

    async def test_it_is_not_taken_from_the_url(self, host: Host) -> None:
        query = f"?token={sign(claims())}&access_token={sign(claims())}"
        status, _, _ = await asked(host.port, "GET", f"/api/jobs/mine:1{query}")
        assert status == 401
        async with connect(host.port) as raw:
            await _upgrade(raw, f"/ws{query}")
            await raw.send(command("subscribe", jobs=["mine:1"]))
            assert await Client(raw).ending() == 4500

    @pytest.mark.parametrize("way", ["hello", "header"])
    async def test_a_right_one_shows_ones_own_jobs_alone(self, host: Host, way: str) -> None:
        token = sign(claims())
        headers = {"authorization": f"bearer {token}"} if way == "header" else {}
        async with connect(host.port) as raw:
            await _upgrade(raw, **headers)
            client = Client(raw)
            if way == "hello":
                await client.say("hello", token=token)
            await client.say("subscribe", jobs=["mine:1", "theirs:1", "theirs:2"])
            states = {}
            for _ in range(3):
                frame = await client.hear_type("progress")
                states[frame["job"]] = frame["state"] and frame["state"]["percent"]
            assert states == {"mine:1": 10, "theirs:1": None, "theirs:2": None}
            await host.publish("theirs:2", percent=50)
            await host.publish("mine:1", percent=50)
            assert (await client.hear_type("progress"))["job"] == "mine:1"

    async def test_http_shows_and_takes_ones_own_jobs_alone(self, host: Host) -> None:
        shown = {"authorization": f"Bearer {sign(claims())}"}
        assert (await asked(host.port, "GET", "/api/jobs/mine:1", **shown))[0] == 200
        hidden, absent = [
            await asked(host.port, "GET", f"/api/jobs/{job}", **shown)
            for job in ("theirs:1", "mine:2")
        ]
        assert hidden[0] == 404
        assert {**hidden[1], "date": ""} == {**absent[1], "date": ""}
        assert hidden[2] == absent[2]
        _, _, page = await asked(host.port, "GET", "/api/jobs", **shown)
        assert [job["job"] for job in page["jobs"]] == ["mine:1"]
        for path in ("?prefix=theirs:", "?prefix=t", "?prefix=n"):
            _, _, page = await asked(host.port, "GET", f"/api/jobs{path}", **shown)
            assert page == {"jobs": [], "next": None}
        # What its patterns have in common is not theirs: there are jobs at `t`, none at `n`.
        shared = {"authorization": f"Bearer {sign(claims(watch=['them:*', 'theirs:9']))}"}
        for number in range(12):
            await host.publish(f"theirs:secret-{number}", percent=1)
        for prefix in ("theirs:secret", "theirs:s", "theirs:n", "the", ""):
            path = f"/api/jobs?limit=1&prefix={prefix}"
            _, _, page = await asked(host.port, "GET", path, **shared)
            assert page == {"jobs": [], "next": None}
        for job, status in (("mine:9", 200), ("theirs:1", 403), ("theirs:9", 403)):
            answer = await asked(host.port, "POST", f"/api/jobs/{job}", {}, **shown)
            assert answer[0] == status

    async def test_a_hidden_job_is_waited_for_like_an_absent_one(self, host: Host) -> None:
        shown = {"authorization": f"Bearer {sign(claims())}"}
        for job in ("theirs:1", "mine:2"):
            start = trio.current_time()
            path = f"/api/jobs/{job}?wait=0.3"
            assert (await asked(host.port, "GET", path, **shown))[0] == 404
            assert 0.3 <= trio.current_time() - start < 1

    async def test_one_who_only_watches_cannot_publish(self, host: Host) -> None:
        shown = {"authorization": f"Bearer {sign(claims(publish=[]))}"}
        for job in ("mine:1", "theirs:1"):
            answer = await asked(host.port, "POST", f"/api/jobs/{job}", {}, **shown)
            assert answer[0] == 403

    async def test_health_and_page_need_none(self, host: Host) -> None:
        for path in ("/healthz", "/readyz"):
            assert (await asked(host.port, "GET", path))[0] == 200
        async with connect(host.port) as raw:
            await raw.send(b"GET / HTTP/1.1\r\nhost: progress.example\r\n\r\n")
            assert (await raw.head())[0] == 200


class TestRevoking:
    async def test_ones_own_and_by_right_those_of_others(self, host: Host) -> None:
        async with connect(host.port) as raw:
            token = sign(claims(jti="a"))
            await _upgrade(raw)
            await raw.send(command("hello", token=token))
            client = Client(raw)
            await client.hear_type("welcome")
            ways: list[tuple[Claims, int]] = [
                (claims(jti="b"), 403),
                (claims(revoke=True), 200),
            ]
            for other, expected in ways:
                start = trio.current_time()
                status, _, _ = await asked(
                    host.port, "POST", "/api/revocations", {"id": "a"},
                    authorization=f"Bearer {sign(other)}",
                )  # fmt: skip
                assert status == expected
            assert await client.ending() == 4502
            assert trio.current_time() - start < 1
        shown = {"authorization": f"Bearer {sign(claims(jti='c'))}"}
        done = await asked(host.port, "POST", "/api/revocations", {"id": "c"}, **shown)
        assert done[0] == 200

    async def test_it_lasts_for_ever_or_as_long_as_was_said(self, host: Host) -> None:
        may = {"authorization": f"Bearer {sign(claims(revoke=True))}"}

        async def revoke(id_: str, **until: float) -> tuple[int, Json]:
            body = {"id": id_, **until}
            status, _, answer = await asked(host.port, "POST", "/api/revocations", body, **may)
            return status, answer

        later = time.time() + 600
        assert await revoke("a") == (200, {"id": "a", "until": None})
        assert await revoke("b", until=later) == (200, {"id": "b", "until": later})
        assert (await revoke("d", until=time.time() - LEEWAY / 2))[0] == 200  # good for as long
        for over in (0, time.time() - LEEWAY):
            status, answer = await revoke("c", until=over)
            assert (status, answer["field"]) == (400, "until")
        centuries = sign(claims(jti="a", exp=time.time() + 1e10))
        shown = {"authorization": f"Bearer {centuries}"}
        assert (await asked(host.port, "GET", "/api/jobs", **shown))[0] == 401

    @pytest.mark.parametrize("body", [{}, {"id": ""}, {"id": 7}, {"id": "x" * 201}, {"di": "a"}])
    async def test_what_is_none_is_named(self, host: Host, body: Json) -> None:
        shown = {"authorization": f"Bearer {sign(claims(revoke=True))}"}
        status, _, problem = await asked(host.port, "POST", "/api/revocations", body, **shown)
        assert (status, problem["field"]) == (400, "id")


class TestOrigins:
    FOREIGN = ("null", "https://other.example", "https://shop.example.evil", "http://127.0.0.1:1")

    @pytest.mark.parametrize("origin", FOREIGN)
    async def test_pages_of_other_origins_are_accepted_and_closed(
        self, host: Host, origin: str
    ) -> None:
        token = sign(claims())
        code = await end_of(host.port, command("hello", token=token), origin=origin)
        assert code == 4501

    @pytest.mark.parametrize("origin", FOREIGN)
    async def test_their_requests_are_403(self, host: Host, origin: str) -> None:
        shown = {"authorization": f"Bearer {sign(claims())}", "origin": origin}
        for method, path in (
            ("POST", "/api/jobs/mine:1"),
            ("GET", "/api/jobs/mine:1"),
            ("GET", "/api/events?job=mine:1"),
        ):
            status, headers, problem = await asked(host.port, method, path, {}, **shown)
            assert (status, problem["status"]) == (403, 403)
            assert "access-control-allow-origin" not in headers

    async def test_pages_of_allowed_origins_may_and_may_read(self, host: Host) -> None:
        for origin in ("http://127.0.0.1", "https://shop.example"):
            shown = {"authorization": f"Bearer {sign(claims())}", "origin": origin}
            status, headers, _ = await asked(host.port, "GET", "/api/jobs/mine:1", **shown)
            assert status == 200
            if origin.startswith("https"):
                assert headers["access-control-allow-origin"] == origin
            async with connect(host.port) as raw:
                await _upgrade(raw, **shown)
                await raw.send(command("ping"))
                assert await Client(raw).hear_type("pong")

    async def test_a_preflight_is_answered(self, host: Host) -> None:
        for origin, status in (("https://shop.example", 200), ("https://other.example", 400)):
            answer = await asked(
                host.port, "OPTIONS", "/api/jobs/mine:1", origin=origin,
                access_control_request_method="POST",
                access_control_request_headers="authorization",
            )  # fmt: skip
            assert answer[0] == status


class TestWithoutKeys:
    """On the loopback, without tokens: what protects is the address, and so the origin."""

    async def test_a_page_of_the_web_gets_nothing(self) -> None:
        async with HOSTS["listener"](LIMITS) as host:
            foreign = {"origin": "https://evil.example"}
            post = await asked(host.port, "POST", "/api/jobs/a", {}, **foreign)
            assert post[0] == 403
            assert await end_of(host.port, command("ping"), **foreign) == 4501

    async def test_nor_one_whose_name_was_turned_to_us(self) -> None:
        async with HOSTS["listener"](LIMITS) as host:
            rebound = {"host": f"evil.example:{host.port}"}
            rebound["origin"] = f"http://{rebound['host']}"
            assert (await asked(host.port, "GET", "/api/jobs", **rebound))[0] == 403
            del rebound["origin"]
            assert (await asked(host.port, "GET", "/api/jobs", **rebound))[0] == 403
            assert await end_of(host.port, command("ping"), **rebound) == 4501

    async def test_a_token_is_not_minded(self) -> None:
        async with HOSTS["listener"](LIMITS) as host, connect(host.port) as raw:
            await _upgrade(raw, authorization="Bearer nonsense")
            client = Client(raw)
            await client.say("hello", token="nonsense")  # noqa: S106 - of a test
            await client.say("ping")
            assert await client.hear_type("pong")

    @pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0"])
    async def test_no_other_address_without_being_told(self, bind: str) -> None:
        with pytest.RaisesGroup(
            pytest.RaisesExc(InvalidSettings, match="--keys.*--insecure"), flatten_subgroups=True
        ):
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_gateway, bind)

    async def test_insecure_by_name(self) -> None:
        async with trio.open_nursery() as nursery:
            gateway: Gateway = await nursery.start(_serve_insecurely)
            port = gateway.addresses[0][1]
            status, _, _ = await asked(port, "GET", "/api/jobs", host="anything.example")
            assert status == 200
            nursery.cancel_scope.cancel()


async def _serve_insecurely(*, task_status: trio.TaskStatus[Gateway]) -> None:
    await serve_gateway("0.0.0.0:0", insecure=True, task_status=task_status)


class TestInside:
    async def test_publishing_can_be_moved_to_an_internal_address(self) -> None:
        async def serve(*, task_status: trio.TaskStatus[Gateway]) -> None:
            await serve_gateway(
                "127.0.0.1:0",
                gate=open_gate(secret=SECRET),
                internal=Internal("127.0.0.1:0"),
                task_status=task_status,
            )

        shown = {"authorization": f"Bearer {sign(claims())}"}
        async with trio.open_nursery() as nursery:
            gateway: Gateway = await nursery.start(serve)
            public, inside = gateway.addresses[0][1], gateway.internal_addresses[0][1]
            refused = await asked(public, "POST", "/api/jobs/mine:1", {}, **shown)
            assert refused[0] == 405
            assert (await asked(inside, "POST", "/api/jobs/mine:1", {}))[0] == 401
            done = await asked(inside, "POST", "/api/jobs/mine:1", {}, **shown)
            assert done[0] == 200
            for port, status in ((public, 200), (inside, 404)):
                async with connect(port) as raw:
                    await raw.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                    assert (await raw.head())[0] == status
            nursery.cancel_scope.cancel()
