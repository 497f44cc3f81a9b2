"""Whether the HTTP API is as `docs/openapi.json` says: schemathesis makes requests of that
document, such as it allows and such as it does not, and judges the answers by it.

The gateway is one in a process of its own that asks for tokens. Left out is `/api/events`,
whose answers have no end. The requests are the same in each run.
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
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.auth.signing import SECRET
from tests.e2e.hosts import ROOT

from .siege import started

DOCUMENT = schemathesis.openapi.from_path(ROOT / "docs/openapi.json")
OPERATIONS = {
    found.ok().label: found.ok()
    for found in DOCUMENT.get_all_operations()
    if isinstance(found, Ok) and found.ok().path != "/api/events"
}
JOB = "known"
NOT_PROMISED: list[CheckFunction] = [positive_data_acceptance]
"""The gateway refuses some things that a schema cannot: an `after` that is of no page, or
249.0, which is an integer to JSON Schema."""
WITHIN = 60.0
some = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def token() -> str:
    rights = {"watch": ["*"], "publish": ["*"], "revoke": True, "exp": time.time() + 600}
    return jwt.encode(rights, SECRET, "HS256")


@pytest.mark.parametrize("label", OPERATIONS)
async def test_answers_are_as_documented(label: str) -> None:
    assert len(OPERATIONS) == 8  # none was left out because the document is wrong
    operation = OPERATIONS[label]
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

    @some
    @given(cases)
    def judge(case: Case[Any]) -> None:
        # Of several with one name the last counts, and an empty one is none.
        assume(all(isinstance(it, int | float | str) and it != "" for it in case.query.values()))
        case.call_and_validate(base_url=url, timeout=WITHIN, excluded_checks=NOT_PROMISED)

    async with started("--bind", "127.0.0.1:0", env={"GATEWAY_SECRET": SECRET}) as siege:
        url = f"http://127.0.0.1:{siege.port}"
        async with httpx.AsyncClient(base_url=url, headers=good) as client:
            answer = await client.post(f"/api/jobs/{JOB}", json={"percent": 10})
            assert answer.status_code == 200
        await trio.to_thread.run_sync(judge)
        assert siege.lives
