"""uWebSockets through socketify: its own topics, fed by a WebSocket of its own.

An asyncio Redis client inside of it would be the limit, so events come in as messages.
"""

import json
import sys
from typing import Any

from socketify import App, OpCode

app = App()


def on_message(client: Any, message: Any, opcode: Any) -> None:
    if opcode == OpCode.BINARY:  # an event: the job, a newline, the state
        job, _, state = message.partition(b"\n")
        app.publish(job, state, OpCode.TEXT)
        return
    for job in json.loads(message):
        client.subscribe(job)
    client.send("subscribed", OpCode.TEXT)


app.ws(
    "/*",
    {
        "compression": 0,
        "idle_timeout": 120,
        "max_backpressure": 64 * 1024 * 1024,
        "message": on_message,
    },
)
app.listen(int(sys.argv[1]), lambda config: None)
app.run()
