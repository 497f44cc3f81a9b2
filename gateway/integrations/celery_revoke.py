"""Revokes Celery tasks because a client has requested to cancel their jobs.

A pool of processes replaces each process that it terminates, which takes about half a second. So if
a whole group was cancelled, its tasks that wait in a worker are revoked there before they begin.

    in the task's process    `request_revocation` sends Celery's worker the command `COMMAND`
    in the worker's main     `Revocations` revokes the task. If the task began after the worker had
                             received the same request for another task of its group, the request
                             is one to the group, and the gateway would send it to every task of the
                             group that begins: then those that wait are revoked too, and for
                             `GROUP_REVOCATION_TIME` seconds those that the worker receives
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic, sleep
from typing import Any

from celery import Celery

from .celery_groups import group_of

__all__ = ["Revocations", "request_revocation", "send_until_answered"]

_log = logging.getLogger("gateway.worker")
COMMAND = "gateway_cancel"
FIRST_RESPONSE_TIMEOUT, MAX_RESPONSE_TIMEOUT = 1.0, 60.0
"""The number of seconds to wait for a worker's response before a task is revoked again; doubled
each time."""
GROUP_REVOCATION_TIME = 5.0
"""Seconds for which the tasks of a cancelled group are revoked when they are received. After that,
the next one begins and is cancelled by the gateway, which shows that the group still is."""
MAX_REQUESTS = 1_000
"""Requests that a worker remembers."""


def request_revocation(
    app: Celery, worker: str, needed: Callable[[], bool], **arguments: Any
) -> None:
    """Sends `COMMAND` to a worker in a thread, because it waits for Celery's broker. The arguments
    are those of `Revocations.revoke`."""
    command = partial(
        app.control.broadcast, COMMAND, arguments=arguments, destination=[worker], reply=True
    )
    threading.Thread(
        target=send_until_answered, args=(command, needed), daemon=True, name="gateway-revoke"
    ).start()


def send_until_answered(
    command: Callable[..., list[Any] | None],
    needed: Callable[[], bool],
    *,
    sleep: Callable[[float], object] = sleep,
) -> None:
    """Sends a command of Celery, `command(timeout=seconds)`, until a worker answers it or it is no
    longer `needed`. Celery's broker drops commands while a worker is not connected, such as one
    that has just started."""
    timeout = FIRST_RESPONSE_TIMEOUT
    while needed():
        try:
            if command(timeout=timeout):
                return
            _log.warning("a Celery worker has not answered a command within %g s", timeout)
        except Exception as error:  # noqa: BLE001 - of whichever broker the app has
            _log.warning("cannot send a command to a Celery worker: %r", error)
            sleep(timeout)
        timeout = min(2 * timeout, MAX_RESPONSE_TIMEOUT)


class Revocations:
    """Revokes the tasks that a worker has, in its main process.

    Args:
        accepts: Returns whether a task may be cancelled.
        cancelled: Reports a request of Celery that was revoked before it began.
        clock: The clock of `began`, which all processes of the worker share.
    """

    def __init__(
        self,
        accepts: Callable[[Any], bool],
        cancelled: Callable[[Any], object],
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._accepts = accepts
        self._report_cancelled = cancelled
        self._clock = clock
        self._first_command_at: dict[str, float] = {}
        """When the first command of each request was received."""
        self._state: Any = None
        self._revoked_until: dict[str, float] = {}
        """The cancelled groups, and until when their tasks are revoked when they are received."""

    def install(self) -> None:
        """Registers the command, and reports each task that is revoked before it begins. Celery
        sends its own signal only when the task would begin."""
        from celery.worker import control, state  # not in a program that only publishes tasks

        self._state = state
        panel: dict[str, Any] = control.Panel.data
        revoke = panel["revoke"]

        def revoke_and_report(consumer: Any, task_id: Any, *args: Any, **kwargs: Any) -> Any:
            answer = revoke(consumer, task_id, *args, **kwargs)
            for one_id in [task_id] if isinstance(task_id, str) else task_id or []:
                request = state.requests.get(one_id)
                if request is not None and not self._was_started(request):
                    self._report_cancelled(request)
            return answer

        panel["revoke"] = revoke_and_report
        panel[COMMAND] = partial(self.revoke, revoke_and_report)

    def revoke(
        self,
        revoke: Callable[..., Any],
        consumer: Any,
        task_id: str,
        *,
        terminate: bool,
        group: str | None,
        request: str,
        began: float,
        **_: Any,
    ) -> Any:
        """Revokes a task that has received a request to cancel its job, and perhaps its group.

        Args:
            revoke: Celery's own command.
            consumer: The state that Celery passes to each command.
            task_id: The task.
            terminate: Whether its process must be terminated.
            group: The name of its group.
            request: The id of the request.
            began: When the task began.
        """
        reply = revoke(consumer, task_id, terminate=terminate)
        now = self._clock()
        first_command_at = self._first_command_at.setdefault(request, now)
        if len(self._first_command_at) > MAX_REQUESTS:
            del self._first_command_at[next(iter(self._first_command_at))]
        if group is not None and began > first_command_at:
            self._revoked_until = {
                name: until for name, until in self._revoked_until.items() if until > now
            }
            self._revoked_until[group] = now + GROUP_REVOCATION_TIME
            waiting_ids = [
                waiting.id
                for waiting in list(self._state.requests.values())
                if not self._was_started(waiting) and self._is_cancelled(waiting)
            ]
            revoke(consumer, waiting_ids)
        return reply

    def on_received(self, request: Any) -> None:
        """Lets Celery discard a task that the worker has received, if its group was cancelled."""
        if self._is_cancelled(request):
            self._state.revoked.add(request.id)

    def _was_started(self, request: Any) -> bool:
        """Returns whether the pool has received a task. Then the task runs in spite of a
        revocation, unless its process is terminated."""
        handed_over = getattr(request, "_apply_result", None) is not None
        return handed_over or request in self._state.active_requests

    def _is_cancelled(self, request: Any) -> bool:
        until = self._revoked_until.get(group_of(request) or "", 0.0)
        return until > self._clock() and self._accepts(request.task)
