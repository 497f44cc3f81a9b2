"""`websockets`, asyncio, `broadcast()`: a hub over Redis pub/sub, in the fewest lines."""

import asyncio
import json
import sys

import redis.asyncio
from websockets.asyncio.server import ServerConnection, broadcast, serve

watching: dict[str, set[ServerConnection]] = {}


async def client(connection: ServerConnection) -> None:
    jobs = json.loads(await connection.recv())
    for job in jobs:
        watching.setdefault(job, set()).add(connection)
    try:
        await connection.send("subscribed")
        await connection.wait_closed()
    finally:
        for job in jobs:
            watching[job].discard(connection)


async def follow(port: int) -> None:
    pubsub = redis.asyncio.Redis(port=port).pubsub()
    await pubsub.psubscribe("job:*")
    async for message in pubsub.listen():
        if message["type"] == "pmessage":
            connections = watching.get(message["channel"].decode())
            if connections:
                broadcast(connections, message["data"].decode())


async def main() -> None:
    port, redis_port = map(int, sys.argv[1:])
    async with serve(client, "127.0.0.1", port, compression=None, backlog=1024):
        await follow(redis_port)


asyncio.run(main())
