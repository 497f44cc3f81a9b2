"""The scripts that change jobs in a Redis, and how they are called.

Each is `lua/record.lua` followed by a file of its own, run by EVALSHA, so that a caller's
script is exactly the one it was written for, whatever version others use. `FUNCTIONS` is
the same as a library for everybody else: `redis-cli FCALL progress …`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Final, NamedTuple

from redis.exceptions import NoScriptError

from .layout import FEED_LENGTH, HISTORY, RETENTION

__all__ = ["FUNCTIONS", "PUBLISH", "REAP", "RENEW", "RESTORE", "TAKEOVER", "Script", "script"]

_LUA = Path(__file__).parent / "lua"


def script(name: str) -> str:
    """The text of a script as Redis gets it."""
    return "\n".join((_LUA / f"{part}.lua").read_text("utf-8") for part in ("record", name))


class Script(NamedTuple):
    """A script and the name under which Redis remembers it."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Script:
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())

    def __call__(self, client: Any, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run it; the first time on a server, or after its restart, with the whole text."""
        try:
            return client.execute_command("EVALSHA", self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.execute_command("EVAL", self.text, len(keys), *keys, *arguments)


PUBLISH: Final = Script.of(script("publish"))
REAP: Final = Script.of(script("reap"))
RENEW: Final = Script.of(script("renew"))
RESTORE: Final = Script.of(script("restore"))
TAKEOVER: Final = Script.of(script("takeover"))

FUNCTIONS: Final = f"""#!lua name=progress
local HISTORY, FEED_LENGTH, RETENTION = {HISTORY}, {FEED_LENGTH}, {RETENTION:.0f}
local function publish(KEYS, ARGV)
{PUBLISH.text}
end
{(_LUA / "functions.lua").read_text("utf-8")}"""
"""The library that `FUNCTION LOAD` takes (Redis 7 and newer)."""
