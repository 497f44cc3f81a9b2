"""Groups, sets and requests with a client that only parses JSON; sets over each transport.

The test does what a page does that shows a user's jobs, including later ones, and stops one of
them."""

from __future__ import annotations

import httpx

from gateway import Gateway

from .client import Json, WebSocketClient, open_client
from .hosts import Host


async def newest_frames(client: WebSocketClient, *wanted: str) -> dict[str, Json]:
    """Returns the newest frame of the set (by its prefix) and of each job, as soon as all are
    there."""
    frames: dict[str, Json] = {}
    while not frames.keys() >= set(wanted):
        frame = await client.receive()
        frames[frame.get("job") or frame["prefix"]] = frame
    return frames


async def test_a_set_shows_jobs_that_begin_later_and_their_ends(host: Host) -> None:
    await host.publish("user:7:one", percent=10)
    await host.publish("user:70:no", percent=10)
    async with open_client(host.port) as client:
        assert (await client.receive())["type"] == "welcome"
        await client.send("watch_set", id="mine", prefix="user:7:", limit=2)
        first_frame = (await newest_frames(client, "user:7:", "user:7:one"))["user:7:"]
        assert (first_frame["id"], first_frame["prev"], first_frame["snapshot"]) == (
            "mine",
            None,
            True,
        )
        assert (first_frame["total"], first_frame["jobs"]) == (1, ["user:7:one"])
        position = first_frame["seq"]

        for name in ("two", "three"):  # one more than the limit
            await host.publish(f"user:7:{name}", percent=0)
            frames = await newest_frames(client, "user:7:", f"user:7:{name}")
            assert frames["user:7:"]["prev"] == position
            position = frames["user:7:"]["seq"]
        assert frames["user:7:"]["jobs"] == ["user:7:three", "user:7:two"]
        assert (frames["user:7:"]["total"], frames["user:7:"]["counts"]["running"]) == (3, 3)

        await host.publish("user:7:one", status="succeeded")  # not shown any more
        frames = await newest_frames(client, "user:7:", "user:7:one")
        assert frames["user:7:one"]["state"]["status"] == "succeeded"
        assert frames["user:7:"]["counts"]["succeeded"] == 1

        await client.send("unwatch_set", id="mine")
        assert await client.request("ping") == {"type": "pong"}
        await host.publish("user:7:four", percent=0)
        await client.request("subscribe", jobs=["user:7:four"])
        assert (await client.receive())["snapshot"] is True  # the first frame of this job


async def test_a_group_is_stopped_and_opened_again(gateway: Gateway, port: int) -> None:
    async with open_client(port) as client:
        assert (await client.receive())["type"] == "welcome"
        await gateway.publish("batch:1", children=2, accepts=("cancel",))
        await gateway.publish("batch:1/a", status="succeeded")
        await gateway.publish("batch:1/b", percent=50, accepts=("cancel",))
        await client.request("subscribe", jobs=["batch:1"])
        state = (await newest_frames(client, "batch:1"))["batch:1"]["state"]
        assert (state["percent"], state["accepts"]) == (75, ["cancel"])
        assert state["children"] == {
            "expected": 2, "queued": 0, "running": 1, "succeeded": 1, "failed": 0, "cancelled": 0,
        }  # fmt: skip

        async with httpx.AsyncClient(trust_env=False) as http:
            url = f"http://127.0.0.1:{port}/api/jobs/batch:1"
            answer = await http.post(f"{url}/requests", json={"verb": "cancel", "id": "r"})
            assert (answer.status_code, answer.json()["applied"]) == (202, True)
            second_answer = await http.post(f"{url}/requests", json={"verb": "cancel", "id": "r"})
            assert (second_answer.status_code, second_answer.json()["applied"]) == (200, False)
            heard = await http.post(f"{url}/b", json={"ack": "r", "status": "cancelled"})
            assert heard.json()["applied"] is True
            while state["status"] == "running":
                state = (await newest_frames(client, "batch:1"))["batch:1"]["state"]
            assert (state["status"], state["request"]["id"]) == ("cancelled", "r")
            late = await http.post(f"{url}/requests", json={"verb": "cancel"})
            assert (late.status_code, late.json()["code"]) == (409, "final")

        await gateway.publish("batch:1/b", start=True, percent=0)
        state = (await newest_frames(client, "batch:1"))["batch:1"]["state"]
        assert (state["attempt"], state["percent"], state["accepts"]) == (2, 50, ["cancel"])
        assert "request" not in state
