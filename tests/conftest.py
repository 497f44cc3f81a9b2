"""Shared by all tests. The rules: no sleep to wait for something; time-dependent tests
run on `autojump_clock`; sockets are real, on loopback and on a free port."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
import trio
from hypothesis import HealthCheck, settings

from gateway import Gateway, Limits, serve_gateway

from .turns import Turns

IN_CI = os.environ.get("CI") == "true"

# The duration of an example depends on the load of the machine.
settings.register_profile("gateway", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("gateway")

turns = Turns()


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
    """In CI everything is installed, so a skipped test counts as failed there."""
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    turns.begin(alone=_is_alone(item))
    try:
        return (yield)
    finally:
        if not (_is_alone(item) and _is_alone(nextitem)):
            turns.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that run alone come first: later each turn would wait for others' longest test."""
    items.sort(key=lambda item: not _is_alone(item))


def _is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: more processes than cores, since most tests wait more than they compute."""
    return max(4, 2 * (os.cpu_count() or 1))


@pytest.fixture(autouse=True)
def _logging_is_left_alone() -> Iterator[None]:
    """Fail the test that changes logging for those after it."""
    before = _logging_state()
    yield
    assert _logging_state() == before


def _logging_state() -> dict[str, object]:
    loggers = [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if name.partition(".")[0] == "gateway" and isinstance(logger, logging.Logger)
    ]
    changed = {
        logger.name: (logger.level, logger.disabled, logger.propagate)
        for logger in loggers
        if (logger.level, logger.disabled, logger.propagate) != (logging.NOTSET, False, True)
    }
    return {"root": logging.root.level, "disabled": logging.root.manager.disable, **changed}


# What `scripts/test` without arguments uses.
settings.register_profile("fast", settings.get_profile("gateway"), max_examples=25)
