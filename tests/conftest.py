"""What all tests share. The rules: no sleep to wait for something; time-dependent tests
run on `autojump_clock`; sockets are real, on loopback and on a free port."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator

import pytest
import trio

from gateway import Gateway, Limits, serve_gateway

IN_CI = os.environ.get("CI") == "true"


@pytest.fixture
def limits() -> Limits:
    """The gateway's limits: override it in a test module to change some."""
    return Limits()


@pytest.fixture
async def gateway(limits: Limits) -> AsyncIterator[Gateway]:
    """A whole gateway in this process, on a free port, with the memory broker."""
    async with trio.open_nursery() as nursery:
        gateway: Gateway = await nursery.start(serve_gateway, "127.0.0.1:0", None, limits)
        yield gateway
        nursery.cancel_scope.cancel()


def fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI everything is installed, so there what skips has failed."""
    if report.skipped and IN_CI:
        report.outcome = "failed"
        report.longrepr = f"skipped, which may not be in CI: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_skipped(report)
    return report
