"""The constants of the worker, each with its reason.

Durations are seconds. The protocol's own numbers are in `model/constants`.
"""

from __future__ import annotations

from typing import Final

OFF: Final = "off"  # in place of a URL: nothing is reported
DEFAULT_URL: Final = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT: Final = 10.0  # for the end to be delivered: two requests that time out
FIRST_CONTACT: Final = 1.0  # the same, if no connection to the address was ever made
MAX_WAIT: Final = 30 * 86_400.0  # used for infinity: on Windows a lock cannot wait for 50 days

INTERVAL: Final = 0.05  # minimum between two requests of a job: 20 Hz, more than an eye can follow
RATE: Final = 2_000.0  # updates per second of a process, without ends: all its jobs share it
LISTEN: Final = 1.5  # between two updates of a job that accepts requests: it gets them within 2 s,
# also if an answer takes some tenths of a second, and with less than one request per second
RENEWALS: Final = 3  # renewals per lease: one may be lost, one may be late
BACKOFF: Final = 0.1, 3.0  # first and longest pause while the gateway is unavailable
MAX_RETRY_AFTER: Final = 60.0  # no gateway asks for a longer pause
RETRY_ONE: Final = 1.0  # pause of a job whose update failed while those of others did not
QUIET: Final = 60.0  # minimum between two log lines that the gateway is unavailable
IDLE: Final = 15.0  # without any job, the connection is closed after this time
POLL: Final = 0.001, 0.1  # first and longest pause between two checks in `wait_until`
EXIT: Final = 2.0  # at the exit of the process, for states other than ends
LATE_ENDS: Final = 1_000  # ends that are kept after their deadline
ONE_SHOT: Final = 60.0  # older one-shot updates are more often wrong than useful
ONE_SHOTS: Final = 10_000  # one-shot updates that wait for the gateway: some 10 MiB

BATCH: Final = 1_000  # updates per request: a gateway's `max_batch`; it handles them in some 40 ms
BATCH_BYTES: Final = 192 * 1024  # size of a request: below a gateway's `max_batch_body`
REQUEST: Final = 5.0  # for one step of a request: connect, send, receive
MAX_ANSWER: Final = 4 * 1024 * 1024  # bytes; of an update some 100, and with a request up to 2,400
MAX_TOKEN: Final = 16 * 1024  # characters read from a token file: more than any gateway accepts
FORK: Final = 5.0  # a fork waits this long for a sender that is importing
