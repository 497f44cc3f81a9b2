"""The limits of a node, which an operator can change, each with its reason.

Numbers that clients rely on too are in `constants`. Durations are in seconds, and sizes in bytes,
unless a line says otherwise.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import Attribute, field, frozen

from .constants import CLOCK_STEP, DEFAULT_HISTORY, DEFAULT_RETENTION

__all__ = ["DEFAULT_LIMITS", "NEEDS_RESTART", "Limits"]

MIN_SECONDS: Final = 0.001
MAX_SECONDS: Final = 10 * 365 * 86_400.0  # ten years: longer than any state is kept
MAX_COUNT: Final = 10**9
MAX_BYTES: Final = 2**40
MAX_LEASE_CHECK_INTERVAL: Final = CLOCK_STEP / 2
MAX_COMPARE_INTERVAL: Final = 3_600.0  # a lost event that is shown even later is of no use
MAX_RATE: Final = 1e6  # per second: more than one process can handle


def _positive(default: float, *, maximum: float = MAX_SECONDS) -> float:
    """Returns a number from `MIN_SECONDS` to `maximum`: neither infinite nor NaN."""
    value: float = field(default=default, validator=_in_range, metadata={"maximum": maximum})
    return value


def _count(default: int, *, maximum: int = MAX_COUNT) -> int:
    """Returns a whole number from 1 to `maximum`."""
    value: int = field(default=default, validator=_in_range, metadata={"maximum": maximum})
    return value


def _bytes(default: int) -> int:
    return _count(default, maximum=MAX_BYTES)


def _in_range(limits: object, attribute: Attribute[Any], value: object) -> None:
    whole = isinstance(attribute.default, int)
    minimum, maximum = 1 if whole else MIN_SECONDS, attribute.metadata["maximum"]
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not is_number or not minimum <= value <= maximum:  # type: ignore[operator]  # it is a number
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{attribute.name} must be {kind} from {minimum:,} to {maximum:,}")


def _is_window(limits: object, attribute: Attribute[Any], value: object) -> None:
    match value:
        case (int() | float() as low, int() | float() as high) if 0 <= low <= high <= 3_600:
            return
    raise ValueError(f"{attribute.name} must be two numbers, 0 <= first <= second <= 3,600")


@frozen(kw_only=True)
class Limits:
    """The limits of one node. The defaults suit most installations; each docstring has the
    reason. "1009 above it" means: a client above the limit gets this close code, or HTTP status."""

    ping_interval: float = _positive(25.0)
    """How long a client may be silent before the node sends a ping. Common proxies close idle
    connections after 60 s (nginx `proxy_read_timeout`) or 55 s (Heroku), so two pings fit in."""
    ping_timeout: float = _positive(10.0)
    """How long a client may take to answer the ping before it is disconnected with 4000. A phone's
    radio needs some seconds to wake up."""
    write_timeout: float = _positive(10.0)
    """How long one write may take before the connection is aborted (counted as 4001; the client
    receives no close code). Enough for 256 KiB over a bad mobile connection."""
    close_timeout: float = _positive(2.0)
    """How long the closing handshake may take before the socket is closed without it."""
    request_header_timeout: float = _positive(10.0)
    """How long a client may take to send its request head or handshake, then 408. Protects against
    slowloris attacks."""
    hello_timeout: float = _positive(10.0)
    """How long a client may take to send a token, if one is required, then 4500."""
    expiry_grace: float = _positive(10.0)
    """How long a client stays connected after its token has expired, then 4100. A page needs some
    seconds to fetch a new token and send `hello` again."""
    body_timeout: float = _positive(10.0)
    """How long a client may take to send a request body, then 408. An update is some hundred
    bytes."""
    shutdown_timeout: float = _positive(10.0)
    """How long a shutdown may take: less than Kubernetes' grace period of 30 s."""

    hang_timeout: float = _positive(10.0)
    """How long a server process of `--processes` may send no watchdog message before the supervisor
    kills and restarts it; six times as long while it starts. A full garbage collection, or 10,000
    clients that connect at once, may block its loop for 1 to 2 s. Time during which the supervisor
    was suspended too (a sleeping machine, Ctrl-Z) does not count."""

    max_head: int = _bytes(16 * 1024)
    """Size of a request head; 431 above it. Browsers' cookies stay below 8 KiB; h11's own limit is
    16 KiB."""
    max_headers: int = _count(100)
    """Number of headers of a request; 431 above it. Browsers send some twenty, proxies add a
    few."""
    max_body: int = _bytes(64 * 1024)
    """Size of a request body; 413 above it. Enough for an update with every field at its limit,
    escaped."""
    max_batch: int = _count(1_000)
    """Updates in one request; 400 above it. A worker sends up to 1,000, and fewer after a 400. Each
    takes some 0.05 ms."""
    max_batch_body: int = _bytes(256 * 1024)
    """Size of a request body with a batch of updates; 413 above it. Enough for 1,000 usual
    updates."""
    max_frame: int = _bytes(64 * 1024)
    """Size of a message from a client; 1009 above it. Enough to name 300 jobs with ids of full
    length."""
    max_connections: int = _count(20_000)
    """Connections of a node; 4002 above it. They need about 0.5 GiB if each watches one job, and
    fewer descriptors than the usual limits."""
    max_connections_per_address: int = _count(1_000)
    """Connections from one address (IPv6: one /64); above it 4003, and 429 for requests. Enough for
    an office behind one address, and a twentieth of the node. Trusted proxies are not counted;
    their clients are."""
    commands_per_second: float = _positive(100.0, maximum=MAX_RATE)
    """Sustained rate of a client's commands; a page sends a few per minute. A frame counts as one
    command, and each kilobyte of text as another. Above the rate the node reads the client's
    messages later, so TCP slows the client."""
    command_burst: int = _count(1_000)
    """Commands that a client may send at once: 1,000 jobs one by one, or a megabyte."""
    requests_per_second: float = _positive(2_000.0, maximum=MAX_RATE)
    """Sustained rate of HTTP requests from one address (IPv6: one /64). Each kilobyte, sent or
    received, counts as another request. Above the rate requests are answered later. The rate is a
    third of what a node can serve, because the workers of a whole cluster may share an address.
    Trusted proxies are not counted; their clients are."""
    request_burst: int = _count(10_000)
    """Requests that one address may send at once: 50 browsers that load the page."""
    max_jobs_per_connection: int = _count(1_000)
    """Jobs that one client may watch; more are denied (`too_many_jobs`). A page shows some hundreds
    at most."""
    max_sets_per_connection: int = _count(10)
    """Sets that one client may watch; more are refused (`too_many_sets`). A page shows one or two.
    The jobs in a set, up to 200, do not count as jobs that the client watches."""
    max_sets: int = _count(10_000)
    """Sets (prefixes) that a node follows for all its clients; more are refused (`node_full`, and
    503 for requests). A user's page watches one."""
    max_sets_per_address: int = _count(1_000)
    """Sets that may count for one address (IPv6: one /64); more are refused (`share_full`, and
    503). A tenth of the node, as for jobs (`max_topics_per_address`)."""
    max_sets_per_subject: int = _count(1_000)
    """Sets that may count for all clients whose tokens have the same `sub`."""
    max_set_jobs: int = _count(10_000)
    """Jobs of one set that a node keeps, some 0.4 KiB each: those that were updated last. If there
    are others, the set has `more`."""
    total_set_jobs: int = _count(500_000)
    """Jobs that a node keeps for all sets together: some 0.2 GiB. Above it, the largest set drops
    the jobs that were updated longest ago."""
    max_jobs_per_stream: int = _count(100)
    """Jobs in one SSE request; 400 above it. The id of each event contains all their positions."""
    max_jobs: int = _count(100_000)
    """Jobs that the memory broker keeps. Above it, a job of the publisher that uses the
    most memory is dropped: the one that was updated longest ago."""
    jobs_bytes: int = _bytes(256 * 1024 * 1024)
    """Memory for all jobs of the memory broker and their histories: 400,000 usual events. Above it,
    histories of the publisher that uses the most memory are dropped, then its jobs; those that were
    updated longest ago first."""
    list_scan: int = _count(2_000)
    """Jobs that are read for one page of a list, which takes some milliseconds. Then the page ends,
    even if it is short or empty, and its `next` leads to the rest."""
    list_bytes: int = _bytes(256 * 1024)
    """Size of a page of a list or of a history; above it the page ends, and its `next` leads to the
    rest. 200 usual jobs are 60 KiB. If the client does not read the page, the node keeps it for
    `write_timeout`."""
    max_replies: int = _count(16)
    """Replies that wait for a client. Above it the node reads no more of the client's messages, so
    TCP slows the client."""
    max_hz: float = _positive(100.0, maximum=1_000)
    """Highest rate of updates per second that a client may request (else `invalid_command`). No
    screen can show more."""

    job_replay_bytes: int = _bytes(1024 * 1024)
    """Size of the recent events that a topic keeps for mode `every`: 1 MiB holds some thousand
    events."""
    total_replay_bytes: int = _bytes(256 * 1024 * 1024)
    """Size of the recent events of all topics together, without the newest event of each. Above it,
    the topics with the oldest last event keep only that. A client that needs the other events gets
    them from the broker."""
    history: int = _count(DEFAULT_HISTORY)
    """Events of a job that the broker keeps, for exact replay."""
    linger: float = _positive(30.0)
    """How long a topic or set without watchers is kept: for a page reload or a reconnect."""
    max_topics: int = _count(200_000)
    """Jobs that a node watches for all its clients; more are refused (`node_full`, 4002, and 503
    for requests). Ten for each client; some 0.2 GiB if none of them was ever reported."""
    max_topics_per_address: int = _count(20_000)
    """Jobs that may count for one address (IPv6: one /64); more are refused (`share_full`, 4002,
    and 503). A tenth of the node. A job that several clients watch counts for one of them. The
    clients of a trusted proxy count separately; if the proxy does not forward their addresses, they
    count as one client."""
    max_topics_per_subject: int = _count(20_000)
    """Jobs that may count for all clients whose tokens have the same `sub`. Raise it for a server
    that watches on behalf of its users."""
    max_idle_topics: int = _count(10_000)
    """Topics without watchers. Each is kept for `linger` seconds. The default is enough for all
    clients of a large node while they reconnect."""
    retention: float = _positive(DEFAULT_RETENTION)
    """How long a job is kept after its last update."""
    lease_check_interval: float = _positive(1.0, maximum=MAX_LEASE_CHECK_INTERVAL)
    """How often a node checks for expired leases: every 5 s at least, because a pause of 10 s is
    taken for a change of the machine's clock."""
    compare_interval: float = _positive(15.0, maximum=MAX_COMPARE_INTERVAL)
    """How often a node compares its topics with the broker. This is how late a last event can be if
    the feed has lost it."""
    probe_interval: float = _positive(5.0)
    """How often a node sends an event through the broker to itself."""
    probe_timeout: float = _positive(5.0)
    """How long that event may take before the node's states count as stale: far longer than any
    round trip, but short enough for a person who watches a bar."""
    reconnect_window: tuple[float, float] = field(default=(0.5, 5.0), validator=_is_window)
    """The window from which each client draws its random pause before it reconnects, when all
    clients lose this node at once. If the node shuts down while other nodes serve the same jobs,
    the window depends on the number of this node's clients instead."""


DEFAULT_LIMITS: Final = Limits()

NEEDS_RESTART: Final = frozenset(
    {
        "hang_timeout",
        "history",
        "job_replay_bytes",
        "jobs_bytes",
        "linger",
        "list_scan",
        "max_idle_topics",
        "max_jobs",
        "max_set_jobs",
        "max_sets",
        "max_sets_per_address",
        "max_sets_per_subject",
        "max_topics",
        "max_topics_per_address",
        "max_topics_per_subject",
        "probe_interval",
        "probe_timeout",
        "retention",
        "shutdown_timeout",
        "total_replay_bytes",
        "total_set_jobs",
    }
)
"""Limits that a reload does not change, because the hub, broker, probe and supervisor of a running
process use the values that they were created with."""
