"""The scenario of a seed, as values: the participants and the faults with their times. These and
the seed determine the whole run, so a run can be repeated from them, and shrunk by removing faults.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Literal

from attrs import evolve, field, frozen

__all__ = ["Fault", "Kind", "Scenario", "draw"]

Kind = Literal[
    "restart", "rollback", "flush", "evict", "trim", "failover", "refuse_writes", "garbage",
    "link", "reset", "node_kill", "node_pause", "node_drain", "worker_kill", "worker_pause",
    "worker_exit", "zombie", "stall", "hang_up", "clock",
]  # fmt: skip

KINDS: dict[Kind, int] = {
    "restart": 3, "rollback": 4, "flush": 1, "evict": 1, "trim": 2, "failover": 4,
    "refuse_writes": 2, "garbage": 1, "link": 8, "reset": 2, "node_kill": 3, "node_pause": 3,
    "node_drain": 2, "worker_kill": 2, "worker_pause": 2, "worker_exit": 1, "zombie": 2,
    "stall": 2, "hang_up": 3, "clock": 1,
}  # fmt: skip
"""The kinds of faults, with the frequency of each."""
OF_REDIS: frozenset[Kind] = frozenset(
    ("restart", "rollback", "flush", "evict", "trim", "failover", "refuse_writes", "garbage")
)
LINK_MODES = ("refuse", "hang", "slow", "some_slow", "lose_requests", "lose_answers", "cut")
MODES: dict[Kind, tuple[str, ...]] = {
    "link": LINK_MODES,
    # A node was cut off before, and the other nodes reconnect later than it does.
    "rollback": ("", "", "apart"),
    "failover": ("", "", "apart"),
    # `slow`: while a node reads slowly. `deleted`: the stream is deleted on a server whose clock
    # was set back.
    "trim": ("", "slow", "slow", "deleted"),
}
"""The modes of each kind that has several."""
RARE: frozenset[Kind] = frozenset(("rollback", "failover", "trim"))
"""Kinds of which only the first mode is used in CI: few seeds have run with the others, so a
failure may be an error of the simulation."""
STRIKES_AFTER_END: frozenset[Kind] = frozenset(
    ("restart", "rollback", "failover", "trim", "reset", "node_kill", "node_pause", "link")
)
STRIKES_AFTER_REQUEST: frozenset[Kind] = frozenset(
    (
        "restart",
        "reset",
        "node_kill",
        "node_pause",
        "node_drain",
        "link",
        "worker_kill",
        "worker_pause",
        "worker_exit",
    )
)
FAULTS_UNTIL = 24.0
"""Virtual seconds in which faults begin."""


@frozen
class Fault:
    """One fault."""

    at: float
    kind: Kind
    seconds: float = 0.0
    """The duration of the fault, or how many seconds of writes are lost."""
    who: int = 0
    """The number of the affected node or worker, modulo their count."""
    mode: str = ""
    odds: float = 1.0
    """The probability with which the fault affects each request or connection."""
    after_end: bool = False
    """Whether the fault waits (for a limited time) until a job's end was just written."""
    after_request: bool = False
    """Whether the fault waits until a job has just got a request."""


@frozen
class Scenario:
    """The scenario of a run."""

    seed: int
    broker: Literal["memory", "redis"]
    nodes: int
    jobs: int
    workers: tuple[str, ...]
    """The means of each worker: a `Job` over http or redis; without our code by fcall or curl."""
    watchers: tuple[str, ...]
    faults: tuple[Fault, ...] = field(default=())
    history: int = 128
    linger: float = 5.0
    """Seconds for which a topic is kept after its last watcher (`linger`)."""
    request_clients: int = 0
    """The number of clients that send requests."""
    group_requests: bool = False
    """Whether these clients also send requests to groups and their children. If they do, the
    requests of all jobs are checked after every command."""
    groups: tuple[str, ...] = ()
    """The kind of the run's group: `flat`, or `nested` with a group in the group."""
    rights: bool = False
    """Whether tokens are required; then clients of sets may not watch all jobs."""
    restless: bool = False
    """Whether clients change their subscriptions, and poll, ten times as often."""

    def without(self, index: int) -> Scenario:
        """Returns the same scenario without one fault."""
        return evolve(self, faults=self.faults[:index] + self.faults[index + 1 :])


def draw(seed: int, only: Collection[str] = (), *, rare: bool = True) -> Scenario:
    """Returns the scenario of a seed.

    `only` restricts the kinds of faults: `kind:mode` selects one mode of a kind; `memory` selects
    the memory broker; `groups`, `sets` and `requests` add those to the scenario. Without `rare` no
    nodes are partitioned, no feed is deleted or read slowly, groups get no requests, and no fault
    waits for a request.
    """
    rng = random.Random(f"scenario/{seed}")
    broker: Literal["memory", "redis"] = "memory" if rng.random() < 0.12 else "redis"
    if only:
        broker = "memory" if "memory" in only else "redis"
    kinds = [kind for kind in KINDS if broker == "redis" or kind not in OF_REDIS]
    if only:
        wanted = {name.partition(":")[0] for name in only}
        kinds = [kind for kind in kinds if kind in wanted] or kinds
    # Only some kinds in each run, because many faults together can hide a defect that few would
    # show.
    chosen_kinds = rng.sample(kinds, k=min(len(kinds), rng.randint(1, 5)))
    number = rng.choice([0, 1, 1, 2, 2, 3, 4, 6]) or len(only)
    faults = [
        _fault(rng, rng.choices(chosen_kinds, [KINDS[kind] for kind in chosen_kinds])[0], only)
        for _ in range(number)
    ]
    if not rare:
        faults = [evolve(fault, mode="") if fault.kind in RARE else fault for fault in faults]
    request_clients = 2 if "requests" in only else rng.choice([0, 0, 1, 2])
    if request_clients and rare:
        faults = _after_requests(random.Random(f"strikes/{seed}"), faults)
    reports = ["http", "http", "redis", "redis", "fcall", "curl"]
    if broker == "memory":
        reports = ["http", "curl"]
    watches = ["websocket"] * 5 + ["sse", "get", "poll", "list"]
    return Scenario(
        seed=seed,
        broker=broker,
        nodes=rng.choice([1, 2, 2, 3]) if broker == "redis" else 1,
        jobs=rng.randint(1, 3),
        workers=tuple(rng.choice(reports) for _ in range(rng.randint(1, 3))),
        watchers=(
            "websocket",
            *(rng.choice(watches) for _ in range(rng.randint(1, 4))),
            *_sets(random.Random(f"sets/{seed}"), only),
        ),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
        history=rng.choice([4, 20, 128]),
        linger=rng.choice([0.2, 5.0]),
        request_clients=request_clients,
        group_requests=rare,
        restless=rng.random() < 0.4,
        rights=random.Random(f"rights/{seed}").random() < (0.5 if "sets" in only else 0.15),
        groups=_groups(random.Random(f"groups/{seed}"), only),
    )


def _sets(rng: random.Random, only: Collection[str]) -> tuple[str, ...]:
    has_sets = "sets" in only or rng.random() < 0.35
    kinds = ["set", "set", "set", "set_sse", "set_get"]
    return tuple(rng.choices(kinds, k=rng.randint(1, 3))) if has_sets else ()


def _groups(rng: random.Random, only: Collection[str]) -> tuple[str, ...]:
    has_groups = "groups" in only or rng.random() < 0.35
    return (rng.choice(["flat", "nested"]),) if has_groups else ()


def _after_requests(rng: random.Random, faults: Sequence[Fault]) -> list[Fault]:
    return [
        evolve(fault, after_request=True, after_end=False)
        if fault.kind in STRIKES_AFTER_REQUEST and rng.random() < 0.4
        else fault
        for fault in faults
    ]


def _fault(rng: random.Random, kind: Kind, only: Collection[str]) -> Fault:
    at = round(rng.uniform(1, FAULTS_UNTIL), 3)
    seconds = round(rng.choice([0.02, 0.3, 1.0, 3.0, 8.0, 12.0]) * rng.uniform(0.5, 1.5), 3)
    modes: Sequence[str] = MODES.get(kind, ("",))
    modes = [mode for mode in modes if f"{kind}:{mode}" in only] or modes
    if kind == "clock":
        seconds = round(rng.uniform(-20, 20), 3)
    return Fault(
        at,
        kind,
        seconds,
        who=rng.randrange(100),
        mode=rng.choice(modes),
        odds=rng.choice([1.0, 1.0, 0.5, 0.1]),
        after_end=kind in STRIKES_AFTER_END and rng.random() < (0.8 if only else 0.4),
    )
