"""What is written by `python -m docs.generate` is up to date, and true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route

from docs.generate import PAGES, ROOT, written
from docs.generate.schemas import asyncapi, openapi
from gateway import MemoryBroker, Node
from gateway.api import create_http_app
from gateway.auth.opening import open_gate

from .auth.signing import SECRET


@pytest.mark.parametrize("page", PAGES)
def test_it_is_up_to_date(page: str) -> None:
    assert (ROOT / page).read_text() == written(page), "run python -m docs.generate"


def test_every_endpoint_is_in_the_openapi_document_and_no_other() -> None:
    app: Any = create_http_app(Node(MemoryBroker(), gate=open_gate(secret=SECRET)))
    served = {
        (route.path.replace(":path", ""), method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    described = {(path, method) for path, item in openapi()["paths"].items() for method in item}
    assert described == served


@pytest.mark.parametrize("document", [openapi(), asyncapi()], ids=["openapi", "asyncapi"])
def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    for reference in references(document):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        assert found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from references(one)


def test_every_command_and_frame_of_the_protocol_page_is_in_the_asyncapi_document() -> None:
    messages = asyncapi()["channels"]["ws"]["messages"]
    page = (ROOT / "docs/protocol.md").read_text()
    for name in {message["name"] for message in messages.values()}:
        assert f"`{name}`" in page
