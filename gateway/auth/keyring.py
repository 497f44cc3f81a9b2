"""Where keys come from, and how they change while we run.

A source is a file, or the URL of a JWK Set without secrets. Files are read when the gateway
starts and when it is told to (SIGHUP); URLs besides every few minutes, and when a token
comes that is signed with a key not known yet: that is how keys are rotated without anybody
telling us. A source that cannot be read later on keeps its last keys.
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

from ..errors import InvalidSettings
from .keys import MIN_SECRET, Key, read_keys
from .rights import Rights
from .tokens import UnknownKey, read_token

__all__ = ["Keyring"]

log = logging.getLogger("gateway.auth")

REFRESH_EVERY = 300.0
"""Seconds: identity providers announce a key hours before they sign with it."""
ASK_AGAIN_AFTER = 10.0
"""Seconds between two looks because of unknown keys: anybody can send a token with one."""
FETCH_WITHIN = 5.0
"""Seconds for each step of asking a URL."""
READ_WITHIN = 8.0
"""Seconds for all of them: somebody with a new key waits for it."""
MAX_DOCUMENT = 1024 * 1024
"""Bytes of a key file or JWK Set."""


class Keyring:
    """All keys that are good at present."""

    def __init__(
        self,
        sources: Sequence[str] = (),
        *,
        secret: str | None = None,
        audience: str | None = None,
    ) -> None:
        """Reads no source yet; `load` does. `secret` is a shared secret handed in itself;
        `audience` is what tokens must be for, if it is to be anything."""
        self._sources = tuple(sources)
        self._secret = [] if secret is None else read_keys(secret, source="secret")
        self._audience = audience
        self._of: dict[str, list[Key]] = {}
        self._looked_at = -ASK_AGAIN_AFTER
        self._looking = trio.Lock()

    def __repr__(self) -> str:
        return f"<Keyring of {len(self.keys)} keys>"

    @property
    def keys(self) -> list[Key]:
        return [key for _, keys in self.by_source() for key in keys]

    def by_source(self) -> Iterator[tuple[str, list[Key]]]:
        """Each source with its keys."""
        if self._secret:
            yield "secret", self._secret
        yield from self._of.items()

    def load(self) -> None:
        """Read every source, blocking, before the first use. Raises `InvalidSettings`."""
        self._of = {source: _keys(source) for source in self._sources}

    async def rights_of(self, token: str, *, now: float) -> Rights:
        """What a token allows at the Unix time `now`. Raises `Unauthorized`."""
        await trio.lowlevel.checkpoint()
        try:
            return read_token(token, self.keys, now=now, audience=self._audience)
        except UnknownKey:
            await self.refresh()
            return read_token(token, self.keys, now=now, audience=self._audience)

    async def reload(self, sources: Sequence[str] | None = None) -> None:
        """Read every source anew, and from now on `sources`, if they are given.

        Raises `InvalidSettings`, also if no key would be left; then nothing has changed.
        """
        async with self._looking:
            sources = self._sources if sources is None else tuple(sources)
            if not sources and not self._secret:
                raise InvalidSettings("no keys are left: to do without wants a restart")
            self._of = {source: await _keys_in_time(source) for source in sources}
            self._sources = sources

    async def refresh(self) -> None:
        """Read every URL anew, unless that was done just now. Never raises."""
        async with self._looking:
            if trio.current_time() < self._looked_at + ASK_AGAIN_AFTER:
                return
            for source in filter(_is_url, self._sources):
                try:
                    self._of[source] = await _keys_in_time(source)
                except InvalidSettings as error:
                    log.warning("keeping the keys there are: %s", error)
            self._looked_at = trio.current_time()

    async def follow(self) -> None:
        """Keep up with the URLs until cancelled."""
        while True:
            await trio.sleep(REFRESH_EVERY)
            await self.refresh()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is fetched comes from where the operator said, and over TLS."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def _is_url(source: str) -> bool:
    return "://" in source


async def _keys_in_time(source: str) -> list[Key]:
    """The same, from a thread. Raises `InvalidSettings`, also if it takes too long."""
    try:
        with trio.fail_after(READ_WITHIN):
            return await trio.to_thread.run_sync(_keys, source, abandon_on_cancel=True)
    except trio.TooSlowError:
        raise InvalidSettings(f"{source}: too slow", field="keys") from None


def _keys(source: str) -> list[Key]:
    """The keys of a source. Raises `InvalidSettings`."""
    return read_keys(_text(source), source=source, fetched=_is_url(source))


def _text(source: str) -> str:
    """The text of a source. Raises `InvalidSettings`."""
    try:
        data = _fetched(source) if _is_url(source) else _read(source)
        if len(data) > MAX_DOCUMENT:
            raise InvalidSettings(f"{source}: over {MAX_DOCUMENT} bytes", field="keys")
        return data.decode()
    except ValueError as error:  # not UTF-8; no URL
        if isinstance(error, InvalidSettings):
            raise
        raise InvalidSettings(f"{source}: not a text of keys", field="keys") from None


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        shown = "(not shown: a key itself is for GATEWAY_SECRET)" if _may_be_a_key(path) else path
        raise InvalidSettings(f"{shown}: {error.strerror}", field="keys") from None


def _may_be_a_key(path: str) -> bool:
    """Whether a secret may have been put where its file's name belongs: base64, hex, PEM."""
    like_a_path = path.startswith("/") or "." in path
    return len(path) >= MIN_SECRET and (path.endswith("=") or not like_a_path)


def _fetched(url: str) -> bytes:
    if not _may_be_fetched(url):
        raise InvalidSettings(f"{url}: keys are fetched by https:// alone", field="keys")
    try:
        with _opener.open(url, timeout=FETCH_WITHIN) as answer:
            data: bytes = answer.read(MAX_DOCUMENT + 1)
            return data
    except HTTPError as error:  # an answer, with a connection in it
        with error:
            raise InvalidSettings(f"{url}: {error}", field="keys") from None
    except (OSError, HTTPException) as error:
        raise InvalidSettings(f"{url}: {error!s:.200}", field="keys") from None


def _may_be_fetched(url: str) -> bool:
    """Whoever can change what is fetched can make keys: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    )
