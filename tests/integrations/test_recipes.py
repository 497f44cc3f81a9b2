"""The recipes of docs/recipes work unchanged: their commands and programs are run.

Only addresses are replaced. A test of a library that is not installed is skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from gateway.model.state import Children, State
from tests.brokers.redis.server import Server, redis_server
from tests.cli.processes import clean_environment
from tests.docs.test_readme import run
from tests.worker.fake_gateway import DEADLINE
from tests.worker.recorder import Recorder

ROOT = Path(__file__).parent.parent.parent
RECIPES = ROOT / "docs/recipes"
NEEDED = {"taskiq": ["taskiq_redis"]}
GATEWAY, BROKER = "http://127.0.0.1:8000", "redis://127.0.0.1:6379"


def blocks(page: str, kind: str) -> list[str]:
    """Returns the code blocks of a page in this language. A word may follow the language."""
    text = (RECIPES / f"{page}.md").read_text()
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def need(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("queue", ["celery", "rq", "dramatiq", "huey", "arq", "taskiq"])
def test_the_recipe_for_a_queue_works(queue: str, recorder: Recorder, tmp_path: Path) -> None:
    need(queue, *NEEDED.get(queue, []))
    end = end_in_a_queue(queue, "video:42", recorder, tmp_path)
    assert (end.status, end.done, end.total) == ("succeeded", 100, 100)


def test_the_recipe_for_a_celery_group_works(recorder: Recorder, tmp_path: Path) -> None:
    need("celery")
    end = end_in_a_queue("celery-group", "batch:7", recorder, tmp_path)
    assert (end.status, end.percent) == ("succeeded", 100)
    assert isinstance(end.children, Children)
    assert (end.children.expected, end.children.succeeded) == (3, 3)


def end_in_a_queue(page: str, job: str, recorder: Recorder, tmp_path: Path) -> State:
    """Starts the worker of the recipe and submits its task. Returns the last state of `job`."""
    server = Server(redis_server())
    scheme = "redis+socket" if page.startswith("celery") else "unix"
    broker = f"{scheme}://{server.socket}"
    (program,) = blocks(page, "python")
    assert BROKER in program
    (tmp_path / "videos.py").write_text(program.replace(BROKER, broker))
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PROGRESS_GATEWAY_URL": recorder.url,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    (worker,), (submit,) = blocks(page, "sh worker"), blocks(page, "sh submit")
    with subprocess.Popen(
        ["sh", "-c", worker.replace(BROKER, broker)],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            subprocess.run(
                ["sh", "-c", submit], env=environment, cwd=tmp_path, check=True, timeout=DEADLINE
            )
            return recorder.states(job)[-1]
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            server.close()


FAILS_ONCE = "if (frame === 50 && job.attemptsStarted === 1) throw new Error('no space');"
QUEUE_JOB_SCRIPT = """
import { Queue } from 'bullmq';
const queue = new Queue('videos', { connection: { CONNECTION } });
await queue.add('encode', { video: 42 }, { attempts: 2, backoff: 1 });
await queue.add('encode', { video: 43 }, { attempts: 1 });
await queue.close();
"""


def test_the_bullmq_recipe_works(recorder: Recorder, tmp_path: Path) -> None:
    """After a failed attempt the job is queued again; after the last attempt it has failed."""
    packages = ROOT / "web/node_modules"
    if not (packages / "bullmq").exists():
        pytest.skip("bullmq is not installed (npm install in web/)")
    server = Server(redis_server())
    (worker,) = blocks("bullmq", "js")
    connection, work = 'host: "127.0.0.1", port: 6379', "// encode the frame"
    assert worker.count(connection) == worker.count(work) == 1
    (tmp_path / "node_modules").symlink_to(packages)
    for name, text in {"worker": worker.replace(work, FAILS_ONCE), "add": QUEUE_JOB_SCRIPT}.items():
        text = text.replace(connection, "CONNECTION").replace(
            "CONNECTION", f"path: {str(server.socket)!r}"
        )
        (tmp_path / f"{name}.mjs").write_text(text)
    environment = clean_environment(PROGRESS_GATEWAY_URL=recorder.url)
    with subprocess.Popen(["node", "worker.mjs"], cwd=tmp_path, env=environment) as process:
        try:
            subprocess.run(["node", "add.mjs"], cwd=tmp_path, check=True, timeout=DEADLINE)
            retried, failed = recorder.states("video:42"), recorder.states("video:43")[-1]
        finally:
            process.kill()
    server.close()
    waiting = [state.message for state in retried if state.status == "queued"]
    assert waiting == ["failed, tried again: no space"]
    assert (retried[-1].status, retried[-1].attempt, retried[-1].done) == ("succeeded", 2, 100)
    assert not [state for state in retried if state.attempt == 1 and state.final]
    assert (failed.status, failed.error, failed.attempt) == ("failed", "no space", 1)


SETTINGS = """
SECRET_KEY = "a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysite.urls"
"""
URLS = """
from django.urls import path
from books.views import print_book
urlpatterns = [path("books/<int:book>", print_book)]
"""
VISIT = """
import os, sys
import mysite
import django
django.setup()
from django.test import Client
page = Client().get(sys.argv[1])
assert page.status_code == 200
sys.stdout.write(page.text)
"""


def test_the_recipe_for_django_with_celery_works(recorder: Recorder, tmp_path: Path) -> None:
    """A chord ends; another one is stopped in the middle."""
    need("celery", "django")
    server = Server(redis_server())
    files = {
        "mysite/__init__.py": "from .celery import app as celery_app",
        "mysite/settings.py": SETTINGS,
        "mysite/urls.py": URLS,
        "books/__init__.py": "",
        **dict(program_files("django-celery")),
    }
    slow = tmp_path / "slow"
    program = files["books/tasks.py"].replace("pass  # render the line", "render_line()")
    files["books/tasks.py"] = (
        "import pathlib, threading\n"
        "def render_line():\n"
        f"    threading.Event().wait(0.1 if pathlib.Path({str(slow)!r}).exists() else 0.002)\n"
        + program
    )
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace(BROKER, f"redis+socket://{server.socket}"))
    environment = clean_environment(
        PROGRESS_GATEWAY_URL=recorder.url, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}"
    )

    def visit(path: str) -> str:
        program = [sys.executable, "-c", VISIT, path]
        done = subprocess.run(
            program, env=environment, check=True, timeout=DEADLINE, capture_output=True, text=True
        )
        return done.stdout

    (worker,) = re.findall(r"^celery (.*)$", blocks("django-celery", "sh")[0], re.M)
    with subprocess.Popen(
        [sys.executable, "-m", "celery", *worker.split(), "--concurrency=2"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            assert '<job-progress job="book:1" actions>' in visit("/books/1")
            end = recorder.states("book:1")[-1]
            assert (end.status, end.children) == ("succeeded", Children(51, succeeded=51))
            slow.touch()
            visit("/books/2")
            recorder.states("book:2", lambda state: bool(state.children and state.children.running))
            recorder.send_request("book:2", "cancel")
            end = recorder.states("book:2")[-1]
            assert end.status == "cancelled"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    server.close()


def program_files(page: str) -> list[tuple[str, str]]:
    """Returns the names and contents of the files in a page."""
    text = (RECIPES / f"{page}.md").read_text()
    return re.findall(r"```\w+ (\S+\.\w+)\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize(
    ("page", "packages", "more"),
    [
        ("django", ["django_tasks"], ""),
        (
            "fastapi",
            ["fastapi", "httpx"],
            "from fastapi.testclient import TestClient\nTestClient(app).post('/videos/42')",
        ),
        ("flask", ["flask"], "app.test_client().post('/videos/42')"),
    ],
)
def test_the_recipe_for_an_application_works(
    page: str, packages: list[str], more: str, recorder: Recorder
) -> None:
    need(*packages)
    program = blocks(page, "python")[0]
    run(program + more, warnings="ignore", PROGRESS_GATEWAY_URL=recorder.url)
    end = recorder.states("video:42")[-1]
    assert (end.status, end.done, end.total) == ("succeeded", 100, 100)


def test_the_flask_recipe_works_when_deployed(recorder: Recorder, tmp_path: Path) -> None:
    """The recipe also works under gunicorn."""
    need("flask", "gunicorn")
    program, configuration = blocks("flask", "python")
    assert "pass  # encode" in program
    program = program.replace("pass  # encode", "time.sleep(0.1)  # encode")
    (tmp_path / "videos.py").write_text(f"import time\n{program}")
    (tmp_path / "gunicorn.conf.py").write_text(configuration)
    assert_deployed("gunicorn", "--graceful-timeout=1", recorder, tmp_path)


@pytest.mark.parametrize("path", ["videos", "slowly"])
def test_the_fastapi_recipe_works_when_deployed(
    path: str, recorder: Recorder, tmp_path: Path
) -> None:
    """No job is shown as running after a SIGTERM to uvicorn in the middle of a job."""
    need("fastapi", "uvicorn")
    program = "\n".join(blocks("fastapi", "python"))
    for work in ("pass  # encode", "await asyncio.sleep(0)  # encode"):
        assert work in program
    program = program.replace("pass  # encode", "time.sleep(0.1)  # encode")
    (tmp_path / "videos.py").write_text(
        "import time\n" + program.replace("asyncio.sleep(0)", "asyncio.sleep(0.1)")
    )
    assert_deployed("uvicorn", "--timeout-graceful-shutdown=1", recorder, tmp_path, path=path)


def assert_deployed(
    server: str, flag: str, recorder: Recorder, tmp_path: Path, *, path: str = "videos"
) -> None:
    """Sends SIGTERM to the `server` of videos.py in the middle of a job, and checks that the job is
    cancelled."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = [f"--bind=127.0.0.1:{port}"] if server == "gunicorn" else [f"--port={port}"]
    environment = clean_environment(
        PROGRESS_GATEWAY_URL=recorder.url, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}"
    )
    with subprocess.Popen(
        [sys.executable, "-m", server, "videos:app", flag, *where],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "Uvicorn running" in line or "Listening at" in line:
                    break
            request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}/42", method="POST")
            urllib.request.urlopen(request, timeout=DEADLINE).close()  # noqa: S310 - ours
            recorder.states("video:42", lambda state: bool(state.done))
            process.terminate()
            end = recorder.states("video:42")[-1]
            process.communicate(timeout=DEADLINE)
        finally:
            with suppress(ProcessLookupError):  # it has ended as expected
                os.killpg(process.pid, signal.SIGKILL)
    assert (end.status, end.message) == ("cancelled", "the server was stopped")


def test_the_jupyter_recipe_works(recorder: Recorder) -> None:
    """The cells are run as one program, because a kernel also executes them in one namespace."""
    run("\n".join(blocks("jupyter", "python")), PROGRESS_GATEWAY_URL=recorder.url)
    assert recorder.states("train:7")[-1].status == "succeeded"
    end = recorder.states("train:8")[-1]
    assert (end.status, end.done) == ("succeeded", 2)


RAILS = """
require "active_job"
require "json"
require "net/http"
ApplicationJob = Class.new(ActiveJob::Base)
ActiveJob::Base.queue_adapter = :async
ActiveJob::Base.logger = Logger.new(File::NULL)
require "./reports_progress"
require "./encode_job"
EncodeJob.perform_later(42)
EncodeJob.perform_later(43)
$stdin.read # until it is killed
"""
LARAVEL = """<?php
interface ShouldQueue {}
trait Queueable {
  public $job; public $tried = 1;
  function attempts() { return $this->tried; }
}
class QueueJob { function uuid() { return 'u'; } }
class Http {
  static function timeout($seconds) { return new Http; }
  function post($url, $data) {
    $header = 'Content-Type: application/json';
    $request = ['method' => 'POST', 'header' => $header, 'content' => json_encode($data)];
    file_get_contents($url, false, stream_context_create(['http' => $request]));
    return $this;
  }
  function throw() {}
}
function rescue($call) { $call(); }
require 'job.php';
foreach ([42, 43] as $video) {
  for ($try = 1; $try <= 3; $try++) {
    [$job, $failed] = [new EncodeVideo($video), new EncodeVideo($video)];
    [$job->job, $job->tried] = [new QueueJob, $try];
    try { $job->handle(); break; } catch (Exception $e) { if ($try == 3) $failed->failed($e); }
  }
}
"""


def test_the_rails_recipe_works(recorder: Recorder, tmp_path: Path) -> None:
    probe = ["ruby", "-e", 'require "active_job"']
    if (
        not shutil.which("ruby")
        or subprocess.run(probe, capture_output=True, check=False).returncode
    ):
        pytest.skip("ruby with active_job is not installed")
    fails = 'raise IOError, "no space" if frame == 50 && (video == 43 || executions < 3)'
    for name, text in {**dict(program_files("rails")), "program.rb": RAILS}.items():
        text = text.replace("# encode the frame", fails).replace("wait: 1,", "wait: 0,")
        (tmp_path / name).write_text(text)
    environment = clean_environment(PROGRESS_GATEWAY_URL=recorder.url)
    with subprocess.Popen(
        ["ruby", "program.rb"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
    ) as process:
        try:
            assert_tried_three_times(recorder)
        finally:
            process.kill()


def test_the_laravel_recipe_works(recorder: Recorder, tmp_path: Path) -> None:
    if not shutil.which("php"):
        pytest.skip("php is not installed")
    (job,) = blocks("laravel", "php")
    fails = """if ($frame == 51 && ($this->video == 43 || $this->attempts() < 3)) {
        throw new Exception("no space"); }"""
    assert GATEWAY in job
    job = job.replace("// encode the frame", fails).replace(GATEWAY, recorder.url)
    (tmp_path / "job.php").write_text(f"<?php\n{job}")
    (tmp_path / "program.php").write_text(LARAVEL)
    subprocess.run(["php", "program.php"], cwd=tmp_path, check=True, timeout=DEADLINE)
    assert_tried_three_times(recorder)


def assert_tried_three_times(recorder: Recorder) -> None:
    """Checks that job 42 succeeds at the third try and that 43 fails, and that before each further
    try the job was queued."""
    for job, status, done in (("video:42", "succeeded", 100), ("video:43", "failed", 50)):
        states = recorder.states(job)
        assert (states[-1].status, states[-1].attempt, states[-1].done) == (status, 3, done)
        steps = [(state.attempt, state.status) for state in states]
        assert {(2, "queued"), (2, "running"), (3, "queued"), (3, "running")} <= set(steps)
        assert not [step for step in steps if step[0] < 3 and step[1] not in ("queued", "running")]
    assert states[-1].error == "no space"


def test_the_training_recipe_works(recorder: Recorder) -> None:
    (program,) = blocks("training", "python")
    run(f"{program}\ntrain(7)", PROGRESS_GATEWAY_URL=recorder.url)
    end = recorder.states("train:7")[-1]
    assert (end.status, end.done, end.message) == ("succeeded", 100, "loss 0.010")


def test_the_training_recipe_is_stopped_by_a_request(recorder: Recorder) -> None:
    (program,) = blocks("training", "python")
    work = "# train one epoch"
    assert program.count(work) == 1
    slow = program.replace(work, f"{work}\n                time.sleep(0.05)")
    arguments = [sys.executable, "-c", f"import time\n{slow}\ntrain(7, epochs=100_000)"]
    environment = clean_environment(PROGRESS_GATEWAY_URL=recorder.url, PYTHONPATH=str(ROOT))
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            recorder.states("train:7", lambda state: bool(state.done))
            request = urllib.request.Request(  # noqa: S310 - ours
                f"{recorder.url}/api/jobs/train:7/requests", data=b'{"verb": "cancel"}'
            )
            urllib.request.urlopen(request, timeout=DEADLINE).close()  # noqa: S310 - ours
            output, _ = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert output == "stopped\n"
    assert recorder.states("train:7")[-1].status == "cancelled"


def test_the_http_recipe_works(recorder: Recorder) -> None:
    (script,) = blocks("http", "sh")
    assert script.count(GATEWAY) == 1
    program = ["sh", "-ec", script.replace(GATEWAY, recorder.url)]
    subprocess.run(program, check=True, timeout=DEADLINE, stdout=subprocess.DEVNULL)
    end = recorder.states("video:42")[-1]
    assert (end.status, end.attempt, end.total) == ("succeeded", 1, 100)


def test_the_recipe_works_behind_a_path_prefix(recorder: Recorder, tmp_path: Path) -> None:
    (site,) = blocks("prefix", "nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = site.replace(GATEWAY, recorder.url).replace("listen 8080", f"listen 127.0.0.1:{port}")
    paths = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {paths}\n{site} }}"
    )
    nginx = ["nginx", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
    with subprocess.Popen(nginx, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}/progress"
            run(blocks("jupyter", "python")[0], warnings="default", PROGRESS_GATEWAY_URL=url)
            assert recorder.states("train:7")[-1].status == "succeeded"
            assert b" 200 " in answer(port, "/progress/", "Connection: close")
            (script,) = re.findall(r'src="(.*?)"', blocks("prefix", "html")[0])
            assert b" 200 " in answer(port, script, "Connection: close")
            upgrade = (
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
            )
            assert b" 101 " in answer(port, "/progress/ws", upgrade)
        finally:
            process.terminate()


def answer(port: int, path: str, headers: str) -> bytes:
    """Returns the first line of the answer to a GET."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
        host = f"127.0.0.1:{port}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n\r\n".encode())
        with connection.makefile("rb") as file:
            return file.readline()


def test_every_recipe_is_listed() -> None:
    listed = set(re.findall(r"\(([\w-]+)\.md\)", (RECIPES / "README.md").read_text()))
    assert listed == {page.stem for page in RECIPES.glob("*.md")} - {"README"}
