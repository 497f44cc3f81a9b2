"""The HTTP API as an OpenAPI document and the WebSocket as an AsyncAPI one, both with the
schemas of the types that the code parses and writes."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.cli.watch import frames
from gateway.http.api import MAX_PAGE, MAX_WAIT
from gateway.http.request_values import Revocation
from gateway.model import constants
from gateway.model.ids import JOB_ID
from gateway.model.limits import DEFAULT_LIMITS
from gateway.model.state import STATUSES, JobUpdate, Reason, Request, State, Update
from gateway.model.statuses import Status
from gateway.protocol.close_codes import CLOSE_CODES
from gateway.protocol.commands import Command, Mode, RequestBody
from gateway.protocol.messages import SUBPROTOCOL

__all__ = ["asyncapi", "openapi"]

VERSION = "1"
Json = dict[str, Any]


class PublishResult(Struct, omit_defaults=True):
    """The answer to an update."""

    epoch: int
    seq: int
    attempt: int
    applied: bool
    reason: Reason | None = None
    detail: str | None = None
    request: Request | None = None


class Requested(Struct):
    """The answer to a request: its id, and the job's position after it."""

    id: str
    epoch: int
    seq: int
    attempt: int
    applied: bool


class Job(Struct):
    """A job's state at a position."""

    job: str
    epoch: int
    seq: int
    state: State


class Page(Struct):
    """Some jobs, most recently updated first."""

    jobs: list[Job]
    next: str | None


class JobSet(Struct, omit_defaults=True):
    """The jobs of a set that are shown, in order."""

    prefix: str
    epoch: int
    seq: int
    total: int
    counts: dict[Status, int]
    jobs: list[str]
    more: bool = False


class HistoryEvent(Struct):
    """A state, at a position of the history's epoch."""

    seq: int
    state: State


class Gap(Struct, rename={"first": "from", "last": "to"}):
    """Events that can no longer be had."""

    first: int
    last: int


class History(Struct, omit_defaults=True):
    """A job's recent events, oldest first."""

    job: str
    epoch: int
    events: list[HistoryEvent]
    gap: Gap | None = None
    more: bool = False


class Revoked(Struct):
    """The token with this id is invalid until this `exp`; null: permanently."""

    id: str
    until: float | None


class Problem(Struct, omit_defaults=True):
    """What was wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str | None = None
    field: str | None = None


class Health(Struct):
    """This node is running."""

    status: str
    node: str
    topics_free: int | UnsetType = UNSET


TYPES = (
    Update, JobUpdate, PublishResult, RequestBody, Requested, Job, JobSet, Page, History,
    Revocation, Revoked, Problem, Health,
)  # fmt: skip


def _schemas(types: tuple[Any, ...]) -> tuple[list[Json], Json]:
    found, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    for schema in components.values():
        if "description" in schema:  # a docstring, which Python 3.13 indents otherwise than 3.11
            schema["description"] = cleandoc(schema["description"])
        for member in schema.get("properties", {}).values():
            member.pop("propertyNames", None)  # only msgspec 0.23 and later write it
    return list(found), dict(sorted(components.items()))


def _parameter(name: str, schema: Json, about: str, *, where: str = "query") -> Json:
    needed = {"required": True} if where == "path" else {}
    return {"name": name, "in": where, "schema": schema, "description": about, **needed}


JOB = _parameter(
    "job",
    {"type": "string", "pattern": f"^{JOB_ID}$", "maxLength": constants.MAX_JOB_ID},
    "its id",
    where="path",
)
NOT_HERE = {400: "something is wrong, and named", 401: "no good token", 403: "a foreign origin"}


def _answer(ok: str, *, batch: bool) -> Json:
    schema: Json = {"$ref": f"#/components/schemas/{ok}"}
    if not batch:
        return schema
    return {"type": "array", "items": {"anyOf": [schema, {"$ref": "#/components/schemas/Problem"}]}}


def _operation(
    id_: str,
    about: str,
    ok: str,
    *parameters: Json,
    body: str | None = None,
    batch: bool = False,
    **more: str,
) -> Json:
    """Returns the description of an operation. `ok` is the schema of the response, or its media
    type; `more` are other statuses. If `batch` is true, the request body and the response are
    lists, and each response element may be a problem document."""
    content: Json = (
        {ok: {"schema": {"type": "string"}}}
        if "/" in ok
        else {"application/json": {"schema": _answer(ok, batch=batch)}}
    )
    responses: Json = {"200": {"description": "as wished", "content": content}}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    others = {str(status): why for status, why in NOT_HERE.items()}
    for status, why in sorted((others | {name[1:]: why for name, why in more.items()}).items()):
        responses[status] = {
            "description": why,
            **({} if status == "304" else {"content": problem}),
        }
    operation: Json = {"operationId": id_, "summary": about, "responses": responses}
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        schema: Json = {"$ref": f"#/components/schemas/{body}"}
        if batch:
            schema = {"type": "array", "items": schema, "maxItems": DEFAULT_LIMITS.max_batch}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def openapi() -> Json:
    """The HTTP API."""
    whole = {"type": "integer", "minimum": 0, "maximum": constants.MAX_NUMBER}
    job_ids = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    away = "the broker does not answer, or refuses (`detail` says why); try again"
    foreign = "what is stored for the job is not the gateway's to change (code unreadable_record)"
    of_set = (
        _parameter("statuses", {"type": "string"}, "only those, separated by commas"),
        _parameter(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": constants.MAX_SET_LIMIT},
            "how many of a set are shown",
        ),
    )
    paths = {
        "/api/jobs": {
            "get": _operation(
                "listJobs",
                "Jobs, most recently updated first",
                "Page",
                _parameter("prefix", {"type": "string"}, "what their ids begin with"),
                _parameter("status", {"enum": list(STATUSES)}, "only those"),
                _parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}, ""),
                _parameter("after", {"type": "string"}, "the `next` of the page before"),
                _503=away,
            ),
            "post": _operation(
                "publishJobs",
                "Report on several jobs: what became of each, in the same order",
                "PublishResult",
                _parameter(
                    "traceparent",
                    {"type": "string"},
                    "as the field of the update, if that has none (W3C Trace Context)",
                    where="header",
                ),
                body="JobUpdate",
                batch=True,
                _408="the body took too long",
                _413="the body is too big",
            ),
        },
        "/api/jobs/{job}": {
            "get": _operation(
                "getJob",
                "A job's state",
                "Job",
                JOB,
                _parameter(
                    "wait",
                    {"type": "number", "minimum": 0, "maximum": MAX_WAIT},
                    "seconds to wait for another position than If-None-Match",
                ),
                _304="it is still at that position",
                _404="no worker has reported it, or the token does not allow watching it",
                _503=away,
            ),
            "post": _operation(
                "publishJob",
                "Report on a job",
                "PublishResult",
                JOB,
                _parameter(
                    "traceparent",
                    {"type": "string"},
                    "as the field of the update, if that has none (W3C Trace Context)",
                    where="header",
                ),
                body="Update",
                _403="the token does not allow it, or a foreign origin",
                _404="it reports nothing, and the job is unknown",
                _408="the body took too long",
                _409=foreign,
                _413="the body is too big",
                _503=away,
            ),
        },
        "/api/jobs/{job}/events": {
            "get": _operation(
                "getHistory",
                "A job's recent events",
                "History",
                JOB,
                _parameter("after", whole, "only those later than this"),
                _parameter("epoch", whole, "of which record `after` is"),
                _404="no worker has reported it, or the token does not allow watching it",
                _503=away,
            )
        },
        "/api/jobs/{job}/requests": {
            "post": _operation(
                "requestJob",
                "RequestBody something of a job's worker, such as to cancel it",
                "Requested",
                JOB,
                body="RequestBody",
                _403="the token does not allow it, or a foreign origin",
                _404="nobody has reported it",
                _409=f"it does not accept this, has ended, or is in another attempt; or {foreign}",
                _503=away,
            )
        },
        "/api/events": {
            "get": _operation(
                "streamJobs",
                "Jobs as they change (Server-Sent Events)",
                "text/event-stream",
                _parameter("job", job_ids, "which; several times for several"),
                _parameter("mode", {"enum": list(get_args(Mode))}, "the newest, or each event"),
                _parameter("set", {"type": "string"}, "also the jobs whose ids begin so"),
                *of_set,
            )
        },
        "/api/sets": {
            "get": _operation(
                "getSet",
                "The jobs whose ids begin with a prefix: active ones by start, then ended ones by "
                "end, newest first",
                "JobSet",
                _parameter("prefix", {"type": "string"}, "what their ids begin with"),
                *of_set,
                _parameter(
                    "wait",
                    {"type": "number", "minimum": 0, "maximum": MAX_WAIT},
                    "seconds to wait for another document than that of If-None-Match",
                ),
                _304="it is still the same",
                _503="the broker is away, or this node follows as many sets as it may",
            )
        },
        "/api/revocations": {
            "post": _operation(
                "revokeToken",
                "Revoke a token (only where tokens are required)",
                "Revoked",
                body="Revocation",
                _403="the token does not allow revoking other tokens, or the origin is not allowed",
                _404="no tokens are required here",
                _503=away,
            )
        },
        "/healthz": {"get": _operation("getHealth", "Whether this process is alive", "Health")},
        "/readyz": {
            "get": _operation(
                "getReadiness", "Whether clients may come", "Health", _503="and why not"
            )
        },
        "/metrics": {"get": _operation("getMetrics", "For Prometheus", "text/plain")},
    }
    bearer = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "progress-gateway",
            "version": VERSION,
            "description": "See docs/protocol.md, which says what the fields mean.",
        },
        "servers": [
            {
                "url": "{address}",
                "description": "Where the gateway is reached, with the path it is mounted at",
                "variables": {"address": {"default": "http://127.0.0.1:8000"}},
            }
        ],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {"schemas": _schemas(TYPES)[1], "securitySchemes": {"token": bearer}},
    }


def asyncapi() -> Json:
    """The WebSocket."""
    said, told = get_args(Command), get_args(frames.Frame)
    # Some names are both: a ping is a ping in either direction.
    _, schemas = _schemas(said)
    _, others = _schemas(told)
    schemas |= {f"Told{name}" if name in schemas else name: one for name, one in others.items()}
    messages = {
        f"{way}{kind.__name__}": {
            "name": kind.__struct_config__.tag,
            "payload": {"$ref": f"#/components/schemas/{prefix}{kind.__name__}"},
        }
        for way, kinds in (("say", said), ("hear", told))
        for kind in kinds
        for prefix in ("Told" if way == "hear" and kind.__name__ in _schemas(said)[1] else "",)
    }

    def operation(action: str, way: str, about: str) -> Json:
        refs = [
            {"$ref": f"#/channels/ws/messages/{name}"} for name in messages if name.startswith(way)
        ]
        return {
            "action": action,
            "channel": {"$ref": "#/channels/ws"},
            "summary": about,
            "messages": refs,
        }

    codes = "\n".join(
        f"- {close_code.code} {close_code.reason}: {close_code.meaning}"
        for close_code in CLOSE_CODES
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "progress-gateway",
            "version": VERSION,
            "description": f"Subprotocol {SUBPROTOCOL}. A connection ends with one of\n\n{codes}",
        },
        "channels": {"ws": {"address": "/ws", "messages": messages}},
        "operations": {
            "receive": operation("receive", "say", "What a client says"),
            "send": operation("send", "hear", "What it is told; it passes over other fields"),
        },
        "components": {"schemas": dict(sorted(schemas.items()))},
    }
