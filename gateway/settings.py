"""What an operator may set, by flag or by `GATEWAY_…` variable: the one list of it.

Pure, and light to import: the command line makes its flags from it, and other hosts of
the gateway can read the environment by it. A wrong value raises `InvalidSettings`, whose
`field` is the setting's name and whose text says what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from .auth.origins import Origins
from .errors import InvalidSettings
from .storage.address import MAX_SHARDS, parse_address

__all__ = ["SETTINGS", "Setting", "read_settings", "suspicious_variables"]

PREFIX = "GATEWAY_"

LOG_LEVELS = ("debug", "info", "warning", "error")
FORMS = ("x-forwarded-for", "forwarded", "proxy-protocol")
MOVABLE = frozenset(("publish", "metrics", "page"))
"""What may be served at the internal address instead."""
MAX_PORT = 65_535
MAX_WORKERS = 1_000  # more than a machine has cores
MAX_DRAIN = 3_600.0  # an hour; whoever needs longer does not want to leave


class Setting(NamedTuple):
    """One thing that can be set."""

    name: str
    """`log_level` is `--log-level` and `GATEWAY_LOG_LEVEL`."""
    default: str
    """As text, as the operator would write it; "" for none."""
    help: str
    parse: Callable[[str], Any]
    """The value of a text. Raises `ValueError` saying what was expected."""
    metavar: str
    secret: bool = False
    """Its value is never shown."""
    switch: bool = False
    """Its flag takes no value."""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    def read(self, text: str) -> Any:
        """The value of `text`. Raises `InvalidSettings` naming this setting."""
        try:
            return self.parse(text)
        except ValueError as error:
            shown = "" if self.secret else f": {text!r}"
            raise InvalidSettings(f"{error}{shown}", field=self.name) from None


def _address(text: str) -> str:
    # Whether it can be listened on is for the listener to find out.
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    numeric = port.isascii() and port.isdigit() and int(port) <= MAX_PORT
    if text == "systemd" or text.startswith("fd://"):
        return text
    if not colon or not bare or not numeric or (":" in bare and bare == host):
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8000 or [::1]:8000")
    return text


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not isfinite(value) or not 0 < value <= MAX_DRAIN:
        raise ValueError(f"must be a number of seconds above 0, at most {MAX_DRAIN:g}")
    return value


def _log_level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return text.lower()


def _redis(text: str) -> str | None:
    if not text:
        return None
    try:
        parse_address(text)
    except ValueError as error:
        raise ValueError(
            f"must be the URL of a Redis, such as redis://127.0.0.1:6379: {error}"
        ) from None
    return text


def _count(text: str, *, most: int) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise ValueError(f"must be a whole number from 1 to {most}")
    return int(text)


def _shards(text: str) -> int | None:
    return _count(text, most=MAX_SHARDS) if text else None


def in_shards(redis: str | None, shards: int | None) -> str | None:
    """The URL of a Redis with the number of shards in it, where workers find it too.

    Raises `InvalidSettings` if it says another one, or there is no Redis.
    """
    if shards is None:
        return redis
    if redis is None:
        raise InvalidSettings("only a Redis can have shards", field="shards")
    if "shards=" in redis.partition("?")[2]:
        raise InvalidSettings("the URL of the Redis says how many there are", field="shards")
    return f"{redis}{'&' if '?' in redis else '?'}shards={shards}"


def _token(text: str) -> str | None:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without spaces")
    return text or None


def _secret(text: str) -> str | None:
    return text or None


def _yes(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "on", "", "0", "false", "no", "off"):
        raise ValueError("must be yes or no")
    return text.lower() in ("1", "true", "yes", "on")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _origins(text: str) -> Origins:
    return Origins.parse(text)


def _internal_parts(text: str) -> frozenset[str]:
    parts = frozenset(_names(text))
    if not parts <= MOVABLE:
        raise ValueError(f"must be some of {', '.join(sorted(MOVABLE))}")
    return parts


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(ip_network, _names(text)))  # its errors say what is wrong


def _form(text: str) -> str:
    if text.lower() not in FORMS:
        raise ValueError(f"must be one of {', '.join(FORMS)}")
    return text.lower()


CONFIG = Setting("config", "", "A file of settings (TOML).", lambda text: text or None, "FILE")
BIND = Setting(
    "bind",
    "127.0.0.1:8000",
    "Where to listen; port 0 is any free one, systemd is its unit's socket, fd://3 a descriptor.",
    _address,
    "HOST:PORT",
)
DRAIN = Setting("drain", "10", "How long leaving may take.", _seconds, "SECONDS")
LOG_LEVEL = Setting(
    "log_level", "info", "How much to log.", _log_level, "|".join(LOG_LEVELS).upper()
)
REDIS = Setting(
    "redis",
    "",
    "Keep jobs there, for several nodes at once, instead of in memory.",
    _redis,
    "URL",
    secret=True,  # it may hold a password
)
SHARDS = Setting(
    "shards",
    "",
    "Divide the jobs in Redis among so many feeds; in a cluster, as many as it has primaries.",
    _shards,
    "N",
)
WORKERS = Setting(
    "workers",
    "1",
    "How many processes serve, each a node on a core of its own; more than one need a Redis.",
    partial(_count, most=MAX_WORKERS),
    "N",
)
KEYS = Setting(
    "keys",
    "",
    "Files of keys (a secret of one word, PEM, a JWK Set) and https URLs of JWK Sets (of public "
    "keys), comma-separated: whoever comes needs a token signed with one.",
    _names,
    "FILE|URL,...",
)
SECRET = Setting(
    "secret", "", "Such a key itself; better as a variable.", _secret, "TEXT", secret=True
)
AUDIENCE = Setting(
    "audience", "", "What tokens must be for (aud).", lambda text: text or None, "TEXT"
)
ORIGINS = Setting(
    "origins",
    "",
    "Origins of web pages that may use this gateway besides its own, comma-separated; "
    "* is every one.",
    _origins,
    "URL,...",
)
INSECURE = Setting(
    "insecure",
    "",
    "Let everybody who reaches the address do everything, without a token.",
    _yes,
    "",
    switch=True,
)
TRUSTED_PROXIES = Setting(
    "trusted_proxies",
    "127.0.0.1,::1",
    "Addresses and networks of proxies that say truly where a client comes from.",
    _networks,
    "NETWORK,...",
)
FORWARDED = Setting("forwarded", "x-forwarded-for", "How they say it.", _form, "|".join(FORMS))
INTERNAL_BIND = Setting(
    "internal_bind",
    "",
    "A second address, for what the first shall not serve.",
    lambda text: _address(text) if text else None,
    "HOST:PORT",
)
INTERNAL = Setting(
    "internal",
    "publish,metrics",
    "What that is: some of publish, metrics, page.",
    _internal_parts,
    "PART,...",
)
URL = Setting(
    "url",
    "http://127.0.0.1:8000",
    "The gateway, or for reports the Redis of its nodes.",
    str,  # what can be called is for those to say who do
    "URL",
    secret=True,  # it may hold a password
)
TOKEN = Setting("token", "", "What to show to a gateway that asks.", _token, "TEXT", secret=True)
TOKEN_FILE = Setting(
    "token_file",
    "",
    "The file that has it, read anew for each request.",
    lambda text: Path(text) if text else None,
    "FILE",
)

SERVING = (
    BIND,
    INTERNAL_BIND,
    INTERNAL,
    KEYS,
    SECRET,
    AUDIENCE,
    ORIGINS,
    INSECURE,
    TRUSTED_PROXIES,
    FORWARDED,
    DRAIN,
    REDIS,
    SHARDS,
    WORKERS,
)
"""What decides how a gateway serves: `gateway serve` and `gateway check` take the same."""

SETTINGS = (CONFIG, *SERVING, LOG_LEVEL, URL, TOKEN, TOKEN_FILE)
"""All of them."""


def read_settings(
    environ: Mapping[str, str], settings: Iterable[Setting] = SETTINGS
) -> dict[str, Any]:
    """The values of `settings` by name: from `environ`, else their defaults.

    An empty variable counts as absent. Raises `InvalidSettings`.
    """
    return {
        setting.name: setting.read(environ.get(setting.variable) or setting.default)
        for setting in settings
    }


# Kubernetes and Docker links describe a service called "gateway" to every container by
# variables of these names; nobody has mistyped them.
_OF_A_SERVICE = re.compile(
    r"GATEWAY_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?|NAME|ENV_\w+)"
)


def suspicious_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """`GATEWAY_…` variables that set nothing, each with what may have been meant."""
    known = {setting.variable.removeprefix(PREFIX): setting.variable for setting in SETTINGS}
    found: dict[str, str | None] = {}
    for name in sorted(environ):
        ending = name.removeprefix(PREFIX)
        if ending != name and ending not in known and not _OF_A_SERVICE.fullmatch(name):
            meant = get_close_matches(ending, known, n=1)
            found[name] = known[meant[0]] if meant else None
    return found
