"""The gateway itself, as an ASGI app on stock hypercorn."""

import os

from gateway.asgi import create_app
from gateway.brokers.redis.broker import RedisBroker

app = create_app(RedisBroker(f"redis://127.0.0.1:{os.environ['REDIS_PORT']}"))
