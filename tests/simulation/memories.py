"""Which states of the jobs exist only in the memory of nodes, after a Redis has lost writes. Nodes
restore what they have read. A state that only nodes had read that have ended since is lost, and
nothing is guaranteed for its job any more (docs/proof.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from attrs import define, field

from .redis import Store

if TYPE_CHECKING:
    from .groups import Group
    from .hosts import Host

__all__ = ["Memories"]

Positions = dict[str, tuple[int, int]]
"""The epoch and the number of a state of each job."""


@define(eq=False)
class Memories:
    """The states that nodes have read. It adds the jobs whose newest one is gone to `lost`."""

    groups: Collection[Group]
    lost: set[str]
    _of_ended_nodes: Positions = field(factory=dict)
    """The newest positions that ended processes had read and not restored."""
    _of_restored_nodes: Positions = field(factory=dict)
    """The same of the processes that had nothing to restore, or had restored it."""
    _stored: Positions = field(factory=dict)
    """The positions that the server had just after it had lost writes, and those that nodes have
    restored which have ended since."""
    _witnesses: list[tuple[Host, int]] = field(factory=list)
    """The processes that ran at that time. Only these must restore states."""
    _repair: int = 0
    """The newest repair of the data at that time."""

    def server_has_lost_writes(self, store: Store, hosts: Iterable[Host]) -> None:
        """Finds the states that neither the server nor a running node has any more."""
        _merge(self._of_ended_nodes, self._of_restored_nodes)
        self._stored = {
            key.removeprefix(b"progress:last:").decode(): (int(row[b"epoch"]), int(row[b"seq"]))
            for key, row in store.values.items()
            if key.startswith(b"progress:last:") and isinstance(row, dict) and b"seq" in row
        }
        self._repair = _repair(store)
        self._witnesses = [(host, host.number) for host in hosts if host.alive]
        self._compare()

    def node_has_ended(self, host: Host, store: Store) -> None:
        """Records that the process of `host` has ended. If the process had not restored what the
        server had lost, other nodes must."""
        witness = (host, host.number)
        read = _read(host)
        if witness in self._witnesses:
            self._witnesses.remove(witness)
            if _restored(host, store) <= self._repair:
                _merge(self._of_ended_nodes, read)
                self._compare()
                return
            _merge(self._stored, read)
        _merge(self._of_restored_nodes, read)

    def _compare(self) -> None:
        known = [self._stored, *(_read(host) for host, _ in self._witnesses)]
        missing_jobs = {
            job
            for job, position in self._of_ended_nodes.items()
            if not any(position <= some.get(job, (-1, 0)) for some in known)
        }
        self.lost |= missing_jobs
        for group in self.groups:
            related = {member.name for member in group.all} | {
                child for member in group.all for child in member.weights
            }
            if related & missing_jobs:
                self.lost |= related


def _merge(positions: Positions, more: Positions) -> None:
    for job, position in more.items():
        positions[job] = max(position, positions.get(job, position))


def _read(host: Host) -> Positions:
    """Returns the newest position of each job that the node's process has read."""
    events: Any = host.broker._observed.all()
    return {event.job: event.position for event in events}


def _repair(store: Store) -> int:
    return int(store.values.get(b"progress:counters", {}).get(b"repair", 0))


def _restored(host: Host, store: Store) -> int:
    """Returns the newest repair in which the node has restored its states; 0: none."""
    counters = store.values.get(b"progress:counters", {})
    words = counters.get(f"node:{host.process.name}".encode(), b"").split()
    return int(words[1]) if len(words) == 2 else 0
