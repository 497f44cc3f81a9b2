"""The grammar of job ids is the same in Python, in patterns, in workers and in the OpenAPI
document.

Lua's and JavaScript's copies are tested with the same vectors in `tests/vectors` and `web/tests`.
"""

from __future__ import annotations

import json
import posixpath
import re
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway
from docs.generate.schemas import openapi
from gateway.model.constants import MAX_JOB_ID
from gateway.model.errors import InvalidInput
from gateway.model.ids import check_job_id, is_job_id, is_job_id_prefix, job_id
from gateway.worker import checks
from tests.vectors.reducer import VECTORS

IDS = json.loads((VECTORS / "ids.json").read_text())

texts = st.text("aZ09_.:/@-", max_size=12) | st.text(max_size=8)


def in_openapi(job: str) -> bool:
    schema = next(
        parameter["schema"]
        for parameter in openapi()["paths"]["/api/jobs/{job}"]["get"]["parameters"]
        if parameter["name"] == "job"
    )
    return len(job) <= schema["maxLength"] and re.search(schema["pattern"], job) is not None


def of_a_worker(job: str) -> bool:
    try:
        return checks.job_id("job", job) == job
    except ValueError:
        return False


@pytest.mark.parametrize("job", IDS["valid"])
def test_valid_job_ids_are_accepted(job: str) -> None:
    assert check_job_id(job) == job
    assert of_a_worker(job)
    assert in_openapi(job)


@pytest.mark.parametrize("job", IDS["invalid"])
def test_invalid_job_ids_are_rejected(job: str) -> None:
    with pytest.raises(InvalidInput, match="other is not a job id") as caught:
        check_job_id(job, field="other")
    assert (caught.value.code, caught.value.field) == ("invalid_job", "other")
    assert not of_a_worker(job)
    assert job.endswith("\n") or not in_openapi(job)  # Python's $ also matches before a newline


@given(texts)
def test_a_job_id_in_a_url_is_unchanged(job: str) -> None:
    """Browsers, curl and requests normalise a path before they send it; that changes no job id."""
    if is_job_id(job):
        path = f"/api/jobs/{job}"
        assert posixpath.normpath(path) == path
        assert urljoin("http://h/x", path) == f"http://h{path}"
    assert is_job_id(job) == of_a_worker(job)


@given(texts, texts)
def test_every_prefix_of_a_job_id_is_a_valid_prefix(beginning: str, rest: str) -> None:
    if is_job_id(beginning + rest):
        assert is_job_id_prefix(beginning)
    if is_job_id_prefix(beginning) and len(beginning) < MAX_JOB_ID:
        assert is_job_id(beginning + "a")


@given(st.text())
def test_any_text_converts_to_a_valid_job_id(text: str) -> None:
    job = job_id(text)
    assert is_job_id(job)
    assert not is_job_id(text) or job == text


@given(st.sets(texts | st.text(max_size=300), min_size=2, max_size=2))
def test_different_texts_convert_to_different_ids(pair: set[str]) -> None:
    first_text, second_text = pair
    assert job_id(first_text) == job_id(first_text)
    assert job_id(first_text) != job_id(second_text)


def test_a_converted_id_is_readable() -> None:
    assert re.fullmatch(r"Bericht-Marz\.csv-[0-9a-f]{10}", job_id("Bericht März.csv"))
    assert gateway.job_id is job_id
