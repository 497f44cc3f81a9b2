"""What one client wants: its commands, and the subscriptions they leave.

Synchronous: a command comes in, the hub is told, the answer comes out. The connection
around it moves the bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from .auth.rights import Rights
from .errors import InvalidInput, NodeFull
from .hub import Hub
from .job import UNSEEN, Position, check_job_id
from .limits import MIN_HZ, Limits
from .outbox import Outbox
from .protocol import (
    Command,
    CommandId,
    Hello,
    Message,
    Mode,
    Ping,
    Pong,
    Subscribe,
    SyncSubscriptions,
    Unsubscribe,
    encode,
)
from .tally import Tally
from .topic import Subscription

__all__ = ["Session"]

log = logging.getLogger("gateway.session")

_PONG = encode("pong")


class Session:
    """One client's subscriptions. Not shared: a second connection of the same user is another."""

    def __init__(
        self, hub: Hub, outbox: Outbox, *, limits: Limits, rights: Rights, tally: Tally
    ) -> None:
        self.outbox = outbox
        self.tally = tally
        self._rights = rights
        self._hub = hub
        self._limits = limits
        self._subscriptions: dict[str, Subscription] = {}
        self._hidden: set[str] = set()
        self._positions: dict[str, Position] = {}

    def __repr__(self) -> str:
        return f"<Session of {len(self._subscriptions)} jobs, {self.outbox!r}>"

    def handle(self, command: Command) -> Message | None:
        """Do what the client asks; returns the answer, if the command has one.

        Raises `InvalidInput` if it asks for what may not be; then nothing has changed.
        """
        self.tally.commands[type(command)] += 1
        match command:
            case Ping():
                return _PONG
            case Pong():
                self._is_answered()
                return None
            case Hello():
                self._greet(command)
                return None
            case SyncSubscriptions():
                return self._change(
                    command.id, wanted=command.jobs, mode=command.mode, remove_others=True
                )
            case Subscribe():
                return self._change(command.id, wanted=command.jobs, mode=command.mode)
            case Unsubscribe():
                return self._change(command.id, unwanted=command.jobs)

    def entitle(self, rights: Rights) -> None:
        """From now on the client has these rights. What it watches appears or disappears
        accordingly: a job beyond its rights looks as if nobody had reported it.

        Raises `NodeFull`; then some of it is watched no more.
        """
        self._rights = rights
        for job, subscription in list(self._subscriptions.items()):
            if (job in rights.watch) == (job in self._hidden):
                self._unsubscribe(job)
                self.subscribe(job, mode=subscription.mode, position=None)

    def subscribe(self, job: str, *, mode: Mode = "latest", position: Position | None) -> None:
        """Watch one job; if it is watched already, in this mode from now on.

        One beyond the client's rights looks as if nobody had reported it, whether
        somebody has or not: it is a topic of its own in which nothing ever happens.
        Raises `NodeFull`.
        """
        known = self._subscriptions.get(job)
        if known is not None:
            known.mode = mode
            return
        if job not in self._rights.watch:
            self._subscriptions[job] = self._hub.hide(job, self.outbox, mode=mode)
            self._hidden.add(job)
            return
        self._subscriptions[job] = self._hub.subscribe(
            job, self.outbox, mode=mode, position=position
        )
        self.tally.subscribed[position not in (None, UNSEEN)] += 1

    def close(self) -> None:
        """Watch nothing any more. The connection's last act."""
        for job in list(self._subscriptions):
            self._unsubscribe(job)

    def _is_answered(self) -> None:
        pinged_at, self.outbox.pinged_at = self.outbox.pinged_at, None
        if pinged_at is not None:
            self.tally.round_trip.observe(trio.current_time() - pinged_at)

    def _greet(self, hello: Hello) -> None:
        if hello.max_hz is not None:
            if not MIN_HZ <= hello.max_hz <= self._limits.max_hz:
                raise InvalidInput(
                    f"max_hz is not between {MIN_HZ:g} and {self._limits.max_hz:g}",
                    code="invalid_command",
                    field="max_hz",
                )
            self.outbox.pace(hello.max_hz)
        if len(hello.positions) > self._limits.max_jobs_per_connection:
            raise InvalidInput(
                f"positions of more than {self._limits.max_jobs_per_connection} jobs",
                code="invalid_command",
                field="positions",
            )
        self._positions = {
            job: UNSEEN if epoch is None else Position(epoch, seq)
            for job, (epoch, seq) in hello.positions.items()
        }

    def _change(
        self,
        id_: CommandId,
        *,
        wanted: Sequence[str] = (),
        unwanted: Sequence[str] = (),
        mode: Mode = "latest",
        remove_others: bool = False,
    ) -> Message:
        """Add the wanted jobs, remove the unwanted ones, and tell what has changed."""
        if remove_others:
            keep = set(wanted)
            unwanted = [job for job in self._subscriptions if job not in keep]
        removed = [job for job in unwanted if self._unsubscribe(job)]
        added: list[str] = []
        denied: dict[str, str] = {}
        unchanged = 0
        for job in dict.fromkeys(wanted):
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
                    self.subscribe(job, mode=mode, position=self._positions.pop(job, None))
                except NodeFull:
                    denied[job] = "too_many_jobs"
                else:
                    added.append(job)
        self.tally.violations.update(denied.values())
        level = logging.INFO if added or removed else logging.DEBUG
        if log.isEnabledFor(level):
            counts = {"added": len(added), "removed": len(removed), "unchanged": unchanged}
            log.log(level, "subscriptions", extra=counts)
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
        subscription.over = True
        self.outbox.unmark(subscription)
        self._hidden.discard(job)
        self._hub.unsubscribe(subscription)
        return True
