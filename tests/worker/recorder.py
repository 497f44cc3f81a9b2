"""A gateway in a thread of its own, and a record of all its events, for tests without Trio."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable

import msgspec
import trio

from gateway import Gateway, Limits, serve_gateway
from gateway.model.limits import DEFAULT_LIMITS
from gateway.model.state import State

from .fake_gateway import DEADLINE

__all__ = ["Recorder"]


class Recorder:
    """`url` is where the gateway is."""

    url: str

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._states: dict[str, list[State]] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,))
        self._thread.start()
        assert self._ready.wait(DEADLINE)

    def states(
        self, job: str, condition: Callable[[State], bool] = lambda state: state.final
    ) -> list[State]:
        """Returns the states of `job` so far, as soon as the newest fulfils the condition."""

        def reached() -> bool:
            return job in self._states and condition(self._states[job][-1])

        with self._changed:
            assert self._changed.wait_for(reached, DEADLINE), self._states.get(job)
            return list(self._states[job])

    def first(self, job: str, number: int) -> list[State]:
        """Returns the states of `job`, as soon as there are this many."""
        with self._changed:
            there = self._changed.wait_for(
                lambda: len(self._states.get(job, ())) >= number, DEADLINE
            )
            assert there, self._states
            return list(self._states[job])

    def send_request(self, job: str, verb: str) -> None:
        """Sends a request to the worker of `job`."""
        body = msgspec.json.encode({"verb": verb})
        url = f"{self.url}/api/jobs/{job}/requests"
        urllib.request.urlopen(url, body, timeout=DEADLINE).close()  # noqa: S310 - ours

    @property
    def jobs(self) -> set[str]:
        with self._changed:
            return set(self._states)

    def close(self) -> None:
        trio.from_thread.run_sync(self._scope.cancel, trio_token=self._token)
        self._thread.join(DEADLINE)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            gateway: Gateway = await nursery.start(serve_gateway, "127.0.0.1:0", None, self._limits)
            async with gateway.node.broker.feed() as feed:
                self.url = gateway.url
                self._ready.set()
                async for events in feed:
                    with self._changed:
                        for event in events:
                            self._states.setdefault(event.job, []).append(event.state)
                        self._changed.notify_all()
