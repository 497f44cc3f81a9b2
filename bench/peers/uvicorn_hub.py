"""A hub as one writes it on ASGI: uvicorn, uvloop, redis.asyncio, a queue a client."""

import asyncio
import json
import os
from typing import Any

import redis.asyncio

watching: dict[str, set[asyncio.Queue[str]]] = {}
tasks: set[asyncio.Task[None]] = set()


async def follow() -> None:
    pubsub = redis.asyncio.Redis(port=int(os.environ["REDIS_PORT"])).pubsub()
    await pubsub.psubscribe("job:*")
    async for message in pubsub.listen():
        if message["type"] == "pmessage":
            text = message["data"].decode()
            for queue in watching.get(message["channel"].decode(), ()):
                queue.put_nowait(text)


async def write(queue: asyncio.Queue[str], send: Any) -> None:
    while True:
        await send({"type": "websocket.send", "text": await queue.get()})


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        tasks.add(asyncio.create_task(follow()))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    jobs = json.loads((await receive())["text"])
    queue: asyncio.Queue[str] = asyncio.Queue()
    for job in jobs:
        watching.setdefault(job, set()).add(queue)
    queue.put_nowait("subscribed")
    writer = asyncio.create_task(write(queue, send))
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass
    finally:
        writer.cancel()
        for job in jobs:
            watching[job].discard(queue)
