"""tqdm's bars as jobs, with the real tqdm."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest
from tqdm import auto, std
from tqdm.contrib.concurrent import thread_map

from gateway.integrations.tqdm import tqdm, trange
from gateway.model.constants import MAX_NUMBER
from gateway.model.state import Children
from gateway.worker import Job
from tests.worker.fake_gateway import FakeGateway
from tests.worker.recorder import Recorder


@pytest.fixture
def group_recorder(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A real gateway, to which jobs report: the fake gateway computes no groups."""
    monkeypatch.setenv("PROGRESS_GATEWAY_URL", recorder.url)
    return recorder


def last_update(fake_gateway: FakeGateway, job: str) -> dict[str, Any]:
    """Returns the last update of `job`, which has all fields."""
    fake_gateway.wait_for(lambda got: fake_gateway.ends(job))
    (end,) = fake_gateway.ends(job)
    return {k: v for k, v in end.fields.items() if k not in ("lease", "start", "run", "attempt")}


def newest(fake_gateway: FakeGateway) -> dict[str, Any]:
    return fake_gateway.received[-1].fields if fake_gateway.received else {}


def fail_at_2(bar: Iterable[int]) -> None:
    for item in bar:
        if item == 2:
            raise ValueError("bad frame")


def test_a_loop_is_counted(fake_gateway: FakeGateway, capsys: pytest.CaptureFixture[str]) -> None:
    items = list(tqdm("abc", job="job", unit="frames", desc="encode", initial=10, total=13))
    assert items == ["a", "b", "c"]
    assert last_update(fake_gateway, "job") == {
        "status": "succeeded",
        "done": 13,
        "total": 13,
        "unit": "frames",
        "phase": "encode",
        "percent": 100.0,
    }
    stderr = capsys.readouterr().err
    assert "encode:" in stderr
    assert "13/13" in stderr


def test_trange_is_counted(fake_gateway: FakeGateway) -> None:
    assert list(trange(1, 4, job="job")) == [1, 2, 3]
    assert last_update(fake_gateway, "job")["done"] == 3


def test_manual_updates_are_counted(fake_gateway: FakeGateway) -> None:
    with tqdm(total=4, job="job", postfix={"loss": 0.5}, mininterval=9) as bar:
        bar.update(3)
        fake_gateway.wait_for(lambda got: newest(fake_gateway).get("done") == 3)
        assert newest(fake_gateway)["message"] == "loss=0.5"
        bar.set_description("second half")
        bar.set_postfix(loss=0.25)
        fake_gateway.wait_for(lambda got: newest(fake_gateway).get("message") == "loss=0.25")
        assert newest(fake_gateway)["phase"] == "second half"
        bar.set_description()
        bar.set_postfix_str("")
        bar.total = 8
        bar.n = 6
        bar.refresh()
        fake_gateway.wait_for(lambda got: newest(fake_gateway).get("done") == 6)
    end = last_update(fake_gateway, "job")
    assert (end["done"], end["total"], end["phase"], end["message"]) == (6, 8, None, None)
    assert bar.job is None


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("bad"), "failed", "ValueError: bad"),
        (KeyboardInterrupt(), "cancelled", None),
    ],
)
def test_an_exception_leaves_the_block(
    fake_gateway: FakeGateway, error: BaseException, status: str, text: str | None
) -> None:
    with pytest.raises(type(error)), tqdm(range(3), job="job") as bar:  # noqa: PT012 - the exception leaves the block
        for _ in bar:
            raise error
    end = last_update(fake_gateway, "job")
    assert (end["status"], end.get("error")) == (status, text)


def test_a_break_in_a_with_block_succeeds(fake_gateway: FakeGateway) -> None:
    with tqdm(range(3), job="job") as bar:
        for _ in bar:
            break
        bar.close()
    assert last_update(fake_gateway, "job")["status"] == "succeeded"


def test_an_exception_of_the_iterable_fails_the_job(fake_gateway: FakeGateway) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(tqdm(broken(), job="job"))
    end = last_update(fake_gateway, "job")
    assert (end["status"], end["error"], end["done"]) == ("failed", "OSError: disk", 1)


def test_a_loop_left_early_is_cancelled(fake_gateway: FakeGateway) -> None:
    with pytest.raises(ValueError, match="bad frame"):
        fail_at_2(tqdm(range(5), job="a"))
    fail_at_2(item for item in tqdm(iter([1, 1]), job="b") if item == 1)
    for item in tqdm(iter(range(5)), job="c"):
        if item == 2:
            break
    first_loop_end, third_loop_end = last_update(fake_gateway, "a"), last_update(fake_gateway, "c")
    assert (first_loop_end["status"], first_loop_end["message"]) == ("cancelled", "left at 2 of 5")
    assert last_update(fake_gateway, "b")["status"] == "succeeded"
    assert (third_loop_end["status"], third_loop_end["message"]) == ("cancelled", "left at 2")


def test_reset_restarts_the_count(fake_gateway: FakeGateway) -> None:
    bar = tqdm(total=3, job="job")
    bar.update(3)
    bar.reset(total=5)
    bar.update(4)
    bar.close()
    end = last_update(fake_gateway, "job")
    assert (end["done"], end["total"]) == (7, 8)


def test_unit_scale_is_applied(fake_gateway: FakeGateway) -> None:
    with tqdm(total=4, job="job", unit="B", unit_scale=512) as bar:
        bar.update(3)
    end = last_update(fake_gateway, "job")
    assert (end["done"], end["total"]) == (1536, 2048)
    with tqdm(total=4, job="other", unit_scale=True) as bar:
        bar.update(1.5)
    assert last_update(fake_gateway, "other")["done"] == 1.5


def test_a_bar_of_an_existing_job_only_counts(fake_gateway: FakeGateway) -> None:
    with Job("job", total=5) as job:
        for _ in tqdm(range(2), job=job, desc="one"):
            pass
        with pytest.raises(ValueError, match="bad frame"), tqdm(range(3), job=job) as bar:
            fail_at_2(bar)
        assert job.status == "running"
        assert (job.done, job.total) == (4, 5)
    assert last_update(fake_gateway, "job")["phase"] == "one"


def test_a_nested_bar_of_the_same_job_is_a_phase(
    fake_gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    with Job("job") as job:
        for i in tqdm(range(2), job=job, desc="outer"):
            for _ in tqdm(range(5), job=job, desc="inner", leave=False):
                pass
            for _ in tqdm(range(7), desc="plain", leave=False):
                pass
            for _ in tqdm(range(2), job=f"other:{i}"):
                pass
        for _ in tqdm(range(5), job=job, desc="after"):
            pass
    end = last_update(fake_gateway, "job")
    assert (end["done"], end["total"], end["phase"]) == (7, 7, "after")
    assert (
        last_update(fake_gateway, "other:0")["done"]
        == last_update(fake_gateway, "other:1")["done"]
        == 2
    )
    assert "inner" in capsys.readouterr().err
    assert not [
        g for g in fake_gateway.requests_of("job") if g.fields.get("phase") in ("inner", "plain")
    ]


def test_a_nested_bar_with_the_same_name_uses_the_outer_job(fake_gateway: FakeGateway) -> None:
    for _ in tqdm(range(2), job="job", desc="outer"):
        for _ in tqdm(range(5), job="job", desc="inner", leave=False):
            pass
        with tqdm(total=7, job="job", desc="block", leave=False) as bar:
            bar.update(7)
    end = last_update(fake_gateway, "job")
    assert (end["status"], end["done"], end["total"]) == ("succeeded", 2, 2)
    assert end["phase"] == "outer"
    assert fake_gateway.attempts["job"][0] == 1


def test_a_disabled_bar_reports_nothing(
    fake_gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(tqdm(range(3), job="none", disable=True)) == [0, 1, 2]
    bar = tqdm(total=3, job="none", disable=True)
    bar.update(1)
    bar.reset()
    bar.close()
    assert bar.job is None
    assert list(tqdm(range(3), job="job", disable=None)) == [0, 1, 2]
    assert last_update(fake_gateway, "job")["done"] == 3
    assert not fake_gateway.requests_of("none")
    assert capsys.readouterr().err == ""


def test_without_a_job_it_is_a_bar(
    fake_gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(tqdm(range(3), desc="plain", disable=False)) == [0, 1, 2]
    assert list(tqdm(range(3), disable=None)) == [0, 1, 2]
    with tqdm(total=2) as bar:
        bar.update(2)
        bar.reset()
    assert "plain" in capsys.readouterr().err
    assert not fake_gateway.received


def test_a_deleted_bar_ends_its_job_only_if_it_is_complete(fake_gateway: FakeGateway) -> None:
    for job, n in (("complete", 2), ("torn", 1)):
        bar = tqdm(total=2, job=job)
        bar.update(n)
        del bar
        gc.collect()
    assert last_update(fake_gateway, "complete")["status"] == "succeeded"
    assert not fake_gateway.ends("torn")


def test_a_complete_bar_deleted_in_a_cycle_ends_its_job(
    fake_gateway: FakeGateway,
) -> None:
    """The collector clears weak references before it calls `__del__`."""
    bar: Any = tqdm(total=2, job="job")
    bar.update(2)
    bar.itself = bar
    del bar
    gc.collect()
    assert last_update(fake_gateway, "job")["status"] == "succeeded"


@pytest.mark.parametrize("n", [float("nan"), float("inf"), -5, 10**400, 2**60])
def test_an_invalid_count_never_raises(fake_gateway: FakeGateway, n: Any) -> None:
    bar = tqdm(total=3, job="job", mininterval=9)
    bar.n = n
    bar.update(0)
    bar.total = n
    bar.update(0)
    assert bar.job is not None
    assert 0 <= (bar.job.done or 0) <= MAX_NUMBER
    bar.n = bar.total = 1  # tqdm itself cannot show these values
    bar.close()
    assert last_update(fake_gateway, "job")["status"] == "succeeded"


@pytest.mark.parametrize("job", ["not a job", 7])
def test_an_invalid_job_raises(job: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="name"):
        tqdm(range(3), job=job)


async def test_an_async_loop_is_counted(fake_gateway: FakeGateway) -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise OSError("disk")

    assert [item async for item in tqdm(items(), job="job", total=2)] == [1, 2]
    with pytest.raises(OSError, match="disk"):
        [item async for item in tqdm(broken(), job="broken")]
    assert last_update(fake_gateway, "job")["done"] == 2
    assert last_update(fake_gateway, "broken")["error"] == "OSError: disk"


def test_bars_in_threads_are_independent(fake_gateway: FakeGateway) -> None:
    about: dict[str, Any] = {"tqdm_class": tqdm, "job": "job"}
    result = thread_map(str, range(50), max_workers=2, **about)
    assert result == [str(item) for item in range(50)]
    assert last_update(fake_gateway, "job")["done"] == 50


def test_the_original_tqdm_is_unchanged(fake_gateway: FakeGateway) -> None:
    for original in (std.tqdm, auto.tqdm):
        assert list(original(range(3))) == [0, 1, 2]
        with pytest.raises(KeyError):
            original(range(3), job="job")
    assert not fake_gateway.received


def test_bars_inside_of_a_group_are_its_children(group_recorder: Recorder) -> None:
    job = "train:7"
    for epoch in tqdm(range(3), job=job, children=3, desc="epochs"):
        for _ in tqdm(range(4), desc=f"epoch {epoch}"):
            for _ in tqdm(range(2), job="apart"):
                pass
    end = group_recorder.states(job)[-1]
    assert (end.status, end.percent, end.phase) == ("succeeded", 100, "epochs")
    assert end.children == Children(3, succeeded=3)
    children = [group_recorder.states(f"{job}/{number}")[-1] for number in (1, 2, 3)]
    assert [(child.done, child.phase) for child in children] == [
        (4, "epoch 0"), (4, "epoch 1"), (4, "epoch 2")
    ]  # fmt: skip
    for _ in tqdm(range(2)):  # the group has ended
        pass
    assert group_recorder.jobs == {job, *(f"{job}/{number}" for number in (1, 2, 3)), "apart"}


def test_a_group_ends_with_the_bars_that_were_made(group_recorder: Recorder) -> None:
    """The loop makes two bars instead of the expected four. One of the bars is a group itself."""
    with tqdm(total=2, job="few", children=4):
        for _ in tqdm(range(2)):
            pass
        for _ in tqdm(range(2), children=None):
            for _ in tqdm(range(3)):
                pass
    assert group_recorder.states("few")[-1].children == Children(2, succeeded=2)
    assert group_recorder.states("few/2")[-1].children == Children(2, succeeded=2)
    assert group_recorder.states("few/2/2")[-1].done == 3
    for _ in tqdm(range(2), job="empty", children=2):
        pass
    assert group_recorder.states("empty")[-1].status == "succeeded"


def test_a_bar_in_another_thread_is_no_child(group_recorder: Recorder) -> None:
    for _ in tqdm(range(1), job="alone", children=1):
        thread = threading.Thread(target=lambda: list(tqdm(range(3))))
        thread.start()
        thread.join()
    assert group_recorder.states("alone")[-1].status == "succeeded"
    assert group_recorder.jobs == {"alone"}


def test_a_group_fails_with_its_bars(group_recorder: Recorder) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"), tqdm(range(3), job="group", children=3) as bar:  # noqa: PT012 - the block is tested
        for _ in bar:
            for _ in tqdm(broken()):
                pass
    assert group_recorder.states("group")[-1].error == "OSError: disk"
    assert group_recorder.states("group/1")[-1].status == "failed"


@pytest.mark.parametrize("job", [None, Job("disabled", disabled=True)])
def test_children_need_a_name(job: Any) -> None:
    with pytest.raises(TypeError, match="children"):
        tqdm(range(3), job=job, children=3)
    with pytest.raises(ValueError, match="children"):
        tqdm(range(3), job="job", children=-1, disable=True)
