"""Everyone else: what they are, how they are installed, and how their clients speak."""

from ..servers import IN_MEMORY, OURS, STARLETTE, Server

PEERS: list[Server] = []

EVERYONE = {server.name: server for server in (OURS, IN_MEMORY, STARLETTE, *PEERS)}
"""By name: servers do not go between processes, their names do."""
