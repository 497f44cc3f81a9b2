"""An update from Python values: the same values are accepted and refused as over HTTP, and a `Job`
has the same rules for numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from math import inf, isfinite, nan
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from gateway import Gateway, Job
from gateway.model.constants import MAX_DATA_DEPTH, MAX_NUMBER
from gateway.model.errors import InvalidInput
from gateway.model.json_depth import json_depth
from gateway.model.state import Update
from gateway.protocol.commands import parse_update
from gateway.protocol.update_fields import UpdateFields, update_from
from gateway.worker import checks

numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([-0.0, 0, 1, 100, 100.5, MAX_NUMBER, MAX_NUMBER + 1, 1e400, 5e-324, True])
    | st.integers(-2, 200)
)
FIELDS = ["percent", "done", "total", "lease", "attempt"]


def outcome(make: Any) -> Any:
    """Returns the parsed value, or the name of the wrong field."""
    try:
        return make()
    except InvalidInput as error:
        return error.field
    except (TypeError, ValueError):
        return "refused"


def over_http(field: str, value: Any) -> Any:
    return outcome(lambda: getattr(parse_update(json.dumps({field: value}).encode()), field))


@given(st.sampled_from(FIELDS), numbers)
@example("done", nan)
@example("percent", inf)
@example("total", -inf)
def test_a_number_is_parsed_like_over_http(field: str, value: Any) -> None:
    embedded = outcome(lambda: getattr(update_from({field: value}), field))
    if isinstance(value, float) and not isfinite(value):
        assert embedded == field  # JSON has no such number
    else:
        assert embedded == over_http(field, value)
        assert repr(embedded) == repr(over_http(field, value))


@given(st.sampled_from(["percent", "done", "total", "lease"]), numbers)
def test_a_job_accepts_the_same_numbers(field: str, value: Any) -> None:
    embedded = outcome(lambda: getattr(update_from({field: value}), field))
    reported = outcome(lambda: checks.update(**{field: value})[field])
    if reported == "refused":
        assert embedded == field
    else:
        assert embedded == reported


class Like:
    """A number type of some library, with `__index__` or `__float__`."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __float__(self) -> float:
        return float(self._value)


@pytest.mark.parametrize("value", [Decimal("1.5"), Fraction(3, 2), Like(1.5)])
def test_number_like_objects_are_accepted(value: Any) -> None:
    assert update_from({"done": value}).done == 1.5


@pytest.mark.parametrize("value", [Decimal("nan"), Decimal("inf"), Like(nan), "1", b"1", [1], {}])
def test_other_objects_are_rejected_with_the_field_name(value: Any) -> None:
    assert outcome(lambda: update_from({"done": value})) == "done"


@pytest.mark.parametrize(
    "value",
    [{"a": inf}, [nan], {"a": [{"b": -inf}]}, {1j: 1}, {"a": object()}, {"a": "\ud800"}, b"x"],
)
def test_data_that_json_cannot_represent_is_rejected(value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        update_from({"data": value})
    assert caught.value.field in ("data", None)


def test_data_that_contains_itself_is_rejected() -> None:
    data: list[Any] = []
    data.append(data)
    assert outcome(lambda: update_from({"data": data})) == "data"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text('ab\n"\\{[é'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('b"['), inner, max_size=3),
    max_leaves=20,
)


@given(json_values)
def test_data_is_stored_like_over_http(value: Any) -> None:
    body = json.dumps({"data": value}, ensure_ascii=False, indent=2).encode()
    embedded, over_http = update_from({"data": value}).data, parse_update(body).data
    assert bytes(embedded) == bytes(over_http)  # type: ignore[arg-type]  # neither is UNSET


@given(json_values)
def test_the_depth_of_a_json_text_is_computed(value: Any) -> None:
    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list):
            return 1 + max(map(depth, inner), default=0)
        return 0

    assert json_depth(json.dumps(value).encode()) == depth(value)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '["[{",'])
def test_the_depth_of_data_is_limited(opening: str) -> None:
    closing = {"[": "]", "{": "}"}
    levels = opening.count("[{") * 2 if opening == '[{"a":' else 1

    def text(depth: int) -> bytes:
        times = depth // levels
        brackets = "".join(closing[c] for c in ("[{" if levels == 2 else opening[0]))[::-1]
        return f'{{"data":{opening * times}1{brackets * times}}}'.encode()

    parse_update(text(MAX_DATA_DEPTH))
    for depth in (MAX_DATA_DEPTH + levels, 500, 900):
        assert outcome(lambda depth=depth: parse_update(text(depth))) == "data"


def test_null_clears_a_field_and_absence_keeps_it() -> None:
    update = update_from({"done": None, "data": None, "message": "m"})
    assert (update.done, bytes(update.data), update.total) == (None, b"null", UNSET)  # type: ignore[arg-type]  # it is set


def test_the_typed_dict_has_the_fields_of_an_update() -> None:
    typed = get_type_hints(UpdateFields)
    fields = {field.name: field for field in msgspec.structs.fields(Update)}
    assert set(typed) == set(fields)
    for name, hint in typed.items():
        if name != "data":
            clears = outcome(lambda name=name: update_from({name: None}))
            assert (type(None) in get_args(hint)) == isinstance(clears, Update), name


async def test_an_error_of_the_gateway_names_the_field(gateway: Gateway) -> None:
    await gateway.publish("a", done=3)
    for fields in ({"done": nan}, {"data": {"a": inf}}, {"percnt": 1}):
        with pytest.raises(InvalidInput) as caught:
            await gateway.publish("a", **fields)
        assert caught.value.field == next(iter(fields))
    (event,) = (await gateway.node.broker.read(["a"])).values()
    assert event.state.done == 3


def test_a_job_rejects_numbers_that_are_not_finite() -> None:
    with Job("a", url="http://127.0.0.1:9") as job, pytest.raises(ValueError, match="finite"):
        job.update(done=nan)
