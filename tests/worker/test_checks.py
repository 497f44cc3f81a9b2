"""Arguments: which are accepted, which raise, and that the error names the argument."""

from __future__ import annotations

import inspect
import sys
import threading
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from gateway.model.constants import MAX_NUMBER
from gateway.worker import Job, checks
from gateway.worker.limits import MAX_WAIT


class Tensor:
    """Has every method, like torch's tensors, and raises in each."""

    def __index__(self) -> int:
        raise TypeError("only integer tensors")

    def __float__(self) -> float:
        raise RuntimeError("more than one element")


class Scalar:
    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize(
    ("value", "number"), [(3, 3), (2.5, 2.5), (Decimal("1.5"), 1.5), (Fraction(1, 2), 0.5)]
)
def test_number_like_objects_are_accepted(value: Any, number: float) -> None:
    assert checks.number("done", value) == number


def test_a_checked_number_is_an_int_or_a_float() -> None:
    assert type(checks.number("done", Scalar())) is int


@pytest.mark.parametrize("value", ["3", b"3", True, None, [1], Tensor(), 1j, object()])
def test_other_objects_raise_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="done must be a number"):
        checks.number("done", value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), Decimal("NaN")])
def test_numbers_that_are_not_finite_raise_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="done must be finite"):
        checks.number("done", value)


@pytest.mark.parametrize("value", [-1, -0.5, MAX_NUMBER + 1, 10**400])
def test_counts_out_of_range_raise(value: Any) -> None:
    with pytest.raises(ValueError, match="done must be between"):
        checks.count("done", value)


def test_each_field_of_an_update_is_checked() -> None:
    fields = {
        "percent": 100, "done": 1, "total": None, "unit": "x" * 33, "message": "\udcff",
        "data": {"a": None}, "children": 3, "weight": 2, "lease": 5,
    }  # fmt: skip
    checked = fields | {"unit": "x" * 31 + "…", "message": "?", "lease": 5.0}
    assert checks.update(**fields) == checked


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("percent", -0.5),
        ("percent", 100.5),
        ("done", -1),
        ("total", float("nan")),
        ("data", "x" * 9000),
        ("children", -1),
        ("weight", 1001),
        ("lease", 0),
    ],
)
def test_an_invalid_field_of_an_update_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        checks.update(**{name: value})


def test_texts_are_cut_and_made_valid_utf_8() -> None:
    assert checks.text("unit", "x" * 32) == "x" * 32
    assert checks.text("unit", "ä" * 33) == "ä" * 31 + "…"
    assert checks.text("message", "a\udcffb") == "a?b"


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, float("nan"), [float("inf")], "\ud800", {(1, 2): 3}]
)
def test_data_that_is_not_json_raises(value: object) -> None:
    with pytest.raises((TypeError, ValueError), match="data cannot be written as JSON"):
        checks.data("data", value)


def test_data_that_contains_itself_raises() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError, match="data cannot"):
        checks.data("data", value)


def test_data_is_limited_and_copied() -> None:
    value = {"a": [1]}
    copy = checks.data("data", value)
    value["a"].append(2)
    assert copy == {"a": [1]}
    assert checks.data("data", "x" * 8190) == "x" * 8190
    with pytest.raises(ValueError, match="data has 8193 bytes"):
        checks.data("data", "x" * 8191)


@pytest.mark.parametrize("value", [float("inf"), sys.maxsize, 10**400])
def test_an_infinite_timeout_is_the_maximum_of_a_lock(value: float) -> None:
    assert checks.seconds("timeout", value) == MAX_WAIT < threading.TIMEOUT_MAX


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"name": ""}, ValueError, "name"),
    ({"name": "a b"}, ValueError, "name"),
    ({"name": "x" * 201}, ValueError, "name"),
    ({"name": 42}, TypeError, "name"),
    ({"total": -1}, ValueError, "total"),
    ({"total": float("nan")}, ValueError, "total"),
    ({"total": "12"}, TypeError, "total"),
    ({"unit": 1}, TypeError, "unit"),
    ({"weight": 0}, ValueError, "weight"),
    ({"children": 1e9}, ValueError, "children"),
    ({"message": b"x"}, TypeError, "message"),
    ({"data": object()}, TypeError, "data"),
    ({"lease": 0.5}, ValueError, "lease"),
    ({"lease": None}, TypeError, "lease"),
    ({"timeout": -1}, ValueError, "timeout"),
    ({"timeout": float("-inf")}, ValueError, "timeout"),
    ({"timeout": float("nan")}, ValueError, "timeout"),
    ({"url": 1}, TypeError, "url"),
    ({"url": "localhost:8000"}, ValueError, "url"),
    ({"url": "gopher://x"}, ValueError, "url must begin with one of http://, https://"),
    ({"url": "http://"}, ValueError, "url"),
    ({"url": "http://host:port"}, ValueError, "url"),
    ({"url": "http://[::1"}, ValueError, "url"),
    ({"url": "http://hö"}, ValueError, "url"),
    ({"url": "http://a b"}, ValueError, "url"),
    ({"url": "http://me:secret@host"}, ValueError, "url"),
    ({"url": "http://host/?a=b"}, ValueError, "url"),
    ({"token": 1}, TypeError, "token"),
    ({"token": "a\r\nb: c"}, ValueError, "token"),
]


@pytest.mark.parametrize(("arguments", "error", "names"), WRONG)
def test_invalid_arguments_of_a_job_raise(
    arguments: dict[str, Any], error: type[Exception], names: str
) -> None:
    arguments = {"name": "job", "url": "http://127.0.0.1:9"} | arguments
    with pytest.raises(error, match=names) as caught:
        Job(arguments.pop("name"), **arguments)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda job: job.update(done=-1), "done"),
        (lambda job: job.update(done="1"), "done"),
        (lambda job: job.update(total=float("nan")), "total"),
        (lambda job: job.update(percent=float("nan")), "percent"),
        (lambda job: job.update(percent=None), "percent"),
        (lambda job: job.update(message=1), "message"),
        (lambda job: job.update(phase=1), "phase"),
        (lambda job: job.update(unit=1), "unit"),
        (lambda job: job.update(data={1, 2}), "data"),
        (lambda job: job.advance(-1), "n must"),
        (lambda job: job.advance("1"), "n must"),
        (lambda job: job.track([], total=-1), "total"),
        (lambda job: job.track(5), "iterable"),
        (lambda job: job.phase(1), "phase"),
        (lambda job: job.phase("a", share=2), "share"),
        (lambda job: job.phase("a", total=-2), "total"),
        (lambda job: job.phase("a", unit=2), "unit"),
        (lambda job: job.phase("a", message=2), "message"),
        (lambda job: job.fail(1), "error"),
        (lambda job: job.succeed(1), "message"),
        (lambda job: job.cancel(1), "message"),
    ],
)
def test_invalid_arguments_of_a_call_change_nothing(call: Any, names: str, nowhere: str) -> None:
    job = Job("job", total=5, message="before")
    before = job._snapshot.fields()
    with pytest.raises((TypeError, ValueError), match=names):
        call(job)
    assert job._snapshot.fields() == before
    assert job.status == "running"


def test_signatures_are_readable() -> None:
    assert "done: 'Number | Keep | None' = KEEP" in str(inspect.signature(Job.update))
