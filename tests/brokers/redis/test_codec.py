"""The depth of the data in a record, which may be no JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.brokers.redis.codec import Unreadable, _depth, snapshot
from gateway.model.constants import MAX_DATA_DEPTH
from gateway.model.json_depth import json_depth

texts = st.text('[]{}"\\,a', max_size=6)
values = st.recursive(
    st.none() | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)
)


@given(values)
def test_the_depth_of_valid_data_is_that_of_its_json(value: Any) -> None:
    text = json.dumps(value).encode()
    assert _depth(text) == json_depth(text)


@pytest.mark.parametrize(
    ("data", "readable"),
    [
        (b'"' + b"[" * 1000 + b'"', True),
        (b'"\\"' + b"[" * 1000 + b'"', True),
        (b"[" * MAX_DATA_DEPTH + b"]" * MAX_DATA_DEPTH, True),
        (b"[" * (MAX_DATA_DEPTH + 1) + b"]" * (MAX_DATA_DEPTH + 1), False),
        (b'["\\\\",' + b"[" * MAX_DATA_DEPTH + b"]" * MAX_DATA_DEPTH + b"]", False),
    ],
)
def test_only_arrays_and_objects_count_for_the_depth(data: bytes, readable: bool) -> None:
    record = {
        b"v": b"1", b"epoch": b"1", b"seq": b"1", b"status": b"running", b"attempt": b"1",
        b"health": b"ok", b"created_at": b"1.0", b"updated_at": b"1.0", b"data": data,
    }  # fmt: skip
    if readable:
        assert snapshot("a", record) is not None
    else:
        with pytest.raises(Unreadable, match="nests more than"):
            snapshot("a", record)
