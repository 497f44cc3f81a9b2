"""python-socketio with its Redis manager, on uvicorn and uvloop."""

import os
from typing import Any

import socketio

port = os.environ["REDIS_PORT"]
sio = socketio.AsyncServer(
    async_mode="asgi",
    transports=["websocket"],
    client_manager=socketio.AsyncRedisManager(f"redis://127.0.0.1:{port}/0"),
)


@sio.on("subscribe")
async def subscribe(sid: str, jobs: list[str]) -> None:
    for job in jobs:
        await sio.enter_room(sid, job)
    await sio.emit("subscribed", to=sid)


app: Any = socketio.ASGIApp(sio)
