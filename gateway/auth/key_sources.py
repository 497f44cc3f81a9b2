"""Sources of keys, and the rotation of keys.

A source is a file, or the URL of a JWK Set without secrets. Files are read at the start and on
SIGHUP. URLs are also read every few minutes, and when a token names an unknown key, so that an
identity provider can rotate its keys without notice. If a source cannot be read later on, its
last keys stay in use.
"""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import trio

from ..model.errors import InvalidSettings
from .keys import MIN_SECRET, Key, read_keys, repeated_ids
from .permissions import Permissions
from .tokens import UnknownKey, read_token

__all__ = ["KeySources"]

log = logging.getLogger("gateway.auth")

REFRESH_INTERVAL = 300.0
"""Seconds between two reads of a URL: identity providers publish a key hours before they use it."""
MIN_REFRESH_INTERVAL = 10.0
"""Minimum seconds between two reads for unknown keys: any client can send such a token."""
NETWORK_TIMEOUT = 5.0
"""Seconds for each network operation."""
READ_TIMEOUT = 8.0
"""Seconds for a whole read: the client with the new key waits for it."""
MAX_DOCUMENT = 1024 * 1024
"""Bytes of a key file or JWK Set."""


class KeySources:
    """All keys that are valid now."""

    def __init__(
        self,
        sources: Sequence[str] = (),
        *,
        secret: str | None = None,
        audience: str | None = None,
    ) -> None:
        """Reads no source yet; `load` does. `secret` is a shared secret. `audience`, if given, is
        the audience that tokens must name."""
        self._sources = tuple(sources)
        self._secret_keys = [] if secret is None else read_keys(secret, source="secret")
        self._audience = audience
        self._keys_by_source: dict[str, list[Key]] = {}
        self._refreshed_at = -MIN_REFRESH_INTERVAL
        self._refresh_lock = trio.Lock()

    def __repr__(self) -> str:
        return f"<KeySources of {len(self.keys)} keys>"

    @property
    def keys(self) -> list[Key]:
        return [key for _, keys in self.by_source() for key in keys]

    def by_source(self) -> Iterator[tuple[str, list[Key]]]:
        """Yields each source with its keys."""
        if self._secret_keys:
            yield "secret", self._secret_keys
        yield from self._keys_by_source.items()

    def load(self) -> None:
        """Reads every source, blocking, before the first use. Raises `InvalidSettings`."""
        self._keys_by_source = {source: _read_keys(source) for source in self._sources}
        self._report_repeated_ids()

    def _report_repeated_ids(self) -> None:
        if repeated := repeated_ids(self.keys):
            log.warning("several keys have the same kid, trying each: %s", ", ".join(repeated))

    async def permissions_of(self, token: str, *, now: float) -> Permissions:
        """Returns what a token allows at the Unix time `now`. Raises `Unauthorized`."""
        await trio.lowlevel.checkpoint()
        try:
            return read_token(token, self.keys, now=now, audience=self._audience)
        except UnknownKey:
            await self.refresh()
            return read_token(token, self.keys, now=now, audience=self._audience)

    async def reload(self, sources: Sequence[str] | None = None) -> None:
        """Reads every source again; `sources` replace the previous ones if they are given.

        Raises `InvalidSettings`, also if no key would be left; nothing has changed then.
        """
        async with self._refresh_lock:
            sources = self._sources if sources is None else tuple(sources)
            if not sources and not self._secret_keys:
                raise InvalidSettings("no keys are left: restart to run without authentication")
            self._keys_by_source = {
                source: await _read_keys_in_thread(source) for source in sources
            }
            self._sources = sources
            self._report_repeated_ids()

    async def refresh(self) -> None:
        """Reads every URL again, at most once in `MIN_REFRESH_INTERVAL`. Never raises."""
        async with self._refresh_lock:
            if trio.current_time() < self._refreshed_at + MIN_REFRESH_INTERVAL:
                return
            for source in filter(_is_url, self._sources):
                try:
                    self._keys_by_source[source] = await _read_keys_in_thread(source)
                except InvalidSettings as error:
                    log.warning("cannot read new keys, keeping the current ones: %s", error)
            self._refreshed_at = trio.current_time()

    async def follow(self) -> None:
        """Reads the URLs at regular intervals until cancelled."""
        while True:
            await trio.sleep(REFRESH_INTERVAL)
            await self.refresh()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: keys come from the URL that the operator named, over TLS."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def _is_url(source: str) -> bool:
    return "://" in source


async def _read_keys_in_thread(source: str) -> list[Key]:
    """Returns the keys of a source, read in a thread. Raises `InvalidSettings`, also after a
    timeout."""
    try:
        with trio.fail_after(READ_TIMEOUT):
            return await trio.to_thread.run_sync(_read_keys, source, abandon_on_cancel=True)
    except trio.TooSlowError:
        raise InvalidSettings(f"{source}: too slow", field="keys") from None


def _read_keys(source: str) -> list[Key]:
    """Returns the keys of a source. Raises `InvalidSettings`."""
    return read_keys(_text(source), source=source, fetched=_is_url(source))


def _text(source: str) -> str:
    """Returns the text of a source. Raises `InvalidSettings`."""
    try:
        data = _fetch(source) if _is_url(source) else _read(source)
        if len(data) > MAX_DOCUMENT:
            raise InvalidSettings(f"{source}: over {MAX_DOCUMENT} bytes", field="keys")
        return data.decode()
    except ValueError as error:  # not UTF-8, or not a URL
        if isinstance(error, InvalidSettings):
            raise
        raise InvalidSettings(f"{source}: not a text with keys", field="keys") from None


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        quoted = (
            "(not shown: a key itself is for PROGRESS_GATEWAY_SECRET)"
            if _may_be_a_key(path)
            else path
        )
        raise InvalidSettings(f"{quoted}: {error.strerror}", field="keys") from None


def _may_be_a_key(path: str) -> bool:
    """Returns whether the path looks like a secret instead of a file name: base64, hex, PEM."""
    looks_like_path = path.startswith("/") or "." in path
    return len(path) >= MIN_SECRET and (path.endswith("=") or not looks_like_path)


def _fetch(url: str) -> bytes:
    if not _may_be_fetched(url):
        raise InvalidSettings(f"{url}: keys are fetched over https:// only", field="keys")
    try:
        with _opener.open(url, timeout=NETWORK_TIMEOUT) as response:
            data: bytes = response.read(MAX_DOCUMENT + 1)
            return data
    except HTTPError as error:  # it holds an open connection
        with error:
            raise InvalidSettings(f"{url}: {error}", field="keys") from None
    except (OSError, HTTPException) as error:
        raise InvalidSettings(f"{url}: {error!s:.200}", field="keys") from None


def _may_be_fetched(url: str) -> bool:
    """Returns whether the URL is https, or on this machine. Otherwise an attacker on the network
    could replace the keys."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    )
