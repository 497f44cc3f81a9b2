"""Everyone else: what they are, how they are installed, and how their clients speak."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from ..load.feeds import (
    Ports,
    centrifugo_feed,
    channels_feed,
    gateway_feed,
    nats_feed,
    nchan_feed,
    pubsub_feed,
    python_socketio_feed,
    socketio_feed,
    websocket_feed,
)
from ..load.posts import request
from ..load.wire import Dialect, Step, binary, text, upgrade
from ..servers import CACHE, EVERY, IN_MEMORY, LATEST, OURS, STARLETTE, Command, Server
from . import install

__all__ = ["EVERYONE", "PEERS"]

HERE = Path(__file__).parent
_json = msgspec.json.encode


def _as_list(jobs: Sequence[str]) -> Sequence[Step]:
    return [
        Step(upgrade("/"), until=b"\r\n\r\n"),
        Step(text(_json(list(jobs)).decode()), until=b"subscribed"),
    ]


def _as_socketio(jobs: Sequence[str]) -> Sequence[Step]:
    return [
        Step(upgrade("/socket.io/?EIO=4&transport=websocket"), until=b'"sid"'),
        Step(text("40"), until=b'40{"sid"'),
        Step(text("42" + _json(["subscribe", list(jobs)]).decode()), until=b"subscribed"),
    ]


def _as_nats(jobs: Sequence[str]) -> Sequence[Step]:
    subjects = (job.replace(":", ".").encode() for job in jobs)
    subs = b"".join(b"SUB %b %d\r\n" % (s, n) for n, s in enumerate(subjects, start=1))
    hello = b'CONNECT {"verbose":false,"lang":"bench"}\r\n'
    return [
        Step(upgrade("/"), until=b"INFO"),
        Step(binary(hello + subs + b"PING\r\n"), until=b"PONG"),
    ]


def _as_nchan(jobs: Sequence[str]) -> Sequence[Step]:
    return [Step(upgrade(f"/sub?id={','.join(jobs)}"), until=b"\r\n\r\n")]


def _as_centrifugo(jobs: Sequence[str]) -> Sequence[Step]:
    subs = [{"id": n, "subscribe": {"channel": job}} for n, job in enumerate(jobs, start=2)]
    last = b'{"id":%d,"subscribe":{"recoverable"' % (len(jobs) + 1)
    return [
        Step(upgrade("/connection/websocket"), until=b"\r\n\r\n"),
        Step(text('{"id":1,"connect":{}}'), until=b'"client"'),
        Step(text("\n".join(_json(sub).decode() for sub in subs)), until=last),
    ]


LIST = Dialect(_as_list)
CENTRIFUGO = Dialect(_as_centrifugo, {b"\x81\x02{}": text("{}")})
SOCKETIO = Dialect(_as_socketio)
NATS = Dialect(_as_nats, {b"PING\r\n": binary(b"PONG\r\n")})
NCHAN = Dialect(_as_nchan)


def _python_program(name: str, ports: Ports) -> Command:
    arguments = [str(HERE / f"{name}.py"), str(ports.server), str(ports.redis)]
    return Command([str(install.PYTHON), *arguments])


def _uvicorn(name: str, ports: Ports) -> Command:
    arguments = [
        *("-m", "uvicorn", "--app-dir", str(HERE), "--loop", "uvloop", "--no-access-log"),
        *("--port", str(ports.server), "--ws-per-message-deflate", "false"),
        *("--backlog", "1024", "--log-level", "warning", f"{name}:app"),
    ]
    return Command([str(install.PYTHON), *arguments], {"REDIS_PORT": str(ports.redis)})


def _node(name: str, ports: Ports) -> Command:
    program = ["node", str(HERE / f"{name}.js"), str(ports.server), str(ports.redis)]
    return Command(program, {"NODE_PATH": str(install.NODE / "node_modules")})


def _centrifugo(ports: Ports) -> Command:
    config = CACHE / "centrifugo.json"
    namespace = {
        "name": "job",
        "history_size": 128,
        "history_ttl": "300s",
        "force_recovery": True,
    }
    document = {
        "http_server": {"address": "127.0.0.1", "port": str(ports.server)},
        "client": {"insecure": True, "allowed_origins": ["*"], "channel_limit": 1000},
        "http_api": {"insecure": True},
        "channel": {"namespaces": [namespace]},
        "log": {"level": "error"},
    }
    config.write_bytes(_json(document))
    return Command([str(install.GO / "centrifugo"), "-c", str(config)], {"GOMAXPROCS": "1"})


def _centrifugo_request(number: int, updates: int) -> bytes:
    data = b'{"message":"frames encoded so far","done":%d}' % number
    if updates == 1:
        return request("/api/publish", b'{"channel":"job:1","data":%b}' % data)
    each = b'{"publish":{"channel":"job:%d","data":%b}}'
    commands = b",".join(each % (n % 50 + 2, data) for n in range(updates))
    return request("/api/batch", b'{"commands":[%b]}' % commands)


def _nats(ports: Ports) -> Command:
    config = CACHE / "nats.conf"
    config.write_text(
        f"host: 127.0.0.1\nport: {ports.server + 1}\nmax_connections: 20000\n"
        f"websocket {{ host: 127.0.0.1, port: {ports.server}, no_tls: true }}\n"
    )
    return Command([str(install.DEBIAN / "usr/sbin/nats-server"), "-c", str(config)])


def _nchan(ports: Ports) -> Command:
    config = CACHE / "nchan.conf"
    module = install.DEBIAN / "usr/lib/nginx/modules/ngx_nchan_module.so"
    config.write_text(NCHAN_CONF.format(module=module, cache=CACHE, port=ports.server))
    program = install.DEBIAN / "usr/sbin/nginx"
    return Command([str(program), "-p", str(CACHE), "-e", "stderr", "-c", str(config)])


NCHAN_CONF = """
load_module {module};
daemon off; worker_processes 1; pid {cache}/nginx.pid; error_log stderr error;
worker_rlimit_nofile 20000;
events {{ worker_connections 15000; multi_accept on; }}
http {{
  access_log off; nchan_shared_memory_size 512M; keepalive_requests 100000000;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location /pub {{ nchan_publisher; nchan_channel_id $arg_id; nchan_message_buffer_length 1000; }}
    location /sub {{
      nchan_subscriber websocket; nchan_channel_id $arg_id;
      nchan_channel_id_split_delimiter ","; nchan_subscriber_first_message newest;
    }}
  }}
}}
"""


def _hypercorn(ports: Ports) -> Command:
    bind = f"127.0.0.1:{ports.server}"
    arguments = ["-m", "hypercorn", "-k", "trio", "-b", bind, "bench.peers.hypercorn_app:app"]
    return Command([sys.executable, *arguments], {"REDIS_PORT": str(ports.redis)})


CENTRIFUGO_6 = Server(
    "Centrifugo",
    "version 6, JSON protocol, history and recovery on, one core",
    tier=1,
    start=_centrifugo,
    feed=centrifugo_feed,
    every=CENTRIFUGO,
    latest=CENTRIFUGO,
    post=_centrifugo_request,
    install=partial(install.go, "github.com/centrifugal/centrifugo/v6@v6.9.1"),
)

PEERS = [
    Server(
        "websockets broadcast()",
        "asyncio, redis.asyncio pub/sub",
        tier=1,
        start=partial(_python_program, "websockets_hub"),
        feed=pubsub_feed,
        every=LIST,
        latest=LIST,
        install=partial(install.python, "websockets", "redis[hiredis]"),
        python=True,
    ),
    Server(
        "uvicorn hub",
        "uvloop, redis.asyncio pub/sub, a queue a client",
        tier=2,
        start=partial(_uvicorn, "uvicorn_hub"),
        feed=pubsub_feed,
        every=LIST,
        latest=LIST,
        install=partial(install.python, "uvicorn", "uvloop", "websockets", "redis[hiredis]"),
        python=True,
    ),
    Server(
        "Node ws",
        "ioredis pub/sub, each frame encoded once",
        tier=1,
        start=partial(_node, "ws_hub"),
        feed=pubsub_feed,
        every=LIST,
        latest=LIST,
        install=partial(install.node, "ws", "ioredis"),
    ),
    CENTRIFUGO_6,
    Server(
        "uWebSockets",
        "through socketify, its own topics",
        tier=2,
        start=partial(_python_program, "socketify_hub"),
        feed=websocket_feed,
        every=LIST,
        latest=LIST,
        install=partial(install.python, "socketify"),
        search_from=200,
    ),
    Server(
        "nats-server",
        "its WebSocket port, core subjects",
        tier=2,
        start=_nats,
        feed=nats_feed,
        every=NATS,
        latest=NATS,
        install=partial(install.debian, "nats-server"),
        search_from=200,
    ),
    Server(
        "nchan",
        "in nginx, one worker",
        start=_nchan,
        feed=nchan_feed,
        every=NCHAN,
        latest=NCHAN,
        install=install.nginx,
        search_from=200,
    ),
    Server(
        "Socket.IO",
        "redis-streams adapter",
        start=partial(_node, "socketio_hub"),
        feed=socketio_feed,
        every=SOCKETIO,
        latest=SOCKETIO,
        install=partial(install.node, "socket.io", "@socket.io/redis-streams-adapter", "ioredis"),
    ),
    Server(
        "python-socketio",
        "Redis manager, uvicorn, uvloop",
        search_from=2,
        start=partial(_uvicorn, "python_socketio_hub"),
        feed=python_socketio_feed,
        every=SOCKETIO,
        latest=SOCKETIO,
        install=partial(
            install.python, "python-socketio", "uvicorn", "uvloop", "websockets", "redis[hiredis]"
        ),
        python=True,
    ),
    Server(
        "Django Channels",
        "pub/sub layer of channels_redis, uvicorn, uvloop",
        search_from=2,
        start=partial(_uvicorn, "channels_hub"),
        feed=channels_feed,
        every=LIST,
        latest=LIST,
        install=partial(
            install.python,
            *("channels", "channels-redis", "uvicorn", "uvloop", "websockets", "redis[hiredis]"),
        ),
        python=True,
    ),
    Server(
        "ours on hypercorn",
        "the gateway as an ASGI app on stock hypercorn",
        search_from=2,
        start=_hypercorn,
        feed=gateway_feed,
        every=EVERY,
        latest=LATEST,
        python=True,
    ),
]

EVERYONE = {server.name: server for server in (OURS, IN_MEMORY, STARLETTE, *PEERS)}
"""All servers by name: the name of a server is passed between processes."""
