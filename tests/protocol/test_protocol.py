"""Parsing names the error; encoding gives the same bytes as the libraries."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

from gateway.model.errors import InvalidInput
from gateway.model.state import Position, State
from gateway.protocol import close_codes
from gateway.protocol.commands import (
    Command,
    Hello,
    Ping,
    Subscribe,
    SyncSubscriptions,
    parse_command,
    parse_update,
)
from gateway.protocol.messages import Message, snapshot, step, steps, text_frame, unseen
from tests.traceparents import MALFORMED, SPAN

STATE = State(status="running", attempt=1, created_at=1.0, updated_at=1.0, message="a\nb")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"type":"ping"}', Ping()),
        ('{"type":"ping","at":1}', Ping()),
        ('{"jobs":["a"],"type":"subscribe","id":7}', Subscribe(["a"], id=7)),
        (
            '{"type":"sync_subscriptions","jobs":[],"mode":"every","id":"x"}',
            SyncSubscriptions([], id="x", mode="every"),
        ),
        (
            '{"type":"hello","positions":{"a":[5,2],"b":[null,0]},"max_hz":10}',
            Hello(positions={"a": (5, 2), "b": (None, 0)}, max_hz=10),
        ),
    ],
)
def test_valid_commands_are_parsed(text: str, command: Command) -> None:
    assert parse_command(text) == command


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ("", "invalid_json", None),
        ("hello", "invalid_json", None),
        ('{"type":"ping"', "invalid_json", None),
        ('{"type":"ping","x":' + "[" * 100_000, "invalid_json", None),
        ('{"jobs":["\ud800"],"type":"subscribe"}', "invalid_json", None),
        ("[]", "invalid_command", None),
        ("{}", "unknown_type", "type"),
        ('{"type":"dance"}', "unknown_type", "type"),
        ('{"type":3}', "unknown_type", "type"),
        ('{"type":"subscribe"}', "invalid_command", "jobs"),
        ('{"type":"subscribe","jobs":"a"}', "invalid_command", "jobs"),
        ('{"type":"subscribe","jobs":["a",1]}', "invalid_command", "jobs[1]"),
        ('{"type":"subscribe","jobs":[],"mode":"x"}', "invalid_command", "mode"),
        ('{"type":"hello","positions":{"a":3}}', "invalid_command", "positions[...]"),
    ],
)
def test_an_invalid_command_names_the_field(text: str, code: str, field: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_command(text)
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b'{"percent":101}', "percent"),
        (b'{"percent":-1}', "percent"),
        (b'{"percent":"5"}', "percent"),
        (b'{"done":1e400}', "done"),
        (b'{"attempt":0}', "attempt"),
        (b'{"status":"done"}', "status"),
        (b'{"precent":5}', "precent"),
        (b'{"lease":0.1}', "lease"),
        (b'{"message":"%b"}' % (b"x" * 1001), "message"),
        (b'{"data":"%b"}' % (b"x" * 9000), "data"),
    ],
)
def test_an_invalid_update_names_the_field(text: bytes, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_update(text)
    assert (caught.value.code, caught.value.field) == ("invalid_update", field)


def test_a_valid_traceparent_is_accepted() -> None:
    assert parse_update(b'{"traceparent":"%b"}' % SPAN.encode()).traceparent == SPAN
    assert parse_update(b'{"traceparent":null}').traceparent is None


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_traceparent_is_rejected(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_update(msgspec.json.encode({"traceparent": text}))
    assert (caught.value.code, caught.value.field) == ("invalid_update", "traceparent")


@pytest.mark.parametrize("field", ["children", "weight"])
def test_a_groups_numbers_are_bounded(field: str) -> None:
    for number in ("-1", "100000001", '"1"'):
        with pytest.raises(InvalidInput) as caught:
            parse_update(f'{{"{field}":{number}}}'.encode())
        assert (caught.value.code, caught.value.field) == ("invalid_update", field)
    assert getattr(parse_update(f'{{"{field}":null}}'.encode()), field) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x",
        b'{"percent":',
        b'{"message":"\xff"}',
        b"\xff\xfe",
        # In `data`, which is passed through unread, so it would break the frames of all clients.
        b'{"data":"\xff"}',
        b'{"data":{"\xff":1}}',
        b'{"data":"\xed\xa0\x80"}',
    ],
)
def test_an_update_that_is_not_json_is_rejected(text: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_update(text)
    assert caught.value.code == "invalid_json"


def test_data_is_compacted_so_that_frames_stay_one_line() -> None:
    update = parse_update(b'{"data": {\n "a": [1,\n 2]}}')
    assert update.data == msgspec.Raw(b'{"a":[1,2]}')


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_raise_invalid_input(data: bytes) -> None:
    for parse in (parse_command, parse_update):
        try:
            parse(data)
        except InvalidInput as error:
            assert str(error)  # noqa: PT017 - any other exception fails the test


@given(st.text(max_size=300) | st.sampled_from([125, 126, 65_535, 65_536]).map(lambda n: "x" * n))
def test_frames_equal_those_of_wsproto(text: str) -> None:
    payload = text.encode("utf-8", "replace")
    theirs = FrameProtocol(client=False, extensions=[]).send_data(payload.decode())
    assert text_frame(payload) == theirs


def test_a_message_is_encoded_in_each_form() -> None:
    message = Message([b'{"a":1}', b'{"b":2}'])
    assert message.separate_frames == text_frame(b'{"a":1}') + text_frame(b'{"b":2}')
    assert message.joined_frame == text_frame(b'{"a":1}\n{"b":2}')
    assert message.separate_frames is message.separate_frames
    assert message.size == 14


def test_a_message_splits_into_consecutive_parts() -> None:
    texts = [b"x" * size for size in (5, 5, 30, 1, 1)]
    message = Message(texts, "step", job="a", position=Position(1, 9))
    parts = list(message.split(10))
    assert [(len(part.texts), part.position.seq) for part in parts] == [(2, 6), (1, 7), (2, 9)]
    assert {part.kind for part in parts} == {"step"}


def test_progress_frames_match_the_documented_json() -> None:
    position = Position(5, 9)
    text = msgspec.json.encode(STATE)
    frame = json.loads(step("a/b", position, text, prev=7).texts[0])
    assert frame == {
        "type": "progress",
        "job": "a/b",
        "epoch": 5,
        "prev": 7,
        "seq": 9,
        "state": json.loads(text),
    }
    whole = json.loads(snapshot("a/b", position, text, kind="snapshot").texts[0])
    assert whole == frame | {"prev": None, "snapshot": True}
    assert json.loads(unseen("a", kind="snapshot").texts[0]) == {
        "type": "progress",
        "job": "a",
        "epoch": None,
        "prev": None,
        "seq": 0,
        "snapshot": True,
        "state": None,
    }
    assert b"\n" not in step("a/b", position, text, prev=7).texts[0]


def test_steps_are_consecutive_and_the_first_of_an_epoch_is_a_snapshot() -> None:
    message = steps("a", Position(5, 3), [b"1", b"2", b"3"])
    frames = [json.loads(text) for text in message.texts]
    assert [(f["prev"], f["seq"], f["state"]) for f in frames] == [
        (None, 1, 1),
        (1, 2, 2),
        (2, 3, 3),
    ]
    assert [f.get("snapshot", False) for f in frames] == [True, False, False]
    assert frames[0] == json.loads(snapshot("a", Position(5, 1), b"1", kind="snapshot").texts[0])
    assert message.position == (5, 3)


def test_close_codes_are_in_their_ranges_and_fit_a_close_frame() -> None:
    codes = [close_code.code for close_code in close_codes.CLOSE_CODES]
    assert codes == sorted(set(codes))
    for close_code in close_codes.CLOSE_CODES:
        assert len(close_code.reason.encode()) <= 123
        if close_code.code >= 4000:
            assert close_code.reconnect == (close_code.code < 4500)


def test_an_error_lists_the_allowed_values_of_a_field() -> None:
    with pytest.raises(InvalidInput, match="queued, running, succeeded, failed, cancelled"):
        parse_update(b'{"status": "done"}')
    with pytest.raises(InvalidInput, match="latest, every"):
        parse_command('{"type": "subscribe", "jobs": ["a"], "mode": "all"}')
