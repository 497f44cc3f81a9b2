"""The depth of the data in a record, which may be no JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.brokers.redis.codec import Unreadable, snapshot
from gateway.model.constants import MAX_DATA_DEPTH
from gateway.model.json_depth import json_depth


def depth(text: bytes) -> int:
    """Computes the same as `json_depth`, character by character."""
    level = deepest = 0
    in_string = escaped = False
    for byte in text:
        if in_string:
            in_string = escaped or byte != ord('"')
            escaped = byte == ord("\\") and not escaped
        elif byte == ord('"'):
            in_string = True
        else:
            level += (byte in b"[{") - (byte in b"]}")
            deepest = max(deepest, level)
    return deepest


@given(st.text('[]{}"\\,a\n').map(str.encode))
def test_the_depth_of_a_text_that_may_be_no_json(text: bytes) -> None:
    assert json_depth(text) == depth(text)


def test_a_long_text_without_the_end_of_a_string_is_searched_once() -> None:
    """The test would take ten seconds if each quote began another search."""
    assert json_depth(b"[" * 100 + b'"' + b'\\"' * 30_000 + b"[") == 100


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
