"""Jobs in the cells of a real Jupyter kernel, in which an asyncio loop always runs.

Skipped where ipykernel, ipywidgets and jupyter_client (the extra `jupyter`) are not installed; CI
installs them if it can.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.worker.fake_gateway import DEADLINE
from tests.worker.recorder import Recorder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecation warnings of its dependencies
    pytest.importorskip("ipykernel")
    pytest.importorskip("ipywidgets")
    manager = pytest.importorskip("jupyter_client.manager")
pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parent.parent.parent
WIDGET = "application/vnd.jupyter.widget-view+json"


class Notebook:
    """A running kernel with a connected client."""

    def __init__(self, url: str, folder: Path) -> None:
        environment = os.environ | {
            "IPYTHONDIR": str(folder),
            "JUPYTER_RUNTIME_DIR": str(folder),
            "PROGRESS_GATEWAY_URL": url,
            "PYTHONPATH": str(ROOT),
        }
        self.kernel, self._client = manager.start_new_kernel(
            env=environment, startup_timeout=DEADLINE
        )

    def begin(self, cell: str) -> str:
        request: str = self._client.execute(cell, allow_stdin=False)
        return request

    def end(self, request: str) -> list[dict[str, Any]]:
        """Waits until a cell has ended. Returns its outputs."""
        outputs = []
        while True:
            message = self._client.get_iopub_msg(timeout=DEADLINE)
            if message["parent_header"].get("msg_id") == request:
                outputs.append(message["content"] | {"type": message["msg_type"]})
                if message["content"].get("execution_state") == "idle":
                    return outputs

    def run(self, cell: str) -> list[dict[str, Any]]:
        """Runs a cell that must not raise; returns its outputs."""
        outputs = self.end(self.begin(cell))
        assert not [output for output in outputs if output["type"] == "error"], outputs
        return outputs

    def close(self) -> None:
        self._client.stop_channels()
        self.kernel.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def notebook(
    module_recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Notebook]:
    with closing(Notebook(module_recorder.url, tmp_path_factory.mktemp("jupyter"))) as notebook:
        notebook.run("from gateway import Job\nfrom gateway.integrations.tqdm import tqdm")
        yield notebook


def test_a_job_of_one_cell_ends_with_it(notebook: Notebook, module_recorder: Recorder) -> None:
    notebook.run("with Job('cell:1') as job:\n    job.update(message='worked')")
    end = module_recorder.states("cell:1")[-1]
    assert (end.status, end.message) == ("succeeded", "worked")


def test_an_exception_of_the_cell_fails_its_job(
    notebook: Notebook, module_recorder: Recorder
) -> None:
    notebook.end(notebook.begin("with Job('cell:2'):\n    raise ValueError('nan')"))
    end = module_recorder.states("cell:2")[-1]
    assert (end.status, end.error) == ("failed", "ValueError: nan")


def test_an_interrupt_of_the_cell_cancels_its_job(
    notebook: Notebook, module_recorder: Recorder
) -> None:
    cell = "import threading\nwith Job('cell:3'):\n    threading.Event().wait()"
    request = notebook.begin(cell)
    module_recorder.states("cell:3", lambda state: state.status == "running")
    notebook.kernel.interrupt_kernel()
    notebook.end(request)
    assert module_recorder.states("cell:3")[-1].status == "cancelled"


def test_a_job_over_several_cells_ends_by_a_call(
    notebook: Notebook, module_recorder: Recorder
) -> None:
    notebook.run("job = Job('cells:1', total=2)\njob.advance()")
    notebook.run("job.advance()")
    notebook.run("job.succeed()")
    end = module_recorder.states("cells:1")[-1]
    assert (end.status, end.done) == ("succeeded", 2)


def test_a_warning_for_a_job_that_can_no_longer_be_ended(
    notebook: Notebook, module_recorder: Recorder
) -> None:
    notebook.run("job = Job('cells:2', total=2, lease=2)\njob.advance()")
    notebook.run("job = None")
    stalled = module_recorder.states("cells:2", lambda state: state.health != "ok")[-1]
    assert stalled.message == "its Job object was deleted, and the job was not ended"
    assert (stalled.status, stalled.done) == ("running", 1)


def test_the_end_of_a_block_does_not_block_the_loop_of_the_kernel(
    notebook: Notebook, module_recorder: Recorder
) -> None:
    """The gateway accepts the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        notebook.run(f"from math import inf\nwith Job('cell:4', url={url!r}, timeout=inf): pass")
        notebook.run("async with Job('cell:5'):\n    pass")
        assert module_recorder.states("cell:5")[-1].status == "succeeded"


def test_a_bar_is_a_widget_and_a_job(notebook: Notebook, module_recorder: Recorder) -> None:
    outputs = notebook.run("for _ in tqdm(range(3), job='bar:1', desc='rows'): pass")
    assert [output for output in outputs if WIDGET in output.get("data", ())]
    end = module_recorder.states("bar:1")[-1]
    assert (end.status, end.done, end.total, end.phase) == ("succeeded", 3, 3, "rows")


def test_a_bar_whose_cell_raises_ends_its_job(
    notebook: Notebook, module_recorder: Recorder
) -> None:
    cell = "with tqdm(range(3), job='bar:2') as bar:\n    for _ in bar: raise ValueError('nan')"
    notebook.end(notebook.begin(cell))
    assert module_recorder.states("bar:2")[-1].error == "ValueError: nan"
    notebook.end(notebook.begin("for _ in tqdm(range(3), job='bar:3'): raise ValueError('nan')"))
    assert module_recorder.states("bar:3")[-1].status == "cancelled"
