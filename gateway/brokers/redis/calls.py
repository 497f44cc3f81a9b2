"""The pool of a shard's connections (links) for calls, which go only to the server of the feed.

The poller of the feed decides which server may be called (`allow`). After a server was restarted or
replaced, it may lack states that clients have seen. Until the poller has restored them, calls raise
`WrongServer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import trio
from redis import RedisError
from redis.exceptions import AskError, MovedError, ResponseError

from .keys import Shard
from .links import Command, Connector, Link, raise_errors, run_script, run_scripts
from .scripts import Script

__all__ = ["Calls", "WrongServer"]

T = TypeVar("T")

WRONG_GENERATION = "GENERATION"
"""The first word of the error that a script returns if it was called for another generation of the
jobs."""


class WrongServer(RedisError):
    """The server is not the one that the feed uses. A check of the feed was requested."""


class Calls:
    """Calls to one shard.

    Args:
        connector: Makes the connections.
        shard: The shard.
        limiter: Limits the number of concurrent calls.
        on_wrong_server: Called if the server or the generation is not that of the feed.
    """

    def __init__(
        self,
        connector: Connector,
        shard: Shard,
        limiter: trio.CapacityLimiter,
        *,
        on_wrong_server: Callable[[Shard], None],
    ) -> None:
        self.limiter = limiter
        self._connector = connector
        self.shard = shard
        self._on_wrong_server = on_wrong_server
        self._idle: list[Link] = []
        self._allowed: tuple[bytes, int] | None = None
        """The server that may be called, and its generation of the jobs."""
        self._feed_is_open = False

    @property
    def ready(self) -> bool:
        """Whether calls may be made: to the allowed server, or, if no feed is open, to any."""
        return self._allowed is not None or not self._feed_is_open

    def close(self) -> None:
        """Closes the idle connections."""
        for link in self._idle:
            link.close()
        self._idle.clear()

    def refuse_all(self, *, unless: tuple[bytes, int] | None = None) -> None:
        """Refuses all calls until `allow`, `unless` another feed of this process has already
        allowed this server and generation."""
        if unless is None or self._allowed != unless:
            self._allowed = None
        self._feed_is_open = True

    def allow(self, server: bytes, generation: int) -> None:
        """Allows calls to this server, in this generation of the jobs."""
        self._allowed = server, generation

    def allow_any_server(self) -> None:
        """Allows calls to any server, because no feed is open any more."""
        self._allowed, self._feed_is_open = None, False

    async def read(
        self, commands: Sequence[Command], convert: Callable[[list[Any]], T]
    ) -> tuple[int, T]:
        """Runs commands. Returns the current generation, and `convert` of the answers. One round
        trip."""

        def with_generation(answers: list[Any]) -> tuple[int, T]:
            generation, *rest = answers
            return int(*raise_errors([generation or 0])), convert(rest)

        async def execute(link: Link) -> Any:
            get_generation = ("HGET", self.shard.counters, "generation")
            return await link.execute([get_generation, *commands], with_generation)

        allowed = self._allowed
        result: tuple[int, T] = await self._on_link(execute)
        if allowed is not None and result[0] != allowed[1]:
            self._raise_wrong_server()
        return result

    async def run(self, script: Script, jobs: Sequence[str], *arguments: Any) -> Any:
        """Runs a script for these jobs, and returns its answer."""
        allowed = self._allowed
        generation = allowed[1] if allowed is not None else ""

        async def execute(link: Link) -> Any:
            return await run_script(link, script, self.shard.keys(*jobs), [generation, *arguments])

        try:
            return await self._on_link(execute)
        except ResponseError as error:
            if str(error).startswith(WRONG_GENERATION):
                self._raise_wrong_server()
            raise

    async def run_many(
        self, script: Script, calls: Sequence[tuple[str, Sequence[Any]]]
    ) -> list[Any]:
        """Calls a script for one job after the other, in one round trip, and returns the answers.
        An answer that is an error is a `ResponseError` in its place."""
        allowed = self._allowed
        generation = allowed[1] if allowed is not None else ""

        async def execute(link: Link) -> Any:
            return await run_scripts(
                link, script, [(self.shard.keys(job), [generation, *args]) for job, args in calls]
            )

        answers: list[Any] = await self._on_link(execute)
        for answer in answers:
            if isinstance(answer, MovedError | AskError):
                self.close()
            elif isinstance(answer, ResponseError) and str(answer).startswith(WRONG_GENERATION):
                self._raise_wrong_server()
        return answers

    async def _on_link(self, execute: Callable[[Link], Any]) -> Any:
        allowed = self._allowed
        if self._feed_is_open and allowed is None:
            raise WrongServer("the feed is not being read")
        try:
            answer = await self._attempt(execute)
        except (MovedError, AskError):  # in a cluster the slot has moved to another server
            self.close()
            answer = await self._attempt(execute)
        if allowed is not None and self._allowed != allowed:
            raise WrongServer("another server has taken over meanwhile")
        return answer

    async def _attempt(self, execute: Callable[[Link], Any]) -> Any:
        link = await self._get_link()
        try:
            answer = await execute(link)
        except ResponseError:
            self._idle.append(link)
            raise
        except BaseException:  # also a cancelled call: an answer may still be on its way
            link.close()
            raise
        self._idle.append(link)
        return answer

    async def _get_link(self) -> Link:
        while self._idle:
            link = self._idle.pop()
            if link.alive and self._is_right_server(link):
                return link
            link.close()
        link = await self._connector.connect(self.shard.feed, name="", limiter=self.limiter)
        if not self._is_right_server(link):
            link.close()
            self._raise_wrong_server()
        return link

    def _is_right_server(self, link: Link) -> bool:
        return self._allowed is None or link.server == self._allowed[0]

    def _raise_wrong_server(self) -> NoReturn:
        self.close()
        self._on_wrong_server(self.shard)
        raise WrongServer("another server answers than the one that the feed is read from")
