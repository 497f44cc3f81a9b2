"""The scripts that change jobs in a Redis, and their calls.

Each consists of `lua/constants.lua` (generated), `lua/record.lua`, `lua/groups.lua` and its own
file. EVALSHA runs them, so a caller always runs the version of a script that it was written for.
`FUNCTIONS` is the same as a library for other clients: `redis-cli FCALL progress …`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Final, NamedTuple

from redis.exceptions import NoScriptError

__all__ = [
    "EXPIRE_LEASES",
    "FAILOVER",
    "FUNCTIONS",
    "PUBLISH",
    "REISSUE",
    "RESTORE",
    "Script",
    "script",
]

_LUA = Path(__file__).parent / "lua"


def script(name: str) -> str:
    """Returns the text of a script as Redis receives it."""
    return _source("constants", "record", "groups", name)


def _source(*parts: str) -> str:
    return "\n".join((_LUA / f"{part}.lua").read_text("utf-8") for part in parts)


class Script(NamedTuple):
    """A script, and the hash under which Redis caches it."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Script:
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())

    def __call__(self, client: Any, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Runs the script by its hash; if the server does not have it, with the whole text."""
        try:
            return client.execute_command("EVALSHA", self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.execute_command("EVAL", self.text, len(keys), *keys, *arguments)


PUBLISH: Final = Script.of(script("publish"))
EXPIRE_LEASES: Final = Script.of(script("expire_leases"))
REISSUE: Final = Script.of(script("reissue"))
RESTORE: Final = Script.of(script("restore"))
FAILOVER: Final = Script.of(script("failover"))

FUNCTIONS: Final = f"""#!lua name=progress
{_source("constants")}
local function publish(KEYS, ARGV)
{_source("record", "groups", "publish")}
end
{_source("functions")}"""
"""The library that `FUNCTION LOAD` takes (Redis 7 and newer)."""
