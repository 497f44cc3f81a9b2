"""The limits of the worker, each with its reason. Durations are in seconds.

The numbers of the protocol are in `model/constants`.
"""

from __future__ import annotations

from typing import Final

REPORTING_OFF: Final = "off"  # the URL with which nothing is reported
DEFAULT_URL: Final = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT: Final = 10.0
"""How long the end of a block waits until the gateway has the final state: two requests that time
out."""
FIRST_CONNECTION_TIMEOUT: Final = 1.0
"""How long the end of a block waits if no connection to the gateway was ever made."""
MAX_WAIT: Final = 30 * 86_400.0
"""Used in place of infinity, because on Windows a lock cannot wait for 50 days."""

UPDATE_INTERVAL: Final = 0.05
"""Minimum time between two updates of a job: 20 per second, more than an eye can follow."""
MAX_UPDATES_PER_SECOND: Final = 2_000.0
"""The updates of all jobs of a process together. Final states are not counted."""
REQUEST_POLL_INTERVAL: Final = 1.5
"""Maximum time between two updates of a job that accepts requests. The job receives a request
within 2 s, also if a response takes some tenths of a second."""
RENEWALS_PER_LEASE: Final = 3  # one may be lost, and one may be late
RETRY_PAUSES: Final = 0.1, 3.0
"""The first and the longest pause between requests while the gateway is unavailable."""
MAX_RETRY_AFTER: Final = 60.0
"""The longest pause that a response can request. No gateway requests a longer one."""
JOB_RETRY_PAUSE: Final = 1.0
"""The pause of a job whose update failed in a request in which other updates did not fail."""
OUTAGE_LOG_INTERVAL: Final = 60.0  # minimum time between two log lines about an outage
IDLE_TIMEOUT: Final = 15.0  # without any job, the connection is closed after this time
END_POLL_PAUSES: Final = 0.001, 0.1
"""The first and the longest pause between two checks of `wait_until`."""
EXIT_TIMEOUT: Final = 2.0
"""How long the exit of the process waits until states that are not final are sent."""
MAX_OVERDUE_JOBS: Final = 1_000  # jobs whose final state is kept after its deadline
ANNOUNCEMENT_LIFETIME: Final = 60.0  # older announcements are more often wrong than useful
MAX_ANNOUNCEMENTS: Final = 10_000  # announcements that are waiting to be sent: some 10 MiB

MAX_UPDATES_PER_REQUEST: Final = 1_000
"""Equal to the gateway's `max_batch`. A gateway handles so many updates in some 40 ms."""
MAX_REQUEST_BYTES: Final = 192 * 1024  # less than the gateway's `max_batch_body`
REQUEST_STEP_TIMEOUT: Final = 5.0  # for each step of a request: connect, send, receive
MAX_RESPONSE_BYTES: Final = 4 * 1024 * 1024
"""The result of an update has some 100 bytes, and up to 2,400 if it contains a request."""
MAX_TOKEN_LENGTH: Final = 16 * 1024
"""Characters that are read from a token file: more than any gateway accepts."""
FORK_TIMEOUT: Final = 5.0  # how long a fork waits for a sender that is importing
