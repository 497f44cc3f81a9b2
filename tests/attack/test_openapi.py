"""The HTTP API matches `docs/openapi.json`: schemathesis sends valid and invalid requests from that
document, and checks the responses.

The gateway runs in its own process and requires tokens. `/api/events` is left out, because its
responses do not end. The requests are the same in each run.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
import jwt
import pytest
import schemathesis
import trio
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schemathesis import Case, CheckFunction, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.auth.signing import SECRET
from tests.e2e.hosts import ROOT

from .attacked_gateway import idle_gateway

DOCUMENT = schemathesis.openapi.from_path(ROOT / "docs/openapi.json")
OPERATIONS = {
    found.ok().label: found.ok()
    for found in DOCUMENT.get_all_operations()
    if isinstance(found, Ok) and found.ok().path != "/api/events"
}
JOB = "known"
BATCH = "POST /api/jobs"
NOT_PROMISED: list[CheckFunction] = [positive_data_acceptance]
"""The gateway refuses some values that a schema allows: an `after` that no page has returned, or
249.0, which is an integer in JSON Schema."""
WITHIN = 60.0
fuzz_settings = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def token() -> str:
    permissions = {
        "watch": ["*"],
        "publish": ["*"],
        "control": ["*"],
        "revoke": True,
        "exp": time.time() + 600,
    }
    return jwt.encode(permissions, SECRET, "HS256")


@pytest.mark.parametrize("label", OPERATIONS)
async def test_responses_match_the_openapi_document(label: str) -> None:
    assert len(OPERATIONS) == 11  # no operation was skipped because of an error in the document
    operation = OPERATIONS[label]
    # In a batch each update has its own response, so an invalid one does not affect the others.
    excluded = [*NOT_PROMISED, negative_data_rejection] if label == BATCH else NOT_PROMISED
    good = {"authorization": f"Bearer {token()}"}
    known = {"job": JOB} if "{job}" in operation.path else {}
    soon = {"wait": 0.01} if "wait" in {each.name for each in operation.iter_parameters()} else {}
    cases = st.one_of(
        [
            operation.as_strategy(mode, headers=headers, path_parameters=path, query=soon)
            for mode in GenerationMode
            for headers in (good, {})
            for path in (known, {})
        ]
    )

    @fuzz_settings
    @given(cases)
    def judge(case: Case[Any]) -> None:
        # The last of several parameters with one name is used, and an empty one is ignored.
        assume(all(isinstance(it, int | float | str) and it != "" for it in case.query.values()))
        case.call_and_validate(base_url=url, timeout=WITHIN, excluded_checks=excluded)

    async with idle_gateway(
        "--bind", "127.0.0.1:0", env={"PROGRESS_GATEWAY_SECRET": SECRET}
    ) as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        async with httpx.AsyncClient(base_url=url, headers=good) as client:
            answer = await client.post(f"/api/jobs/{JOB}", json={"percent": 10})
            assert answer.status_code == 200
        await trio.to_thread.run_sync(judge)
        assert gateway.is_running
