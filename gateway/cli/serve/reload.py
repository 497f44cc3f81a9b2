"""SIGHUP: `gateway serve` reads its keys, and the limits of its settings file, again.

They apply to new connections. The log names changes of the file that need a restart: of other
settings, and of the limits in `NEEDS_RESTART`.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping

import trio
from attrs import frozen

from ...config.settings import KEYS
from ...config.settings_file import limits_of, parse_settings
from ...model.errors import InvalidSettings
from ...model.limits import NEEDS_RESTART, Limits
from ...node.node import Node
from .systemd import notify, reloading

__all__ = ["SettingsFile", "reload_on_sighup"]

log = logging.getLogger("gateway.cli")


@frozen
class SettingsFile:
    """The settings file with which this process was started."""

    path: str
    texts: Mapping[str, str]
    """The settings in it at that time, as texts by name."""
    effective_names: frozenset[str]
    """The names of the settings that no option and no variable overrides."""
    limits: Limits
    """The limits with which this process was started."""


async def reload_on_sighup(
    node: Node, file: SettingsFile | None, *, task_status: trio.TaskStatus[None]
) -> None:
    """Reads keys and limits again on each SIGHUP; if that fails, keeps the current ones."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            notify(*reloading())
            try:
                await _reload(node, file)
            except (OSError, UnicodeDecodeError, InvalidSettings) as error:
                log.error("reload failed, keeping the current keys and limits: %s", error)  # noqa: TRY400 - the text is sufficient
            notify("READY=1")


async def _reload(node: Node, file: SettingsFile | None) -> None:
    key_sources, limits = node.authenticator.keys, node.limits
    sources = None
    ignored: list[str] = []
    if file is not None:
        texts, limits_table = parse_settings(await trio.Path(file.path).read_text("utf-8"))
        limits = limits_of(limits_table, shutdown_timeout=file.limits.shutdown_timeout)
        ignored = [n for n in sorted(file.effective_names) if texts.get(n) != file.texts.get(n)]
        if key_sources is not None and KEYS.name in file.effective_names:
            sources = KEYS.read(texts.get(KEYS.name, KEYS.default))
            ignored = [name for name in ignored if name != KEYS.name]
        ignored += [
            f"limits.{name}"
            for name in sorted(NEEDS_RESTART)
            if getattr(limits, name) != getattr(file.limits, name)
        ]
    if key_sources is not None:
        await key_sources.reload(sources)
    node.limits = node.authenticator.limits = limits
    log.info(
        "keys and limits reloaded; they apply to new connections",
        extra={"keys": 0 if key_sources is None else len(key_sources.keys)},
    )
    if ignored:
        log.warning("changed in the file but needs a restart: %s", ", ".join(ignored))
