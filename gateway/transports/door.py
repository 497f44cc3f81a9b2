"""Where WebSocket clients come in, whatever carries them.

All are accepted first: browsers show pages no other reason for a refusal than a close
code, and a library that rejects may die of the byte that follows.
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import endings
from ..connection import Sink, Source
from ..endings import Ending
from ..errors import Unauthorized
from ..node import Node

__all__ = ["serve_at_door"]

PATH = "/ws"


async def serve_at_door(
    source: Source,
    sink: Sink,
    *,
    path: str,
    headers: Mapping[str, str],
    node: Node,
    refused: Ending | None = None,
) -> None:
    """Serve a client whose request said this (names of headers in lower case), or tell it
    why not."""
    if refused is not None:
        await node.turn_away(sink, refused)
        return
    if path != PATH:
        await node.turn_away(sink, endings.NOT_FOUND)
        return
    try:
        rights = await node.gate.welcome(headers)
    except Unauthorized as error:
        await node.turn_away(sink, error.ending)
    else:
        await node.serve(source, sink, rights=rights)
