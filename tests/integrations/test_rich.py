"""rich's progress bars as jobs, with the real rich."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from gateway.integrations.rich import Progress, track
from gateway.worker import Job
from tests.worker.fake_gateway import FakeGateway


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO())


def end(fake_gateway: FakeGateway, name: str) -> dict[str, Any]:
    fake_gateway.wait_for(lambda _: fake_gateway.ends(name))
    return fake_gateway.ends(name)[0].fields


def test_a_loop_is_counted(fake_gateway: FakeGateway, console: Console) -> None:
    job = Job("a", url=fake_gateway.url)
    with job:
        assert list(track("abc", "encoding", job=job, console=console)) == ["a", "b", "c"]
        assert job.status == "running"
    fields = end(fake_gateway, "a")
    assert (fields["done"], fields["total"], fields["phase"]) == (3, 3, "encoding")


def test_only_the_first_task_is_reported(
    fake_gateway: FakeGateway, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_GATEWAY_URL", fake_gateway.url)
    with Progress(job="a", console=console) as progress:
        outer = progress.add_task("files", total=4)
        inner = progress.add_task("bytes", total=1000)
        progress.advance(outer)
        progress.advance(inner, 500)
        progress.update(outer, advance=2, description="last files")
    fields = end(fake_gateway, "a")
    assert fields["status"] == "succeeded"
    assert (fields["done"], fields["total"], fields["phase"]) == (3, 4, "last files")


def test_an_exception_fails_the_job(
    fake_gateway: FakeGateway, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_GATEWAY_URL", fake_gateway.url)
    with pytest.raises(ValueError, match="bad"), Progress(job="a", console=console) as progress:  # noqa: PT012 - the block is what is tested
        progress.add_task("files", total=4)
        raise ValueError("bad")
    assert end(fake_gateway, "a")["error"] == "ValueError: bad"


def test_without_a_job_rich_is_unchanged(console: Console) -> None:
    assert list(track("ab", console=console)) == ["a", "b"]
