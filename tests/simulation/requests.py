"""The clients that send requests to jobs: to cancel, to pause, or with a verb that no job accepts.
Each uses the HTTP API of some node, repeats a request that has no response, and sometimes names an
attempt that has ended. They also send requests to groups and to children of groups. `held_requests`
checks the effects.
"""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio
from attrs import define

from .checks import Violated
from .clients import Gone, request

if TYPE_CHECKING:
    from .world import World

__all__ = ["RequestClient"]


@define(eq=False)
class RequestClient:
    """A client that sends requests."""

    name: str
    world: World
    rng: random.Random
    _number: int = 0

    async def run(self) -> None:
        """Runs until cancelled, or until the run is about to come to rest."""
        while not self.world.quiescing:
            await trio.sleep(self.rng.uniform(0.2, 4.0))
            job = self.rng.choice(self.world.jobs_to_ask)
            self._number += 1
            id_ = f"{self.name}-{self._number}"
            verb = self.rng.choice(["cancel", "cancel", "pause", "resume"])
            body: dict[str, Any] = {"verb": verb, "id": id_}
            newest = self.world.checks.attempts.get(job)
            if newest is not None and self.rng.random() < 0.5:
                body["attempt"] = max(1, newest - self.rng.randint(0, 1))
            self.world.checks.request_target[id_] = job
            self.world.checks.request_attempt[id_] = body.get("attempt")
            for _ in range(self.rng.randint(1, 5)):
                if await self._send_request(job, body):
                    break
                await trio.sleep(self.rng.uniform(0.1, 1.0))

    async def _send_request(self, job: str, body: dict[str, Any]) -> bool:
        """Sends one request. Returns whether there was a response."""
        host = self.world.some_host(self.rng)
        if host is None:
            return False
        before = self.world.held.now
        with trio.move_on_after(8), suppress(Gone):
            status, _, answer = await request(
                host, "POST", f"/api/jobs/{job}/requests", body=json.dumps(body).encode()
            )
            result = json.loads(answer)
            self.world.note(f"{self.name} asks {job} {body} -> {status} {result}")
            if status in (200, 202):
                if result["attempt"] != body.get("attempt", result["attempt"]):
                    raise Violated(f"never back: a request {body} was taken by {result}")
                violation = self.world.held.left_out(before, job, body["id"], body["verb"])
                if violation is not None:
                    raise Violated(violation)
                return True
            if status in (404, 409):
                return True
            if status != 503:
                raise Violated(f"no trouble: a request is answered {status} {answer!r}")
        return False
