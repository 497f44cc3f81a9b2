from __future__ import annotations

import json
import signal

import pytest

from ..conftest import address
from ..processes import GATEWAY, Running, Terminal, run_command


def publish(url: str, job: str, *fields: str) -> None:
    run_command("publish", job, *fields, "--url", url).check_returncode()


def watch(url: str, *arguments: str) -> Running:
    return Running(*GATEWAY, "watch", *arguments, "--url", url)


def test_watch_runs_until_all_jobs_have_ended(url: str) -> None:
    publish(url, "a", "--percent", "10", "--message", "on it")
    with watch(url, "a", "b") as watch_process:
        watch_process.until("a running 10% on it")
        watch_process.until("b not known yet")
        publish(url, "b", "--status", "succeeded")
        watch_process.until("b succeeded 100%")
        publish(url, "a", "--percent", "60")
        watch_process.until("a running 60%")
        publish(url, "a", "--status", "succeeded")
        assert watch_process.end() == 0
        assert watch_process.errors == ""


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_job_that_does_not_succeed_exits_with_1(url: str, status: str) -> None:
    publish(url, "a", "--status", "succeeded")
    publish(url, "b", "--status", status, "--error", "why not")
    with watch(url, "a", "b") as watch_process:
        assert watch_process.end() == 1
        assert f"b {status}" in watch_process.output.decode()


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_json_prints_the_received_frames(url: str, mode: str) -> None:
    with watch(url, "a", "--json", "--mode", mode) as watch_process:
        watch_process.until("\n")
        for percent in (10, 20, 30):
            publish(url, "a", "--percent", str(percent))
        publish(url, "a", "--status", "succeeded")
        assert watch_process.end() == 0
        frames = [json.loads(line) for line in watch_process.output.splitlines()]
    assert frames[0]["state"] is None
    assert frames[-1]["state"]["status"] == "succeeded"
    assert all(frame["type"] == "progress" and frame["job"] == "a" for frame in frames)
    seq = 0
    for frame in frames[2:]:
        assert frame["prev"] >= seq
        seq = frame["seq"]
    if mode == "every":
        assert [frame["state"]["percent"] for frame in frames[1:]] == [10, 20, 30, 100]


def test_it_reconnects_to_a_restarted_gateway() -> None:
    serve = (*GATEWAY, "serve", "--shutdown-timeout", "2", "--bind")
    with Running(*serve, "127.0.0.1:0") as served:
        url = address(served)
        publish(url, "a", "--percent", "10")
        watch_process = watch(url, "a")
        with watch_process:
            watch_process.until("a running 10%")
            served.tell(signal.SIGTERM)
            assert served.end() == 0
            with Running(*serve, url.removeprefix("http://")) as again:
                address(again)
                publish(url, "a", "--percent", "70")
                watch_process.until("a running 70%")
                assert "going away (1001); retrying in" in watch_process.errors
                publish(url, "a", "--status", "succeeded")
                assert watch_process.end() == 0


def test_it_waits_for_an_unreachable_gateway_and_logs_it() -> None:
    with watch("http://127.0.0.1:9", "a") as watch_process:
        with Running("tail", "-f", f"/proc/{watch_process.process.pid}/fd/2") as errors:
            errors.until("retrying in")
        watch_process.tell(signal.SIGINT)
        assert watch_process.end() == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_without_an_error(url: str, number: signal.Signals, code: int) -> None:
    with watch(url, "a") as watch_process:
        watch_process.until("not known yet")
        watch_process.tell(number)
        assert watch_process.end() == code
        assert watch_process.errors == ""


def test_bars_are_drawn_in_a_terminal(url: str) -> None:
    publish(url, "video:42", "--percent", "10", "--phase", "encode", "--message", "\x1b[31mred")
    with Terminal(*GATEWAY, "watch", "video:42", "--url", url) as terminal:
        terminal.until("encode · [31mred")  # the escape character was removed
        terminal.until("connected to")
        publish(url, "video:42", "--status", "failed", "--error", "it broke")
        terminal.until("it broke")
        assert terminal.end() == 1
    assert "━" in terminal.seen.decode()


def test_ctrl_c_restores_the_terminal(url: str) -> None:
    with Terminal(*GATEWAY, "watch", "a", "--url", url) as terminal:
        terminal.until("not known yet")
        terminal.type("\x03")
        assert terminal.end() == 130
    assert b"Traceback" not in terminal.seen
    assert terminal.seen.rindex(b"\x1b[?25h") > terminal.seen.rindex(b"\x1b[?25l")  # the cursor


def test_a_trailing_slash_of_the_url_is_accepted(url: str) -> None:
    publish(f"{url}/", "a", "--status", "succeeded")
    with watch(f"{url}/", "a") as watching:
        assert watching.end() == 0


def test_a_server_that_is_not_a_gateway_is_named(url: str) -> None:
    with watch(f"{url}/no/such/place", "a") as watch_process:
        assert watch_process.end() == 3
        assert "no such endpoint (4504)" in watch_process.errors


def test_a_closed_pipe_ends_it_without_an_error(url: str) -> None:
    with watch(url, "a", "--json") as watch_process:
        watch_process.until("\n")
        assert watch_process.process.stdout is not None
        watch_process.process.stdout.close()
        publish(url, "a", "--percent", "5")
        assert watch_process.process.wait(30) == 1
        assert "Traceback" not in watch_process.errors


def test_a_prefix_watches_all_matching_jobs_including_new_ones(url: str) -> None:
    publish(url, "user:7:a", "--percent", "10")
    with watch(url, "user:7:*") as watch_process:
        watch_process.until("user:7:a running 10%")
        publish(url, "user:70", "--percent", "20")
        publish(url, "user:7:b", "--percent", "30")
        watch_process.until("user:7:b running 30%")
        publish(url, "user:7:a", "--status", "succeeded")
        watch_process.until("user:7:a succeeded")
        watch_process.tell(signal.SIGINT)
        assert watch_process.end() == 130
        assert "user:70" not in watch_process.output.decode()
        assert watch_process.errors == ""


def test_a_prefix_in_json_lists_the_jobs(url: str) -> None:
    publish(url, "user:7:a", "--percent", "10")
    with watch(url, "user:7:*", "--json") as watch_process:
        watch_process.until('"jobs":["user:7:a"]')
        watch_process.until('"percent":10')
        watch_process.tell(signal.SIGINT)
        assert watch_process.end() == 130


def test_a_prefix_shows_bars(url: str) -> None:
    with Terminal(*GATEWAY, "watch", "user:7:*", "--url", url) as watch_process:
        watch_process.until("no job begins with")
        publish(url, "user:7:a", "--percent", "10")
        watch_process.until("user:7:a")
        watch_process.type("\x03")
        assert watch_process.end() == 130


@pytest.mark.parametrize("wrong", ["a b*", "*a", "a**"])
def test_an_invalid_prefix_is_refused(url: str, wrong: str) -> None:
    with watch(url, wrong) as watching:
        assert watching.end() == 2
