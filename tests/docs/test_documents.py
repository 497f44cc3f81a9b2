"""The files that `python -m docs.generate` writes are up to date and correct."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route

from docs.generate import PAGES, ROOT, written
from docs.generate.schemas import asyncapi, openapi
from gateway import MemoryBroker, Node
from gateway.auth.factory import open_authenticator
from gateway.http.api import create_http_app

from ..auth.signing import SECRET


@pytest.mark.parametrize("page", PAGES)
def test_generated_documents_are_up_to_date(page: str) -> None:
    assert (ROOT / page).read_text() == written(page), "run python -m docs.generate"


def test_no_script_redefines_a_generated_constant() -> None:
    folder = ROOT / "gateway/brokers/redis/lua"
    generated = re.findall(r"^local (\w+)", (folder / "constants.lua").read_text(), re.MULTILINE)
    for path in folder.glob("*.lua"):
        if path.name != "constants.lua":
            text = path.read_text()
            assert not re.search(
                rf"^\s*(local )?({'|'.join(generated)})\b.* = ", text, re.MULTILINE
            )


def test_every_endpoint_is_in_the_openapi_document_and_no_other() -> None:
    app: Any = create_http_app(
        Node(MemoryBroker(), authenticator=open_authenticator(secret=SECRET))
    )
    served = {
        (route.path.replace(":path", ""), method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    described = {(path, method) for path, item in openapi()["paths"].items() for method in item}
    assert described == served


def test_each_operation_has_a_unique_id_and_the_api_a_server_url() -> None:
    document = openapi()
    operations = [each for item in document["paths"].values() for each in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    (server,) = document["servers"]
    assert server["variables"]["address"]["default"].startswith("http://")


@pytest.mark.parametrize("document", [openapi(), asyncapi()], ids=["openapi", "asyncapi"])
def test_references_resolve(document: dict[str, Any]) -> None:
    for reference in references(document):
        value: Any = document
        for step in reference.removeprefix("#/").split("/"):
            value = value[step]
        assert value


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
