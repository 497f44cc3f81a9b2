"""SIGHUP: what `gateway serve` takes anew from files, and what it says of the rest.

Keys and limits count for who comes from then on. What the file of settings says otherwise
than when we started, and only a restart heeds, is named, so that nobody waits for it.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping

import trio
from attrs import frozen

from ..errors import InvalidSettings
from ..node import Node
from ..settings import KEYS
from ..settings_file import limits_of, read_file
from .systemd import notify, reloading

__all__ = ["File", "reload_when_told"]

log = logging.getLogger("gateway.cli")


@frozen
class File:
    """The file of settings that we were started with."""

    path: str
    texts: Mapping[str, str]
    """What it said then, by setting."""
    heeded: frozenset[str]
    """The settings for which it counts: no flag and no variable says otherwise."""


async def reload_when_told(
    node: Node, file: File | None, *, drain: float, task_status: trio.TaskStatus[None]
) -> None:
    """On SIGHUP read keys and limits anew. What cannot be read leaves all as it was."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            notify(*reloading())
            try:
                await _reload(node, file, drain=drain)
            except (OSError, UnicodeDecodeError, InvalidSettings) as error:
                log.error("nothing is reloaded: %s", error)  # noqa: TRY400 - the text is all there is to say
            notify("READY=1")


async def _reload(node: Node, file: File | None, *, drain: float) -> None:
    ring, limits = node.gate.keys, node.limits
    sources = None
    unheeded: list[str] = []
    if file is not None:
        texts, table = read_file(await trio.Path(file.path).read_text("utf-8"))
        limits = limits_of(table, drain=drain)
        unheeded = [n for n in sorted(file.heeded) if texts.get(n) != file.texts.get(n)]
        if ring is not None and KEYS.name in file.heeded:
            sources = KEYS.read(texts.get(KEYS.name, KEYS.default))
            unheeded = [name for name in unheeded if name != KEYS.name]
    if ring is not None:
        await ring.reload(sources)
    node.limits = node.gate.limits = limits
    log.info(
        "keys and limits are reloaded, for who comes from now on",
        extra={"keys": 0 if ring is None else len(ring.keys)},
    )
    if unheeded:
        log.warning("what else the file changes wants a restart: %s", ", ".join(unheeded))
