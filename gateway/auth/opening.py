"""A gate from what an operator has set."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from ..limits import DEFAULT_LIMITS, Limits
from .gate import Gate
from .origins import SAME_ORIGIN, Origins
from .revocations import Revocations

__all__ = ["open_gate"]


def open_gate(
    *,
    keys: Sequence[str] = (),
    secret: str | None = None,
    audience: str | None = None,
    origins: Origins = SAME_ORIGIN,
    redis: str | None = None,
    insecure: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Gate:
    """The gate for these settings; reads the keys, blocking.

    Without keys and secret everybody may do everything, and it is the address that
    protects: see `origins`. `redis` is where the nodes share what is revoked. Raises
    `InvalidSettings`.
    """
    if not keys and secret is None:
        return Gate(origins=evolve(origins, local_only=not insecure), limits=limits)
    from .keyring import Keyring

    ring = Keyring(keys, secret=secret, audience=audience)
    ring.load()
    return Gate(ring, origins=origins, revocations=_revocations(redis), limits=limits)


def _revocations(redis: str | None) -> Revocations | None:
    if redis is None:
        return None
    from .redis import RedisRevocations

    return RedisRevocations(redis)
