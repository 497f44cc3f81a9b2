"""Describes the configuration of a gateway: one line for each subject, in the output of `gateway
check` and in the log of `gateway serve`."""

from __future__ import annotations

from collections.abc import Iterator

from ..auth.authenticator import Authenticator
from ..brokers.redis.url import parse_address

__all__ = ["describe_access", "describe_broker"]


def describe_access(authenticator: Authenticator) -> Iterator[tuple[str, str]]:
    """Yields which clients are accepted: by the keys, and by the origins of pages."""
    if authenticator.keys is None:
        yield "keys", "none: every client that reaches the address may do everything"
    else:
        for source, keys in authenticator.keys.by_source():
            kinds = ", ".join(key.algorithm for key in keys)
            yield "keys", f"{kinds} from {source}; every client needs a token"
    origins = authenticator.origins
    others = "every one" if origins.every else ", ".join(sorted(origins.listed)) or "none"
    yield "origins", f"besides the gateway's own: {others}"


def describe_broker(broker_url: str | None) -> tuple[str, str]:
    """Returns where jobs are stored. A password in the URL is omitted."""
    if broker_url is None:
        return "jobs", "in memory: one node, and a restart forgets them"
    return "jobs", f"in Redis, {parse_address(broker_url)}"
