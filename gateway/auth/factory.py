"""Makes an authenticator from an operator's settings."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from ..model.limits import DEFAULT_LIMITS, Limits
from .authenticator import Authenticator
from .origins import SAME_ORIGIN, Origins
from .revocations import Revocations

__all__ = ["open_authenticator"]


def open_authenticator(
    *,
    keys: Sequence[str] = (),
    secret: str | None = None,
    audience: str | None = None,
    origins: Origins = SAME_ORIGIN,
    broker_url: str | None = None,
    insecure: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Authenticator:
    """Makes an authenticator. Reads the keys, which blocks.

    Without keys and secret every client has all permissions, and only local addresses are
    served (see `origins`). `broker_url` is the URL of the Redis in which nodes share revocations.
    Raises `InvalidSettings`.
    """
    if not keys and secret is None:
        return Authenticator(origins=evolve(origins, local_only=not insecure), limits=limits)
    from .key_sources import KeySources

    key_sources = KeySources(keys, secret=secret, audience=audience)
    key_sources.load()
    return Authenticator(
        key_sources, origins=origins, revocations=_revocations(broker_url), limits=limits
    )


def _revocations(broker_url: str | None) -> Revocations | None:
    if broker_url is None:
        return None
    from .redis_revocations import RedisRevocations

    return RedisRevocations(broker_url)
