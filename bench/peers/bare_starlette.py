"""The least that a Python HTTP API does with an update: read it, answer. Nothing is kept."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def publish(request: Request) -> JSONResponse:
    update = await request.json()
    return JSONResponse({"seq": update["done"], "applied": True})


app = Starlette(routes=[Route("/", publish, methods=["POST"])])
