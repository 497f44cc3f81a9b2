"""Descriptors that `--bind fd://N` takes, and those that it refuses by name."""

from __future__ import annotations

import socket

import pytest

from gateway.model.errors import InvalidSettings
from gateway.transports.inherited_sockets import inherited_listeners


@pytest.mark.parametrize("bound", [True, False])
def test_a_socket_that_does_not_listen_is_refused(bound: bool) -> None:
    sock = socket.socket()
    if bound:
        sock.bind(("127.0.0.1", 0))
    descriptor = sock.detach()  # the function that takes it closes it
    with pytest.raises(InvalidSettings, match=f"descriptor {descriptor} does not listen") as caught:
        inherited_listeners(f"fd://{descriptor}")
    assert caught.value.field == "bind"


def test_a_listening_socket_is_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        descriptor = server.detach()
        (taken,) = inherited_listeners(f"fd://{descriptor}")
        taken.close()
