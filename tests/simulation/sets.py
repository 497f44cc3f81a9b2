"""The clients that watch sets: over WebSocket, SSE, and by GET with `wait`. The frames of a set are
checked against docs/protocol.md; `JobStates` of `gateway watch` must agree. A client must receive
the end of each job that it was shown.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import trio
from attrs import define, field, frozen

from gateway.cli.watch.frames import parse_frames
from gateway.cli.watch.job_states import JobStates

from .checks import FINAL, Violated
from .clients import ANSWER_WITHIN, PACE, Line, Watcher, request
from .rights import CHOICES, EVERYTHING, covers, may_watch, token

if TYPE_CHECKING:
    from .hosts import Host

__all__ = ["SetWatcher", "Wanted", "wanted_document"]

PREFIXES = ("", "j", "job:", "job:1", "batch:", "batch:0/", "batch:0/n", "nothing:")
STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")


@frozen
class Wanted:
    """A set that a client watches."""

    prefix: str
    statuses: tuple[str, ...]
    limit: int

    @classmethod
    def draw(cls, rng: random.Random, prefix: str) -> Wanted:
        statuses = rng.choice([STATUSES, STATUSES, ("running",), ("queued", "running"),
                                  ("succeeded", "failed", "cancelled")])  # fmt: skip
        return cls(prefix, statuses, rng.choice([1, 2, 50]))

    @property
    def fields(self) -> dict[str, Any]:
        return {"prefix": self.prefix, "statuses": list(self.statuses), "limit": self.limit}


def wanted_document(wanted: Wanted, states: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a set if these are all jobs: filtered and sorted as documented."""
    jobs = {job: state for job, state in states.items() if job.startswith(wanted.prefix)}
    counts = dict.fromkeys(STATUSES, 0)
    for state in jobs.values():
        counts[state["status"]] += 1

    def place(job: str) -> tuple[bool, float, str]:
        state = jobs[job]
        if state["status"] in FINAL:
            return True, -(state.get("finished_at") or state["updated_at"]), job
        return False, -(state.get("started_at") or state["created_at"]), job

    chosen = sorted((job for job in jobs if jobs[job]["status"] in wanted.statuses), key=place)
    return {"total": len(chosen), "counts": counts, "jobs": chosen[: wanted.limit]}


@define(eq=False, slots=False)
class SetWatcher(Watcher):
    """A client that watches one or two sets (by GET one set). Some also watch a job by its name at
    times, which may be in a set too."""

    sets: dict[str, Wanted] = field(factory=dict)
    """The sets that the client watches, by their prefixes."""
    frames: dict[str, dict[str, Any]] = field(factory=dict)
    """The newest `set` frame, or document, of each."""
    owed: dict[str, set[str]] = field(factory=dict)
    """For each set, the jobs that it shows, and those that it has shown since its snapshot without
    an end: the client must receive the ends of these jobs."""
    named: str | None = None
    """The job that it watches by its name at times."""
    _named_since: float = 0.0
    """Since when it has watched that job, if it does (then `watch.named` has it)."""
    rights: tuple[str, ...] = EVERYTHING
    """The patterns of the jobs that it may watch."""
    _owed_before: set[str] = field(factory=set)
    """Jobs of sets that it has subscribed to again on this connection: their ends may still be
    sent."""
    _dropped: set[str] = field(factory=set)
    """Jobs that it has left. It knows nothing of them any more, and ignores them until it watches
    them by other means and a snapshot has arrived."""
    _tag: str = ""
    _shown_since: dict[str, float] = field(factory=dict)
    """The jobs that the sets show, and since when."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.jobs = []
        self._change_rights()
        prefixes = self.rng.sample(PREFIXES, k=1 if self.kind == "set_get" else 2)
        self.sets = {prefix: Wanted.draw(self.rng, prefix) for prefix in prefixes}
        if self.kind == "set_sse":  # its statuses and limit apply to all
            only_set = next(iter(self.sets.values()))
            self.sets = {p: Wanted(p, only_set.statuses, only_set.limit) for p in prefixes}
        self.watch = JobStates((), prefixes=prefixes)
        if self.kind == "set" and not self.world.scenario.rights and self.rng.random() < 0.5:
            self.named = self.rng.choice(self.world.jobs)

    def _change_rights(self) -> None:
        if self.world.scenario.rights:
            self.rights = self.rng.choice(CHOICES)

    @property
    def token(self) -> str | None:
        return token(self.rights) if self.world.scenario.rights else None

    @property
    def streamed_jobs(self) -> list[str]:
        """The jobs that the client has watched for so long that it must have received their
        states."""
        at = trio.current_time() - PACE
        since = self._shown_since | dict.fromkeys(self.watch.named, self._named_since)
        return [job for job in since if since[job] <= at]

    def resubscribe(self) -> None:
        """Stops changing its subscriptions."""

    def check_pace(self, steady: Mapping[str, str]) -> None:
        """Checks the sets while there is no fault; these jobs have had these statuses for a
        while."""
        for prefix, wanted in self.sets.items():
            frame = self.frames.get(prefix)
            if self._awaited or not covers(prefix, self.rights):
                continue
            for job, status in steady.items():
                if not job.startswith(prefix):
                    continue
                is_shown = frame is not None and job in frame["jobs"]
                if is_shown and status not in wanted.statuses:
                    raise Violated(f"sets: {self.name} is shown the {status} {job} in {wanted}")
                all_ = frame is None or frame["total"] <= wanted.limit
                if not is_shown and all_ and status in wanted.statuses:
                    raise Violated(f"sets: {self.name} is not shown the {status} {job} in {wanted}")

    def check_rest(self, states: Mapping[str, Any]) -> None:
        """Checks the sets at rest. `states` are those of all jobs in `GET /api/jobs`."""
        for prefix, wanted in self.sets.items():
            frame = self.frames.get(prefix)
            shown_set = frame and {name: frame[name] for name in ("total", "counts", "jobs")}
            expected_set = wanted_document(wanted, states if covers(prefix, self.rights) else {})
            if shown_set != expected_set or (frame and frame.get("more")):
                raise Violated(
                    f"sets: {self.name} shows {wanted} as {shown_set}, not {expected_set}"
                )
            if self.kind == "set_get":
                continue
            for job in frame["jobs"] if frame else ():
                if self.reference.shown.get(job) != states[job]:
                    known_state = self.reference.shown.get(job)
                    raise Violated(
                        f"sets: {self.name} shows {job} as {known_state}, not {states[job]}"
                    )
            for job in self.owed.get(prefix, ()):
                state, known_state = states.get(job), self.reference.shown.get(job)
                if state is not None and state["status"] in FINAL and known_state != state:
                    raise Violated(
                        f"sets: {self.name} was shown {job} in {prefix!r}, and is not told its "
                        f"end: it has {known_state}, and there is {state}"
                    )

        for job in self.watch.named:
            state, known_state = states.get(job), self.reference.shown.get(job)
            is_lost = job in self.world.checks.lost and (state is None or known_state is None)
            if state != known_state and not is_lost:
                raise Violated(f"sets: {self.name} shows {job} as {known_state}, not {state}")

    # -- streams -----------------------------------------------------------------

    async def _set(self, host: Host) -> None:
        await self._websocket(host)

    def _positions(self) -> dict[str, Any]:
        self._begins()
        return self._some_of(
            {
                job: list(at)
                for job, at in self.watch.positions().items()
                if at[0] is not None and job in self.reference.known
            }
        )

    def _begins(self) -> None:
        """Begins a connection: each set starts with a snapshot, and no ends are outstanding."""
        self._awaited = 0
        self._before.clear()
        self.reference.begin()
        self.frames.clear()
        self.owed.clear()
        self._owed_before.clear()
        self._dropped.clear()
        self._shown_since.clear()

    def _subscribe_to_all(self, line: Line) -> None:
        named_first = self.rng.random() < 0.5
        if named_first and self.watch.named:
            self._watch_by_name(line)
        for wanted in self.sets.values():
            self._send_command(line, {"type": "watch_set", **wanted.fields})
        if not named_first and self.watch.named:
            self._watch_by_name(line)

    def _change_subscriptions(self, line: Line) -> None:
        """Changes the parameters of a set, watches it again, leaves it, sends another token, or
        watches a job by its name or no longer."""
        if self.world.scenario.rights and self.rng.random() < 0.5:
            self._before.update(self.rights)
            self._change_rights()
            self.note(f"may watch {self.rights}")
            self._send_command(line, {"type": "hello", "token": self.token})
            self._await_answer(line)
            return
        if self.named is not None and self.rng.random() < 0.5:
            if self.watch.named:
                self._leave_named(line)
            else:
                self._watch_by_name(line)
            return
        if len(self.sets) > 1 and self.rng.random() < 0.3:
            self._leave_set(line)
            return
        prefix = self.rng.choice(sorted(self.sets))
        self.sets[prefix] = Wanted.draw(self.rng, prefix)
        self.note(f"flips {self.sets[prefix]}")
        if self.rng.random() < 0.5:
            self._send_command(line, {"type": "unwatch_set", "prefix": prefix})
        self._send_command(line, {"type": "watch_set", **self.sets[prefix].fields})
        self._await_answer(line)

    def _leave_set(self, line: Line) -> None:
        prefix = self.rng.choice(sorted(self.sets))
        self.note(f"leaves the set {prefix!r}")
        del self.sets[prefix]
        frame = self.frames.pop(prefix, None)
        left = self.owed.pop(prefix, set())
        self._owed_before |= left
        self._record_shown()
        named = set(self.watch.named)
        others = set().union(*self.owed.values()) - self._shown_since.keys()
        # It may also drop what both this and another set show, because a snapshot follows.
        in_both = set(frame["jobs"]) if frame and self.rng.random() < 0.5 else set()
        keeps = self._shown_since.keys() - in_both
        for job in left - others - named - keeps:
            self._dropped.add(job)
            self.reference.leaves(job)
            self.reference.shown.pop(job, None)
        self._send_command(line, {"type": "unwatch_set", "prefix": prefix})
        self._await_answer(line)

    def _watch_by_name(self, line: Line) -> None:
        assert self.named is not None
        self.note(f"watches {self.named} by its name")
        self.watch.named = (self.named,)
        self._named_since = trio.current_time()
        self._dropped.discard(self.named)
        self._subscribe(line, [self.named])

    def _leave_named(self, line: Line) -> None:
        """Unsubscribes from the job, and forgets it: if a set shows it, a snapshot follows."""
        (job,) = self.watch.named
        self.note(f"leaves {job}")
        self.watch.named = ()
        self.watch._positions.pop(job, None)
        self._dropped.add(job)
        self.reference.leaves(job)
        self.reference.shown.pop(job, None)
        if job not in self._shown_since:  # it does not want to know the end
            for owed in self.owed.values():
                if job in owed:
                    owed.discard(job)
                    self._owed_before.add(job)
        self._ids += 1
        self._awaited = self._ids
        self._changed_at = trio.current_time()
        command = {"type": "unsubscribe", "jobs": [job]}
        if self.rng.random() < 0.5:
            command = {"type": "sync_subscriptions", "jobs": []}
        self._send_command(line, command | {"id": self._ids})

    def _await_answer(self, line: Line) -> None:
        """Stores that frames may belong to the previous parameters until the response to this
        command arrives."""
        self._subscribe(line, list(self.watch.named))
        self._awaited = self._ids

    _before: set[str] = field(factory=set)
    """The previous permissions of the client, as long as frames may belong to them."""
    _awaited: int = 0
    """The number of the command whose response the client waits for; 0 if there is none."""

    def _handle_frame(self, line: Line, frame: dict[str, Any]) -> None:
        if frame["type"] == "set":
            self._handle_set(frame)
            return
        super()._handle_frame(line, frame)
        if frame["type"] == "subscriptions" and frame["id"] == self._awaited:
            self._awaited = 0
            self._before.clear()

    def _handle_set(self, frame: dict[str, Any]) -> None:
        prefix = frame["prefix"]
        if prefix not in self.sets:
            return
        wanted, before = self.sets[prefix], self.frames.get(prefix)
        self.note(f"set {prefix!r} {frame['seq']} {frame['counts']} {frame['jobs']}")
        self.world.checks.frames += 1
        if frame.get("snapshot"):
            self._owed_before |= self.owed.get(prefix, set())
            self.owed[prefix] = set()
        elif (
            before is None
            or (frame["epoch"], frame["prev"]) != (before["epoch"], before["seq"])
            or frame["seq"] <= before["seq"]
        ):
            raise Violated(f"contiguity: {self.name} was sent {frame} after {before}")
        self.frames[prefix] = frame
        owed = {job for job in self.owed[prefix] if not self._is_ended(job)}
        self.owed[prefix] = owed | set(frame["jobs"])
        self._record_shown()
        hidden = [j for j in frame["jobs"] if not may_watch(j, {*self.rights, *self._before})]
        if hidden:
            raise Violated(f"sets: {self.name} may watch {self.rights}, and is shown {hidden}")
        if not self._awaited:
            self._check_set(frame, wanted)
        ((_, parsed),) = parse_frames(json.dumps(frame))
        self.watch.apply_set(parsed)  # type: ignore[arg-type]  # a frame of this type

    def _record_shown(self) -> None:
        shown = [job for frame in self.frames.values() for job in frame["jobs"]]
        now = trio.current_time()
        self._shown_since = {job: self._shown_since.get(job, now) for job in shown}

    def _check_set(self, frame: Mapping[str, Any], wanted: Wanted) -> None:
        """Checks a document of a set."""
        counts, jobs = frame["counts"], frame["jobs"]
        total = sum(counts[status] for status in wanted.statuses)
        others = [job for job in jobs if not job.startswith(wanted.prefix)]
        if any(counts.values()) and not covers(wanted.prefix, self.rights):
            raise Violated(f"sets: {self.name} may watch {self.rights}, and is shown {frame}")
        if frame["total"] != total or len(jobs) != min(total, wanted.limit) or others:
            raise Violated(f"sets: {self.name} asked for {wanted}, and is shown {frame}")

    def _progress(self, line: Line | None, frame: dict[str, Any]) -> None:
        job = frame["job"]
        owed = self._owed_before.union(*self.owed.values())
        owed.update(self.watch.named)
        if job not in owed and not self._awaited:
            raise Violated(f"sets: {self.name} is sent {frame}, which no set has shown")
        if not may_watch(job, {*self.rights, *self._before}):
            raise Violated(f"sets: {self.name} may watch {self.rights}, and is shown {frame}")
        if job in self._dropped:
            # The gateway may not have read the command yet. After it has, it sends a snapshot.
            is_watched = job in self._shown_since or job in self.watch.named
            if not (frame.get("snapshot") and is_watched):
                return
            self._dropped.discard(job)
        super()._progress(line, frame)
        if self._is_ended(job):
            for prefix, jobs in self.owed.items():
                if job not in self.frames[prefix]["jobs"]:
                    jobs.discard(job)

    def _is_ended(self, job: str) -> bool:
        """Returns whether the client received the end, or that the job is unknown."""
        state = self.reference.shown.get(job, {"status": ""})
        return state is None or state["status"] in FINAL

    # -- SSE ---------------------------------------------------------------------

    async def _set_sse(self, host: Host) -> None:
        await self._sse(host)

    def _query(self) -> str:
        self._begins()
        self.watch = JobStates((), prefixes=self.sets)  # a set has no positions
        only_set = next(iter(self.sets.values()))
        statuses = ",".join(only_set.statuses)
        return urlencode(
            {"set": list(self.sets), "statuses": statuses, "limit": only_set.limit}, doseq=True
        )

    def _handle_event(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "set":
            self._handle_set(frame)

    # -- GET -----------------------------------------------------------------------

    async def _set_get(self, host: Host) -> None:
        self.connected = True
        await self._until_unstalled()
        ((prefix, wanted),) = self.sets.items()
        query = {"prefix": prefix, "limit": wanted.limit, "statuses": ",".join(wanted.statuses)}
        headers = {} if self.token is None else {"authorization": f"Bearer {self.token}"}
        if self._tag and self.rng.random() < 0.8:
            headers["if-none-match"] = self._tag
            query["wait"] = 10
        with trio.move_on_after(ANSWER_WITHIN) as deadline:
            status, response_headers, body = await request(
                host, "GET", "/api/sets", query=query, headers=headers
            )
        self._check_answered(deadline, host, f"GET of the set {prefix!r}")
        if status == 200:
            document = json.loads(body)
            self.note(f"set {prefix!r} {document['counts']} {document['jobs']}")
            self._tag = response_headers["etag"]
            self.frames[prefix] = document
            self._check_set(document, wanted)
        elif status not in (304, 503):
            raise Violated(f"no trouble: GET of {wanted} answers {status} {body!r}")
        await trio.sleep(self.rng.uniform(0.2, 2.0) / self.rate_factor)
