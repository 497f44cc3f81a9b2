"""Django Channels with the pub/sub layer of channels_redis, on uvicorn and uvloop."""

import os
from typing import Any

from django.conf import settings

settings.configure(
    SECRET_KEY="bench",
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [f"redis://127.0.0.1:{os.environ['REDIS_PORT']}/0"]},
        }
    },
)

from django.core.asgi import get_asgi_application

django = get_asgi_application()

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path


class Watch(AsyncJsonWebsocketConsumer):
    async def receive_json(self, jobs: list[str]) -> None:
        for job in jobs:
            await self.channel_layer.group_add(job.replace(":", "."), self.channel_name)
        await self.send(text_data="subscribed")

    async def job_event(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


app = ProtocolTypeRouter({"http": django, "websocket": URLRouter([path("", Watch.as_asgi())])})
