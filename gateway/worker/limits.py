"""Every number of the worker side, with its reason.

Durations are seconds. The sizes are the protocol's (docs/protocol.md); they stand here
a second time because a worker loads nothing of the server.
"""

from __future__ import annotations

from typing import Final

MAX_JOB_ID: Final = 200  # characters
MAX_TEXT: Final = {"unit": 32, "phase": 200, "message": 1_000, "error": 4_000}  # characters
MAX_RUN: Final = 64  # characters: a UUID and then some
MAX_DATA: Final = 8 * 1024  # bytes of compact JSON in UTF-8
MAX_NUMBER: Final = 2**53  # above it JavaScript no longer counts in ones
MIN_LEASE: Final = 1.0
MAX_LEASE: Final = 86_400.0

DEFAULT_URL: Final = "http://127.0.0.1:8000"
DEFAULT_LEASE: Final = 30.0
DEFAULT_TIMEOUT: Final = 10.0  # how long the end is waited for: two requests that hang
MAX_WAIT: Final = 30 * 86_400.0  # "for ever": on Windows no lock waits for 50 days

INTERVAL: Final = 0.05  # between two requests of a job: 20 Hz, more than an eye can follow
BEATS: Final = 3  # beats in a lease: one may be lost, one may be late
BACKOFF: Final = 0.1, 3.0  # first and longest pause while the gateway is away
QUIET: Final = 60.0  # between two reports in the log that the gateway is away
IDLE: Final = 15.0  # without any job, the connection is given back after this
LOOK: Final = 0.001, 0.1  # first and longest pause between two looks of a loop for an end
EXIT: Final = 2.0  # at exit of the process, for states that nobody else waits for
OVERDUE: Final = 1_000  # ends nobody waits for any more that are kept for later
NOTICE: Final = 60.0  # older news that a job is queued are more often wrong than of use
NOTICES: Final = 10_000  # of them that wait for the gateway: some 10 MiB

REQUEST: Final = 5.0  # for one step of a request: connect, send, receive
MAX_ANSWER: Final = 64 * 1024  # bytes; an answer of the gateway has some 100
MAX_TOKEN: Final = 16 * 1024  # characters of a file that has one: more than any gateway takes
FORK: Final = 5.0  # a fork waits this long for a sender that is importing
