"""The list of settings: each is a flag, a `PROGRESS_GATEWAY_…` variable and a line in a file.

Exceptions: `config` names that file, so the file cannot contain it; `hypercorn_guard` is only a
variable, because it concerns only `gateway.asgi`. The limits of a node (a table of the file) are in
`model/limits.py`.

Pure, and fast to import. The command line makes its flags from it, and other hosts of the
gateway read the environment with it. A wrong value raises `InvalidSettings`, whose `field` is the
setting's name and whose text says what was expected.
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

from ..auth.origins import Origins
from ..brokers.redis.url import MAX_SHARDS, parse_address
from ..http.endpoints import ENDPOINTS
from ..model.errors import InvalidSettings

__all__ = ["SETTINGS", "Setting", "read_settings", "suspicious_variables"]

PREFIX = "PROGRESS_GATEWAY_"

LOG_LEVELS = ("debug", "info", "warning", "error")
CLIENT_IP_HEADERS = ("x-forwarded-for", "forwarded", "proxy-protocol")
MAX_PORT = 65_535
MAX_PROCESSES = 1_000  # more than a machine has cores
MAX_SHUTDOWN_TIMEOUT = 3_600.0  # an hour


class Setting(NamedTuple):
    """One setting."""

    name: str
    """`log_level` is `--log-level` and `PROGRESS_GATEWAY_LOG_LEVEL`."""
    default: str
    """The default, as an operator would write it; "" for none."""
    help: str
    parse: Callable[[str], Any]
    """Parses a text. Raises `ValueError`, which says what was expected."""
    metavar: str
    secret: bool = False
    """Whether its value must never be shown."""
    is_flag: bool = False
    """Whether its flag takes no value."""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    def read(self, text: str) -> Any:
        """Returns the value of `text`. Raises `InvalidSettings`, which names this setting."""
        try:
            return self.parse(text)
        except ValueError as error:
            quoted = "" if self.secret else f": {text!r}"
            raise InvalidSettings(f"{error}{quoted}", field=self.name) from None


def _address(text: str) -> str:
    # The listener finds out whether the address can be used.
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
    if not isfinite(value) or not 0 < value <= MAX_SHUTDOWN_TIMEOUT:
        raise ValueError(f"must be a number of seconds above 0, at most {MAX_SHUTDOWN_TIMEOUT:g}")
    return value


def _delay(text: str) -> float | None:
    return 0.0 if text == "0" else _seconds(text) if text else None


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


def _count(text: str, *, maximum: int) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= maximum):
        raise ValueError(f"must be a whole number from 1 to {maximum}")
    return int(text)


def _shards(text: str) -> int | None:
    return _count(text, maximum=MAX_SHARDS) if text else None


def with_shards(broker_url: str | None, shards: int | None) -> str | None:
    """Returns the URL with the number of shards in it.

    Raises `InvalidSettings` if the URL has another number, or is not that of a Redis.
    """
    if shards is None:
        return broker_url
    if broker_url is None:
        raise InvalidSettings("only a Redis can have shards", field="shards")
    if "shards=" in broker_url.partition("?")[2]:
        raise InvalidSettings("the URL of the Redis already has a number of shards", field="shards")
    return f"{broker_url}{'&' if '?' in broker_url else '?'}shards={shards}"


def _token(text: str) -> str | None:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without spaces")
    return text or None


def _secret(text: str) -> str | None:
    return text or None


def _boolean(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "on", "", "0", "false", "no", "off"):
        raise ValueError("must be yes or no")
    return text.lower() in ("1", "true", "yes", "on")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _origins(text: str) -> Origins:
    return Origins.parse(text)


def _internal_endpoints(text: str) -> frozenset[str]:
    endpoints = frozenset(_names(text))
    if not endpoints <= ENDPOINTS:
        raise ValueError(f"must be some of {', '.join(sorted(ENDPOINTS))}")
    return endpoints


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(ip_network, _names(text)))  # the text of its errors names the mistake


def _client_ip_header(text: str) -> str:
    if text.lower() not in CLIENT_IP_HEADERS:
        raise ValueError(f"must be one of {', '.join(CLIENT_IP_HEADERS)}")
    return text.lower()


CONFIG = Setting("config", "", "A file of settings (TOML).", lambda text: text or None, "FILE")
BIND = Setting(
    "bind",
    "127.0.0.1:8000",
    "Address to listen on. HOST:0 takes a free port, `systemd` uses the socket of the unit, "
    "`fd://3` uses an inherited descriptor.",
    _address,
    "HOST:PORT",
)
SHUTDOWN_TIMEOUT = Setting(
    "shutdown_timeout", "10", "How long draining may take after SIGTERM.", _seconds, "SECONDS"
)
SHUTDOWN_DELAY = Setting(
    "shutdown_delay",
    "",
    "How long to accept connections after SIGTERM, with /readyz already at 503, so that load "
    "balancers notice. Default: 5 in Kubernetes and with --processes, 0 at a terminal.",
    _delay,
    "SECONDS",
)
EXIT_IF_UNAVAILABLE = Setting(
    "exit_if_unavailable",
    "",
    "Exit with code 3 if Redis does not answer at the start, instead of waiting for it.",
    _boolean,
    "",
    is_flag=True,
)
LOG_LEVEL = Setting(
    "log_level",
    "info",
    "The lowest level that is logged.",
    _log_level,
    "|".join(LOG_LEVELS).upper(),
)
REDIS = Setting(
    "redis",
    "",
    "Keep jobs in this Redis, which several nodes can share, instead of in memory.",
    _redis,
    "URL",
    secret=True,  # it may hold a password
)
SHARDS = Setting(
    "shards",
    "",
    "Number of feeds that the jobs in Redis are divided among. For a cluster, its number of "
    "primaries.",
    _shards,
    "N",
)
PROCESSES = Setting(
    "processes",
    "1",
    "Number of server processes, each a node that uses one core. Several processes need a Redis.",
    partial(_count, maximum=MAX_PROCESSES),
    "N",
)
KEYS = Setting(
    "keys",
    "",
    "Files with keys (a shared secret, PEM, a JWK Set) and https URLs of JWK Sets with public "
    "keys, comma-separated. With keys, every client needs a token signed with one of them.",
    _names,
    "FILE|URL,...",
)
SECRET = Setting(
    "secret",
    "",
    "A shared secret as a key. Better set as a variable.",
    _secret,
    "TEXT",
    secret=True,
)
AUDIENCE = Setting(
    "audience", "", "Audience (aud) that tokens must have.", lambda text: text or None, "TEXT"
)
ORIGINS = Setting(
    "origins",
    "",
    "Allowed origins of web pages, besides the gateway's own, comma-separated. * allows every "
    "origin.",
    _origins,
    "URL,...",
)
INSECURE = Setting(
    "insecure",
    "",
    "Serve without authentication on an address that is not loopback.",
    _boolean,
    "",
    is_flag=True,
)
HYPERCORN_GUARD = Setting(
    "hypercorn_guard",
    "yes",
    "Guard each connection of hypercorn, where that serves `gateway.asgi:app`: without it one "
    "client can end the process. Without the guard, any version of hypercorn is accepted.",
    _boolean,
    "YES|NO",
)
TRUSTED_PROXIES = Setting(
    "trusted_proxies",
    "127.0.0.1,::1",
    "Addresses and networks of trusted proxies: the gateway uses the client addresses that they "
    "send.",
    _networks,
    "NETWORK,...",
)
CLIENT_IP_HEADER = Setting(
    "client_ip_header",
    "x-forwarded-for",
    "The header or protocol in which trusted proxies send the client address.",
    _client_ip_header,
    "|".join(CLIENT_IP_HEADERS),
)
INTERNAL_BIND = Setting(
    "internal_bind",
    "",
    "A second address, for the endpoints named by --internal, which the first then does not serve.",
    lambda text: _address(text) if text else None,
    "HOST:PORT",
)
INTERNAL = Setting(
    "internal",
    "publish,metrics",
    "Endpoints served at the internal address: some of publish, metrics, page.",
    _internal_endpoints,
    "ENDPOINT,...",
)
URL = Setting(
    "url",
    "http://127.0.0.1:8000",
    "URL of the gateway. To report, the URL of its Redis works too.",
    str,  # the commands check which schemes they support
    "URL",
    secret=True,  # it may hold a password
)
TOKEN = Setting("token", "", "Token for the gateway.", _token, "TEXT", secret=True)
TOKEN_FILE = Setting(
    "token_file",
    "",
    "File with the token. It is read for each request.",
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
    CLIENT_IP_HEADER,
    SHUTDOWN_TIMEOUT,
    SHUTDOWN_DELAY,
    REDIS,
    EXIT_IF_UNAVAILABLE,
    SHARDS,
    PROCESSES,
)
"""The settings of `gateway serve` and `gateway check`."""

SETTINGS = (CONFIG, *SERVING, HYPERCORN_GUARD, LOG_LEVEL, URL, TOKEN, TOKEN_FILE)
"""All settings."""


def read_settings(
    environ: Mapping[str, str], settings: Iterable[Setting] = SETTINGS
) -> dict[str, Any]:
    """Returns the values of `settings` by name: from `environ`, or their defaults.

    An empty variable counts as absent. Raises `InvalidSettings`.
    """
    return {
        setting.name: setting.read(environ.get(setting.variable) or setting.default)
        for setting in settings
    }


# Kubernetes and Docker links set variables of these names in every container if there is a
# service called "progress-gateway"; they are not typing errors.
_SERVICE_VARIABLE = re.compile(
    r"PROGRESS_GATEWAY_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?|NAME|ENV_\w+)"
)


def suspicious_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Returns the `PROGRESS_GATEWAY_…` variables that have no effect, each with the variable that
    may be meant."""
    by_suffix = {setting.variable.removeprefix(PREFIX): setting.variable for setting in SETTINGS}
    suspicious: dict[str, str | None] = {}
    for name in sorted(environ):
        suffix = name.removeprefix(PREFIX)
        if suffix != name and suffix not in by_suffix and not _SERVICE_VARIABLE.fullmatch(name):
            similar = get_close_matches(suffix, by_suffix, n=1)
            suspicious[name] = by_suffix[similar[0]] if similar else None
    return suspicious
