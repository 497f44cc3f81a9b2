"""Decides whether a WebSocket client is served, for all transports.

All connections are accepted first, because browsers show pages no reason for a refusal but a
close code, and because a library that rejects a request may fail on the byte that follows.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from ..auth.permissions import Permissions
from ..delivery.transport import Sink, Source
from ..model.errors import Unauthorized
from ..node.node import Node
from ..protocol import close_codes
from ..protocol.close_codes import CloseCode

__all__ = ["Admission", "admit"]

PATH = "/ws"


@frozen
class Admission:
    """The decision about one client."""

    permissions: Permissions | None = None
    """None: the client must send a token with `hello`, if tokens are required."""
    refused: CloseCode | None = None

    async def serve(self, source: Source, sink: Sink, *, node: Node, address: str) -> None:
        """Serves the client until its connection ends, or closes the connection with the reason."""
        if self.refused is not None:
            await node.refuse(sink, self.refused)
        else:
            await node.serve(source, sink, permissions=self.permissions, address=address)


async def admit(headers: Mapping[str, str], *, path: str = PATH, node: Node) -> Admission:
    """Decides whether to serve a client, from the path and the headers (names in lower case) of its
    request."""
    if path != PATH:
        return Admission(refused=close_codes.NOT_FOUND)
    try:
        return Admission(await node.authenticator.authenticate(headers))
    except Unauthorized as error:
        return Admission(refused=close_codes.CODE_BY_REFUSAL[error.refusal].with_detail(str(error)))
