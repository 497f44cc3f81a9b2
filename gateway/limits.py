"""Every number that bounds something, with its reason.

Durations are seconds, sizes are bytes unless a line says otherwise.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import gt

__all__ = ["DEFAULT_LIMITS", "Limits"]

# What one value may be. These are part of the protocol, so they are not settings.
MAX_JOB_ID = 200  # characters: a path or a URL still fits; keys and logs stay readable
MAX_DATA = 8 * 1024  # state is copied to every watcher: keep it small, link to the rest
MAX_MESSAGE = 1_000  # characters: a few lines on a page
MAX_ERROR = 4_000  # characters: the end of a traceback
MAX_PHASE = 200  # characters: a heading
MAX_UNIT = 32  # characters: a word
MAX_RUN = 64  # characters: a UUID and then some
MAX_TOKEN = 8 * 1024  # characters: a header with it still fits into a head of 16 KiB
MAX_NUMBER = 2**53  # above it, a double (JavaScript, Lua) no longer counts in ones
MIN_LEASE, MAX_LEASE = 1.0, 86_400.0  # seconds: shorter is noise, longer is no lease
DEFAULT_LEASE = 30.0
MIN_HZ = 0.001  # once in a quarter of an hour: whoever wants less can ask over HTTP
LOST_AFTER = 10  # leases: "perhaps it is swapping" becomes "it will not come back"

# One event to a client needs at most this: every text at its limit, escaped, twice over.
MAX_EVENT = 64 * 1024


def _positive(default: float) -> float:
    value: float = field(default=default, validator=gt(0))
    return value


def _count(default: int) -> int:
    value: int = field(default=default, validator=gt(0))
    return value


@frozen(kw_only=True)
class Limits:
    """The bounds of one node. Each has a default that suits most, and says why."""

    ping_after: float = _positive(25.0)
    """Silence before a client is pinged. Common proxies reap idle connections after 60 s
    (nginx `proxy_read_timeout`) or 55 s (Heroku), so two pings fit."""
    pong_within: float = _positive(10.0)
    """Further silence before it is given up, with 4000: a phone's radio needs some seconds to
    wake."""
    write_timeout: float = _positive(10.0)
    """How long one write may take before the client counts as stuck and is aborted (4001,
    unsaid): 256 KiB at the speed of a bad phone line."""
    close_timeout: float = _positive(2.0)
    """How long a closing handshake may take; after it the socket is closed without."""
    head_timeout: float = _positive(10.0)
    """How long a client may take for its request head or handshake (slowloris): then 408."""
    hello_timeout: float = _positive(10.0)
    """How long it may take to show a token, where one is needed: then 4500."""
    expiry_grace: float = _positive(10.0)
    """How long it may go on after its token has expired: to fetch another and say `hello`
    again takes a page some seconds. Then 4100."""
    body_timeout: float = _positive(10.0)
    """How long it may take for a request body: then 408. An update is some hundred bytes."""
    drain_timeout: float = _positive(10.0)
    """How long leaving may take: less than Kubernetes' grace period of 30 s."""

    worker_silence: float = _positive(10.0)
    """How long a worker of `--workers` may say nothing until it counts as hanging, and is
    killed and started anew; six times as long while it starts. A full collection, or 10,000
    clients that come at once, may hold its loop for 1 to 2 s; a page leaves after 5 s without
    an answer, but who is dealt to it waits. Time in which the supervisor stood still too (a
    suspended machine, Ctrl-Z) does not count."""

    max_head: int = _count(16 * 1024)
    """A request head; 431. Browsers' cookies stay below 8 KiB; h11's own bound is 16 KiB."""
    max_body: int = _count(64 * 1024)
    """A request body; 413. An update with every field at its limit, escaped."""
    max_message: int = _count(64 * 1024)
    """A message from a client; 1009. 300 jobs of full length, many more of usual length."""
    max_connections: int = _count(20_000)
    """Connections of a node; 4002. About 0.5 GiB, and below the usual descriptor limits."""
    max_connections_per_address: int = _count(1_000)
    """Connections from one address (IPv6: one /64); 4003, and 429 for requests. An office
    behind one address, and a twentieth of the node. Trusted proxies do not count, their
    clients do."""
    commands_per_second: float = _positive(100.0)
    """What a client may say for long; a page says a few a minute. A frame is one, a
    kilobyte of text another. Past it the client is read later, and TCP slows it."""
    command_burst: int = _count(1_000)
    """What it may say at once: 1,000 jobs one by one, or a megabyte."""
    max_jobs_per_connection: int = _count(1_000)
    """Jobs that one client may watch; more are denied (`too_many_jobs`). A page shows
    hundreds at most."""
    max_jobs_per_stream: int = _count(100)
    """Jobs in one SSE request; 400. Each event's id carries all their positions."""
    max_jobs: int = _count(100_000)
    """Jobs the memory broker keeps; past it the one updated longest ago is forgotten."""
    jobs_bytes: int = _count(256 * 1024 * 1024)
    """What all of them and their histories may take: past it histories are forgotten, of those
    updated longest ago first, then jobs. 400,000 usual events."""
    page_looks: int = _count(2_000)
    """Jobs that are looked at for one page of a list, some milliseconds; then the page ends,
    short or empty, and its `next` goes on."""
    page_bytes: int = _count(256 * 1024)
    """What a page of a list or of a history may take; past it the page ends, and the next goes
    on. 200 usual jobs are 60 KiB. Whoever does not read it has the node keep it for
    `write_timeout`."""
    max_replies: int = _count(16)
    """Answers waiting for a client. The reader waits past it, so TCP slows a flood."""
    max_hz: float = _positive(100.0)
    """Most wake-ups a second that a client may ask for (`invalid_command`); more is smoother
    than any screen."""

    ring_bytes: int = _count(1024 * 1024)
    """Recent events a topic keeps (1 MiB: some thousands), for mode `every`."""
    rings_bytes: int = _count(256 * 1024 * 1024)
    """The same of all topics together, the newest of each not counted: past it those that were
    longest without an event keep no other. What a client then lacks is read from the broker."""
    history: int = _count(128)
    """Events of a job the broker keeps, for exact replay."""
    linger: float = _positive(30.0)
    """How long a topic outlives its last watcher: a refresh or a reconnect."""
    max_topics: int = _count(200_000)
    """Jobs that a node watches for all its clients; of others it takes none (`too_many_jobs`,
    4002, and 503 for requests). Some 0.2 GiB, if nobody has reported them: ten jobs for each
    client that are nobody else's."""
    max_idle_topics: int = _count(10_000)
    """Topics that may linger: as many as a large node's clients may have on a reconnect."""
    retention: float = _positive(86_400.0)
    """How long a job is remembered after its last update."""
    reap_every: float = _positive(1.0)
    """How often a node looks for leases that ran out."""
    check_every: float = _positive(15.0)
    """How often a node compares its topics with the broker: how late a last event can be
    that the feed did not bring."""
    canary_every: float = _positive(5.0)
    """How often a node sends itself an event by way of the broker."""
    canary_late: float = _positive(5.0)
    """How long that may take before what the node shows counts as stale: far above any
    round trip, below the patience of somebody who looks at a bar."""
    retry: tuple[float, float] = (0.5, 5.0)
    """The window in which clients come back, at random, that lost this node together. If it
    leaves, and others serve the same jobs, the window is by how many they are instead."""


DEFAULT_LIMITS = Limits()
