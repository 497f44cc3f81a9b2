"""Real processes are linearizable, and the checker rejects histories that are not."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable

import pytest

from .history import END, Op, check, run

pytestmark = pytest.mark.skipif(
    shutil.which("go") is None, reason="no go in PATH, which the checker is written in"
)


def test_two_nodes_with_kills_are_linearizable() -> None:
    history = run(seconds=20, seed=1)
    holds, output = check(history)
    assert holds, output
    # The history contains all ways to publish and to read.
    answered = {op["client"] for op in history if op.get("answer")}
    assert answered >= {0, 1, 2, 3, 4}
    assert {op["client"] for op in history if op.get("read")} >= {10, 11, 20, 21}
    assert any("children" in (op.get("read") or {}) for op in history)


def state(seq: int, done: int, message: str, status: str = "running") -> Op:
    percent = 100 if status == "succeeded" else done
    return {"epoch": 7, "seq": seq, "attempt": 1, "status": status, "done": done,
            "percent": percent, "message": message}  # fmt: skip


def update(at: int, seq: int, done: int, message: str, **more: object) -> Op:
    body = {"attempt": 1, "done": done, "total": 100, "message": message, **more}
    answer = {"epoch": 7, "seq": seq, "attempt": 1, "reason": ""}
    return {"job": "a", "client": 0, "call": at, "return": at + 1, "update": body, "answer": answer}


def read(at: int, found: Op) -> Op:
    return {"job": "a", "client": 10, "call": at, "return": at + 1, "read": found}


HISTORY = [
    update(0, 1, 10, "x"),
    read(2, state(1, 10, "x")),
    update(4, 2, 20, "y"),
    read(6, state(2, 20, "y")),
    update(8, 3, 30, "z", status="succeeded"),
    read(10, state(3, 30, "z", "succeeded")),
    read(12, state(3, 30, "z", "succeeded")),
]


def test_the_checker_accepts_a_valid_history() -> None:
    lost = update(3, 0, 15, "l") | {"answer": None, "return": END}  # it never happened
    assert check([*HISTORY, lost])[0]


def test_a_restart_of_redis_may_change_the_epoch_but_not_the_state() -> None:
    kept = read(14, state(1, 30, "z", "succeeded") | {"epoch": 8}) | {"restarts": 1}
    assert check([*HISTORY, kept])[0]
    back = read(14, state(1, 20, "y") | {"epoch": 8}) | {"restarts": 1}
    assert not check([*HISTORY, back])[0]
    older = read(14, state(1, 30, "z", "succeeded") | {"epoch": 6}) | {"restarts": 1}
    assert not check([*HISTORY, older])[0]


ALTERED: dict[str, Callable[[list[Op]], object]] = {
    "an end that is taken back": lambda ops: ops[6].update(read=state(2, 20, "y")),
    "a position that falls": lambda ops: ops[6]["read"].update(seq=2),
    "an acknowledged update that is lost": lambda ops: ops[3].update(read=state(1, 10, "x")),
    "two states at one position": lambda ops: ops[6]["read"].update(message="other"),
    "a percentage that falls": lambda ops: ops[3]["read"].update(percent=5),
    "another epoch": lambda ops: ops[3]["read"].update(epoch=8),
    "an end that becomes unknown": lambda ops: ops[6].update(read={"seq": 0}),
    "a position that is given twice": lambda ops: ops[2]["answer"].update(seq=1),
    "an update after the end": lambda ops: ops.append(update(14, 4, 40, "late")),
}


@pytest.mark.parametrize("name", ALTERED)
def test_the_checker_rejects_an_invalid_history(name: str) -> None:
    history = copy.deepcopy(HISTORY)
    ALTERED[name](history)
    assert not check(history)[0]


def group(seq: int, percent: float, *children: int, status: str = "running") -> Op:
    """Returns a state of a group. `children`: expected, queued, running, succeeded, failed,
    cancelled."""
    return {"epoch": 9, "seq": seq, "attempt": 1, "status": status, "percent": percent,
            "children": children}  # fmt: skip


def operation_on(job: str, op: Op) -> Op:
    return op | {"job": job}


def declare(at: int, job: str, expected: int) -> Op:
    answer = {"epoch": 9, "seq": 1, "attempt": 1, "reason": ""}
    return operation_on(
        job, update(at, 0, 0, "") | {"update": {"children": expected}, "answer": answer}
    )


TREE = [
    declare(0, "t", 3),
    declare(2, "t/s", 2),
    operation_on("t/s/a", update(4, 1, 50, "x")),
    operation_on("t/x", update(6, 1, 30, "y")),
    operation_on("t", read(8, group(4, 28.3, 3, 0, 2, 0, 0, 0))),
    operation_on("t/s/a", update(10, 2, 50, "z", status="succeeded")),
    operation_on("t/s/b", update(12, 1, 10, "l", status="failed")),
    operation_on("t/s", read(14, group(4, 100, 2, 0, 0, 1, 1, 0, status="failed"))),
    operation_on("t", read(16, group(6, 53.3, 3, 0, 1, 0, 1, 0))),
    operation_on("t/x", update(18, 2, 40, "m", status="succeeded")),
    operation_on("t", read(24, group(7, 100, 3, 0, 0, 1, 1, 0, status="failed"))),
]
"""`t` contains `t/s`, a group of two, and `t/x`, which has weight 2."""
ANOTHER: Op = {"epoch": 7, "seq": 3, "attempt": 2, "reason": ""}
ALTERED_TREES: dict[str, Callable[[list[Op]], object]] = {
    "a percentage that is not the sum": lambda ops: ops[4]["read"].update(percent=28.2),
    "a child that is not counted": lambda ops: ops[4]["read"].update(children=[3, 0, 1, 0, 0, 0]),
    "a child that counts once too little": lambda ops: ops[8]["read"].update(percent=40),
    "an update that the group does not know": lambda ops: ops[8]["read"].update(ops[4]["read"]),
    "an inner end that is not counted": lambda ops: ops[8]["read"].update(
        children=[3, 0, 2, 0, 0, 0]
    ),
    "an end before the last child's": lambda ops: ops[8]["read"].update(status="failed"),
    "a group that goes on after its end": lambda ops: ops[10]["read"].update(status="running"),
    "a failed child that is forgotten": lambda ops: ops[10]["read"].update(status="succeeded"),
    "a retried child and no new attempt": lambda ops: ops.insert(
        10, operation_on("t/x", update(20, 3, 1, "n", attempt=2) | {"answer": ANOTHER})
    ),
}


def test_the_checker_accepts_a_valid_tree() -> None:
    assert check(TREE)[0]
    lost = operation_on("t/x", update(5, 0, 90, "l") | {"answer": None, "return": END})
    assert check([*TREE, lost])[0]
    again = operation_on("t/x", update(26, 3, 1, "n", attempt=2) | {"answer": ANOTHER})
    opened = group(8, 34, 3, 0, 1, 0, 1, 0) | {"attempt": 2}
    assert check([*TREE, again, operation_on("t", read(28, opened))])[0]


@pytest.mark.parametrize("name", ALTERED_TREES)
def test_the_checker_rejects_a_tree_that_is_not_the_sum_of_its_children(name: str) -> None:
    history = copy.deepcopy(TREE)
    ALTERED_TREES[name](history)
    assert not check(history)[0]
