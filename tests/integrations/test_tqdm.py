"""The bar that is a job, on the real tqdm."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest
from tqdm import auto, std
from tqdm.contrib.concurrent import thread_map

from gateway.integrations.tqdm import tqdm, trange
from gateway.worker import Job
from tests.worker.peer import Peer


def last(peer: Peer, job: str) -> dict[str, Any]:
    """The end of `job`: what it shows in the end is in every picture, so also in that."""
    peer.wait_for(lambda got: peer.ends(job))
    (end,) = peer.ends(job)
    return {k: v for k, v in end.fields.items() if k not in ("lease", "start", "run", "attempt")}


def newest(peer: Peer) -> dict[str, Any]:
    return peer.got[-1].fields if peer.got else {}


def fail_at_2(bar: Iterable[int]) -> None:
    for item in bar:
        if item == 2:
            raise ValueError("bad frame")


def test_a_loop(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    items = list(tqdm("abc", job="job", unit="frames", desc="encode", initial=10, total=13))
    assert items == ["a", "b", "c"]
    assert last(peer, "job") == {
        "status": "succeeded",
        "done": 13,
        "total": 13,
        "unit": "frames",
        "phase": "encode",
        "percent": 100.0,
    }
    shown = capsys.readouterr().err
    assert "encode:" in shown
    assert "13/13" in shown


def test_a_range(peer: Peer) -> None:
    assert list(trange(1, 4, job="job")) == [1, 2, 3]
    assert last(peer, "job")["done"] == 3


def test_by_hand(peer: Peer) -> None:
    with tqdm(total=4, job="job", postfix={"loss": 0.5}, mininterval=9) as bar:
        bar.update(3)
        peer.wait_for(lambda got: newest(peer).get("done") == 3)
        assert newest(peer)["message"] == "loss=0.5"
        bar.set_description("second half")
        bar.set_postfix(loss=0.25)
        peer.wait_for(lambda got: newest(peer).get("message") == "loss=0.25")
        assert newest(peer)["phase"] == "second half"
        bar.set_description()
        bar.set_postfix_str("")
        bar.total = 8
        bar.n = 6
        bar.refresh()
        peer.wait_for(lambda got: newest(peer).get("done") == 6)
    end = last(peer, "job")
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
    peer: Peer, error: BaseException, status: str, text: str | None
) -> None:
    with pytest.raises(type(error)), tqdm(range(3), job="job") as bar:  # noqa: PT012 - left by it
        for _ in bar:
            raise error
    end = last(peer, "job")
    assert (end["status"], end.get("error")) == (status, text)


def test_a_break_in_a_block_is_a_good_end(peer: Peer) -> None:
    with tqdm(range(3), job="job") as bar:
        for _ in bar:
            break
        bar.close()
    assert last(peer, "job")["status"] == "succeeded"


def test_an_exception_comes_from_the_iterable(peer: Peer) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(tqdm(broken(), job="job"))
    end = last(peer, "job")
    assert (end["status"], end["error"], end["done"]) == ("failed", "OSError: disk", 1)


def test_a_loop_left_early(peer: Peer) -> None:
    with pytest.raises(ValueError, match="bad frame"):
        fail_at_2(tqdm(range(5), job="a"))
    fail_at_2(item for item in tqdm(iter([1, 1]), job="b") if item == 1)
    for item in tqdm(iter(range(5)), job="c"):
        if item == 2:
            break
    first, third = last(peer, "a"), last(peer, "c")
    assert (first["status"], first["message"]) == ("cancelled", "left at 2 of 5")
    assert last(peer, "b")["status"] == "succeeded"
    assert (third["status"], third["message"]) == ("cancelled", "left at 2")


def test_reset_goes_on_counting(peer: Peer) -> None:
    bar = tqdm(total=3, job="job")
    bar.update(3)
    bar.reset(total=5)
    bar.update(4)
    bar.close()
    end = last(peer, "job")
    assert (end["done"], end["total"]) == (7, 8)


def test_a_scale_is_counted_in(peer: Peer) -> None:
    with tqdm(total=4, job="job", unit="B", unit_scale=512) as bar:
        bar.update(3)
    end = last(peer, "job")
    assert (end["done"], end["total"]) == (1536, 2048)
    with tqdm(total=4, job="other", unit_scale=True) as bar:
        bar.update(1.5)
    assert last(peer, "other")["done"] == 1.5


def test_on_a_job_it_only_counts(peer: Peer) -> None:
    with Job("job", total=5) as job:
        for _ in tqdm(range(2), job=job, desc="one"):
            pass
        with pytest.raises(ValueError, match="bad frame"), tqdm(range(3), job=job) as bar:
            fail_at_2(bar)
        assert job.status == "running"
        assert (job.done, job.total) == (4, 5)
    assert last(peer, "job")["phase"] == "one"


def test_nested(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
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
    end = last(peer, "job")
    assert (end["done"], end["total"], end["phase"]) == (7, 7, "after")
    assert last(peer, "other:0")["done"] == last(peer, "other:1")["done"] == 2
    assert "inner" in capsys.readouterr().err
    assert not [g for g in peer.of("job") if g.fields.get("phase") in ("inner", "plain")]


def test_disabled(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tqdm(range(3), job="none", disable=True)) == [0, 1, 2]
    bar = tqdm(total=3, job="none", disable=True)
    bar.update(1)
    bar.reset()
    bar.close()
    assert bar.job is None
    assert list(tqdm(range(3), job="job", disable=None)) == [0, 1, 2]
    assert last(peer, "job")["done"] == 3
    assert not peer.of("none")
    assert capsys.readouterr().err == ""


def test_without_a_job_it_is_a_bar(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tqdm(range(3), desc="plain", disable=False)) == [0, 1, 2]
    assert list(tqdm(range(3), disable=None)) == [0, 1, 2]
    with tqdm(total=2) as bar:
        bar.update(2)
        bar.reset()
    assert "plain" in capsys.readouterr().err
    assert not peer.got


def test_dropped(peer: Peer) -> None:
    for job, n in (("complete", 2), ("torn", 1)):
        bar = tqdm(total=2, job=job)
        bar.update(n)
        del bar
        gc.collect()
    assert last(peer, "complete")["status"] == "succeeded"
    assert not peer.ends("torn")


def test_dropped_in_a_cycle(peer: Peer) -> None:
    """The collector clears weak references before it calls `__del__`."""
    bar: Any = tqdm(total=2, job="job")
    bar.update(2)
    bar.itself = bar
    del bar
    gc.collect()
    assert last(peer, "job")["status"] == "succeeded"


@pytest.mark.parametrize("n", [float("nan"), float("inf"), -5, 10**400, 2**60])
def test_no_count_is_worth_an_exception(peer: Peer, n: Any) -> None:
    bar = tqdm(total=3, job="job", mininterval=9)
    bar.n = n
    bar.update(0)
    bar.total = n
    bar.update(0)
    assert bar.job is not None
    assert 0 <= (bar.job.done or 0) <= 2**53
    bar.n = bar.total = 1  # tqdm itself cannot show those
    bar.close()
    assert last(peer, "job")["status"] == "succeeded"


@pytest.mark.parametrize("job", ["not a job", 7])
def test_not_a_job(job: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="name"):
        tqdm(range(3), job=job)


async def test_async(peer: Peer) -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise OSError("disk")

    assert [item async for item in tqdm(items(), job="job", total=2)] == [1, 2]
    with pytest.raises(OSError, match="disk"):
        [item async for item in tqdm(broken(), job="broken")]
    assert last(peer, "job")["done"] == 2
    assert last(peer, "broken")["error"] == "OSError: disk"


def test_threads(peer: Peer) -> None:
    about: dict[str, Any] = {"tqdm_class": tqdm, "job": "job"}
    result = thread_map(str, range(50), max_workers=2, **about)
    assert result == [str(item) for item in range(50)]
    assert last(peer, "job")["done"] == 50


def test_the_original_stays_as_it_is(peer: Peer) -> None:
    for original in (std.tqdm, auto.tqdm):
        assert list(original(range(3))) == [0, 1, 2]
        with pytest.raises(KeyError):
            original(range(3), job="job")
    assert not peer.got
