"""Executes a client's commands, and keeps its subscriptions.

A session executes a command on the hub and returns the reply; `connection.py` receives commands and
sends replies.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

import trio

from ..auth.connection_auth import ConnectionAuth
from ..model.constants import MAX_SET_LIMIT, MIN_HZ
from ..model.errors import InvalidInput, NodeFull, Unauthorized
from ..model.ids import check_job_id
from ..model.limits import Limits
from ..model.state import UNSEEN, Position
from ..observability.counters import Counters
from ..protocol.commands import (
    Command,
    CommandId,
    Hello,
    Mode,
    Ping,
    Pong,
    Subscribe,
    SyncSubscriptions,
    Unsubscribe,
    UnwatchSet,
    WatchSet,
)
from ..protocol.messages import Message, denial, encode
from .hub import Hub
from .outbox import Outbox
from .quota import QuotaKey
from .session_sets import SessionSets
from .set_registry import SetRegistry
from .set_subscription import SetSubscription
from .topic import Subscription

__all__ = ["Session"]

log = logging.getLogger("gateway.delivery")

_PING, _PONG = encode("ping"), encode("pong")


class Session:
    """One connection's subscriptions. A second connection of the same user has its own session."""

    def __init__(
        self,
        hub: Hub,
        outbox: Outbox,
        *,
        sets: SetRegistry,
        limits: Limits,
        auth: ConnectionAuth,
        counters: Counters,
        address: str = "",
    ) -> None:
        self.outbox = outbox
        self.counters = counters
        self._auth = auth
        self._hub = hub
        self.long_command_lock = hub.long_command_lock
        self._limits = limits
        self._subscriptions: dict[str, Subscription] = {}
        self._denied_jobs: set[str] = set()
        self._positions: dict[str, Position] = {}
        self._sets = SessionSets(
            sets,
            hub,
            outbox,
            limits=limits,
            auth=auth,
            counters=counters,
            by_name=self._subscriptions,
            positions=self._positions,
            quota_key=QuotaKey.at(address, auth.permissions.subject),
        )
        self._pinged_at: float | None = None
        """The time when a JSON `ping` was sent that is not answered yet, on Trio's clock."""

    def __repr__(self) -> str:
        jobs, sets = len(self._subscriptions), len(self._sets)
        return f"<Session of {jobs} jobs, {sets} sets, {self.outbox!r}>"

    async def handle(self, command: Command) -> Message | None:
        """Executes a command if it is allowed; returns the reply, if the command has one.

        It is a checkpoint only if the command has a token.

        Raises:
            InvalidInput: The command is invalid; nothing has changed.
            Unauthorized: The command's token is not valid, or the client has sent no token yet.
        """
        self.counters.commands[type(command)] += 1
        if isinstance(command, Hello):
            return await self._handle_hello(command)
        if self._auth.needs_token:
            raise Unauthorized("a token is needed first: send hello with one")
        match command:
            case Ping(time=True):
                return encode("pong", time=round(time.time(), 3))
            case Ping():
                return _PONG
            case Pong():
                self._record_pong()
                return None
            case SyncSubscriptions():
                return self._change_subscriptions(
                    command.id, add=command.jobs, mode=command.mode, remove_others=True
                )
            case Subscribe():
                return self._change_subscriptions(command.id, add=command.jobs, mode=command.mode)
            case Unsubscribe():
                return self._change_subscriptions(command.id, remove=command.jobs)
            case WatchSet():
                try:
                    self.watch_set(command)
                except NodeFull as error:
                    raise InvalidInput(str(error), code=error.code) from None
                return None
            case UnwatchSet():
                self._sets.unwatch(command)
                return None

    def watch_initial(
        self,
        positions: Mapping[str, Position | None],
        sets: Sequence[WatchSet] = (),
        *,
        mode: Mode = "latest",
        resumed: bool = False,
    ) -> None:
        """Watches the jobs and sets of a request, for clients that cannot send commands.

        `resumed` says that the client may have received states before, whose positions are unknown.
        Jobs and sets over the quota are denied, by the same messages as a command's, and the others
        are watched. Raises `NodeFull` if none is watched.
        """
        self._sets.resumed = resumed
        last_error: NodeFull | None = None
        denied: dict[str, str] = {}
        refused: list[tuple[WatchSet, NodeFull]] = []
        for job, position in positions.items():
            try:
                self.subscribe(job, mode=mode, position=position)
            except NodeFull as error:
                last_error, denied[job] = error, error.code
        for command in sets:
            try:
                self.watch_set(command)
            except NodeFull as error:
                last_error = error
                refused.append((command, error))
        denials = self._denial(self._subscriptions, denied, refused)
        if denials is not None:
            self.outbox.announce(denials)
        if last_error is not None and not self._subscriptions and not len(self._sets):
            raise last_error

    def _denial(
        self,
        added: Iterable[str],
        denied: Mapping[str, str],
        sets: Iterable[tuple[WatchSet | SetSubscription, NodeFull]],
    ) -> Message | None:
        """Returns the messages that deny these jobs and sets; None if there are none."""
        messages: list[Message] = []
        self.counters.protocol_errors.update(denied.values())
        if denied:
            messages.append(denial(denied, added=added))
        for watch, error in sets:
            self.counters.protocol_errors[error.code] += 1
            id_ = {} if watch.id is None else {"id": watch.id}
            messages.append(
                encode("error", code=error.code, message=str(error), prefix=watch.prefix, **id_)
            )
        texts = [text for message in messages for text in message.texts]
        return Message(texts) if texts else None

    def _apply_permissions(self) -> Message | None:
        """Subscribes again to the jobs and sets that the client's new permissions allow or deny,
        unlike the old ones. A job that it may not watch looks like one that was never reported.

        Returns the denial of jobs and sets over the quota, which are no longer watched.
        """
        denied: dict[str, str] = {}
        self._sets.quota_key = QuotaKey(
            self._sets.quota_key.network, self._auth.permissions.subject
        )
        suspended = self._sets.suspend()
        for job, subscription in list(self._subscriptions.items()):
            if (job in self._auth.permissions.watch) == (job in self._denied_jobs):
                self._unsubscribe(job)
                try:
                    self.subscribe(job, mode=subscription.mode, position=None)
                except NodeFull as error:
                    denied[job] = error.code
        refused = self._sets.resume(suspended)
        return self._denial((), denied, refused)

    def watch_set(self, command: WatchSet) -> None:
        """Watches a set of jobs; its first message is a snapshot. Raises `InvalidInput` and
        `NodeFull`."""
        self._sets.watch(command)

    def subscribe(self, job: str, *, mode: Mode = "latest", position: Position | None) -> None:
        """Watches one job. If it is watched already, changes only the mode.

        A job that the client may not watch looks like one that was never reported, whether it
        exists or not: it gets a separate topic without events. Raises `NodeFull`.
        """
        subscription = self._subscriptions.get(job)
        if subscription is not None:
            subscription.mode = mode
            return
        if job not in self._auth.permissions.watch:
            self._subscriptions[job] = self._hub.subscribe_denied(job, self.outbox, mode=mode)
            self._denied_jobs.add(job)
            return
        subscription = self._sets.subscription(job)
        if subscription is not None:
            self._subscriptions[job] = subscription
            subscription.mode = mode
            subscription.restart()
        else:
            self._subscriptions[job] = self._hub.subscribe(
                job,
                self.outbox,
                mode=mode,
                position=position,
                resumed=self._sets.resumed,
                quota_key=self._sets.quota_key,
            )
        self.counters.subscriptions_opened[position not in (None, UNSEEN)] += 1

    def ping(self) -> None:
        """Sends a JSON `ping`, and remembers when."""
        self._pinged_at = trio.current_time()
        self.outbox.announce(_PING)

    def close(self) -> None:
        """Ends all subscriptions. This is the last thing that a connection does."""
        self._sets.close()
        for job in list(self._subscriptions):
            self._unsubscribe(job)

    def _record_pong(self) -> None:
        pinged_at, self._pinged_at = self._pinged_at, None
        if pinged_at is not None:
            self.counters.ping_round_trips.observe(trio.current_time() - pinged_at)

    async def _handle_hello(self, hello: Hello) -> Message | None:
        self._check_hello(hello)
        denied = None
        if hello.token is not None and self._auth.authenticator.keys is not None:
            await self._auth.authenticate(hello.token)
            denied = self._apply_permissions()
        elif self._auth.needs_token:
            raise Unauthorized("a token is needed first: send hello with one")
        if hello.max_hz is not None:
            self.outbox.limit_rate(hello.max_hz)
        # A client with many jobs sends only as many positions as fit into a message.
        self._sets.resumed = self._sets.resumed or bool(hello.positions)
        self._positions.clear()
        for job, (epoch, seq) in hello.positions.items():
            self._positions[job] = UNSEEN if epoch is None else Position(epoch, seq)
        return denied

    def _check_hello(self, hello: Hello) -> None:
        """Raises `InvalidInput` if a field is out of bounds.

        Called before anything is changed: a hello with an error must not apply its token.
        """
        limits = self._limits
        if hello.max_hz is not None and not MIN_HZ <= hello.max_hz <= limits.max_hz:
            raise InvalidInput(
                f"max_hz is not between {MIN_HZ:g} and {limits.max_hz:g}",
                code="invalid_command",
                field="max_hz",
            )
        max_jobs = limits.max_jobs_per_connection + limits.max_sets_per_connection * MAX_SET_LIMIT
        if len(hello.positions) > max_jobs:
            raise InvalidInput(
                f"positions of more than {max_jobs} jobs", code="invalid_command", field="positions"
            )

    def _change_subscriptions(
        self,
        id_: CommandId,
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        mode: Mode = "latest",
        remove_others: bool = False,
    ) -> Message:
        """Subscribes to the jobs in `add`, unsubscribes from those in `remove`, and returns a
        message that lists the changes."""
        if remove_others:
            keep = set(add)
            remove = [job for job in self._subscriptions if job not in keep]
        removed = [job for job in remove if self._unsubscribe(job)]
        added: list[str] = []
        denied: dict[str, str] = {}
        unchanged = 0
        for job in dict.fromkeys(add):
            # Also if the job is denied: when the client asks again, it has forgotten the position.
            position = self._positions.pop(job, None)
            if job in self._subscriptions:
                unchanged += 1
                self.subscribe(job, mode=mode, position=None)
            elif len(self._subscriptions) >= self._limits.max_jobs_per_connection:
                denied[job] = "too_many_jobs"
            else:
                try:
                    check_job_id(job)
                except InvalidInput as error:
                    denied[job] = error.code
                    continue
                try:
                    self.subscribe(job, mode=mode, position=position)
                except NodeFull as error:
                    denied[job] = error.code
                else:
                    added.append(job)
        self.counters.protocol_errors.update(denied.values())
        level = logging.INFO if added or removed else logging.DEBUG
        if log.isEnabledFor(level):
            counts = {"added": len(added), "removed": len(removed), "unchanged": unchanged}
            log.log(level, "subscriptions changed", extra=counts)
        return encode(
            "subscriptions",
            id=id_,
            added=added,
            removed=removed,
            unchanged=unchanged,
            denied=denied,
        )

    def _unsubscribe(self, job: str) -> bool:
        subscription = self._subscriptions.pop(job, None)
        if subscription is None:
            return False
        if self._sets.subscription(job) is subscription:
            subscription.mode = "latest"
            # The client may have ignored messages since it sent the command.
            subscription.restart()
            return True
        subscription.cancelled = True
        self.outbox.cancel(subscription)
        self._denied_jobs.discard(job)
        self._hub.unsubscribe(subscription)
        return True
