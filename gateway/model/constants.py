"""The numbers of the protocol, each with its reason. They are not settings, because both ends rely
on them.

This module imports nothing, so that workers can use it. The Lua scripts and the browser client get
copies generated from it (`python -m docs.generate`). The numbers that an operator may change are in
`limits`.

Durations are seconds and sizes are bytes unless a line says otherwise.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ALMOST_100",
    "ALMOST_DONE",
    "CLOCK_STEP",
    "DEFAULT_HISTORY",
    "DEFAULT_LEASE",
    "DEFAULT_RETENTION",
    "DEFAULT_SET_LIMIT",
    "ETA_FIRST_WINDOW",
    "ETA_GRACE",
    "ETA_WARM_UP",
    "ETA_WINDOW_SHARE",
    "FEED_LENGTH",
    "IDLE_GROUP_AFTER",
    "LASTING_VERBS",
    "LOST_AFTER",
    "MAX_ACCEPTS",
    "MAX_AGE",
    "MAX_ARGS",
    "MAX_CHILDREN",
    "MAX_DATA_BYTES",
    "MAX_DATA_DEPTH",
    "MAX_EARLIER_REQUESTS",
    "MAX_EARLY_CHILDREN",
    "MAX_EXPECTED",
    "MAX_GROUP_LEVELS",
    "MAX_JOB_ID",
    "MAX_LEASE",
    "MAX_NUMBER",
    "MAX_PART",
    "MAX_PARTS",
    "MAX_REQUEST_ID",
    "MAX_RUN",
    "MAX_SET_LIMIT",
    "MAX_TEXT",
    "MAX_TOKEN",
    "MAX_VERB",
    "MAX_WEIGHT",
    "MIN_HZ",
    "MIN_LEASE",
    "MIN_WEIGHT",
    "PROBE_RETENTION",
    "QUEUED_RETENTION",
]

MAX_JOB_ID: Final = 200  # characters: enough for a path or a URL; keys and logs stay readable
MAX_DATA_BYTES: Final = 8 * 1024  # bytes; every watcher gets the whole state, so it must be small
MAX_DATA_DEPTH: Final = 64  # nested arrays and objects: far below where JSON parsers give up
MAX_TEXT: Final = {  # characters
    "unit": 32,  # a word
    "phase": 200,  # a heading
    "message": 1_000,  # a few lines on a page
    "refused": 200,  # one line below a button
    "error": 4_000,  # the end of a traceback
}
MAX_AGE: Final = 315_360_000  # seconds, ten years: no attempt takes longer
MAX_RUN: Final = 64  # characters: enough for a UUID
MAX_PART: Final = 64  # characters: enough for the name of a machine and a process
MAX_PARTS: Final = 1_000  # parts of a job; its record has a number for each
MAX_TOKEN: Final = 8 * 1024  # characters: a header with it still fits into a 16 KiB request head
MAX_ACCEPTS: Final = 8  # verbs of a job: a page draws a button for each
MAX_VERB: Final = 32  # characters: a word
MAX_ARGS: Final = 1024  # bytes of JSON of a request's arguments: a few numbers
MAX_REQUEST_ID: Final = 64  # characters: enough for a UUID
MAX_EARLIER_REQUESTS: Final = 8  # ids kept for an attempt; a sender repeats a request soon
LASTING_VERBS: Final = ("cancel", "pause")  # also sent to jobs that begin in the group later
MAX_CHILDREN: Final = 100_000  # counted in a group; each takes some 50 bytes
MAX_EARLY_CHILDREN: Final = 10_000  # kept for a group that is not declared yet
MAX_GROUP_LEVELS: Final = 4  # groups above a job in which it is counted
MIN_WEIGHT: Final = 0.001  # of a child; weights have three decimal places
MAX_WEIGHT: Final = 1_000  # so that all sums of a group are whole numbers below MAX_NUMBER
MAX_EXPECTED: Final = MAX_CHILDREN * MAX_WEIGHT  # of a group: the weight of all its children
DEFAULT_SET_LIMIT: Final = 50  # jobs in a view of a set: several screens
MAX_SET_LIMIT: Final = 200  # each costs a subscription; for more jobs use narrower prefixes
MAX_NUMBER: Final = 2**53 - 1  # JavaScript's MAX_SAFE_INTEGER: no larger number rounds to it

MIN_LEASE: Final = 1.0
MAX_LEASE: Final = 86_400.0
DEFAULT_LEASE: Final = 30.0
LOST_AFTER: Final = 10  # leases without a report until a stalled job is shown as lost
CLOCK_STEP: Final = 10.0  # seconds without a check of leases, after which all leases start again
ALMOST_100: Final = 99.99  # the highest value that a percentage below 100 is rounded to
MIN_HZ: Final = 0.001  # updates a second that a client may request: one in a quarter of an hour

DEFAULT_HISTORY: Final = 128  # events of a job kept for exact replay
DEFAULT_RETENTION: Final = 86_400.0  # how long a job is kept after its last update
QUEUED_RETENTION: Final = 604_800.0  # the same for a queued job, which no worker reports yet
PROBE_RETENTION: Final = 60.0  # the same for jobs of nodes, which are not read later
FEED_LENGTH: Final = 100_000  # events that a Redis feed keeps: some 40 MiB, 10 s at 10,000 events/s

ETA_WARM_UP: Final = 2.0  # seconds of observed progress before the first estimate
ETA_FIRST_WINDOW: Final = 10.0  # seconds over which the rate is averaged at first
ETA_WINDOW_SHARE: Final = 0.25  # later: this share of the time observed so far
ALMOST_DONE: Final = (
    95.0  # percent: from here on an estimate stays valid for a while after its time is up
)
ETA_GRACE: Final = 5.0  # seconds that such an estimate stays valid
IDLE_GROUP_AFTER: Final = (
    60  # seconds after which a group without running children is shown as silent
)
