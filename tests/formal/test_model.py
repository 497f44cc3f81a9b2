"""The model in `docs/model` holds for every order of its steps, and fails if a protection is
removed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("cc") is None,
    reason="no spin, or no C compiler, in PATH: the model cannot be checked",
)

MODEL = Path(__file__).parents[2] / "docs/model/progress.pml"
BOUND = ("END=1", "ROLLBACKS=1", "TRIMS=1", "MOVES=1", "READS=0")
"""Bounds that are checked in about a second; docs/proof.md has larger ones."""


def check(folder: Path, *defines: str, optimise: str = "-O0") -> str:
    """Returns the output of the checker with these macros."""
    options = [f"-D{define}" for define in defines]
    commands = [
        ["spin", *options, "-a", str(MODEL)],
        ["cc", optimise, "-w", "-DSAFETY", "-DMEMLIM=1024", "-o", "pan", "pan.c"],
        ["./pan", "-m10000", "-w20"],
    ]
    output = ""
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        output = done.stdout
    assert "Search not completed" not in output or "errors: 1" in output, output
    return output


def test_the_model_satisfies_its_properties(tmp_path: Path) -> None:
    output = check(tmp_path, *BOUND, optimise="-O1")
    assert "errors: 0" in output, output


@pytest.mark.parametrize(
    ("left_out", "bound"),
    [
        ("NO_MERGE", BOUND),
        ("NO_RESTORE", BOUND),
        # Only a write after the rollback gets a position that was used before.
        ("NO_GENERATION", ("END=3", "ROLLBACKS=1", "TRIMS=0", "MOVES=0", "READS=0")),
        ("OPEN_AT_ONCE", BOUND),
        ("OLD_ANSWERS", ("END=1", "ROLLBACKS=1", "TRIMS=0", "MOVES=0", "READS=1")),
        ("ANY_SERVER", BOUND),
        ("NO_HOLES", BOUND),
        ("SHOW_PAST", BOUND),
    ],
)
def test_without_a_protection_a_property_is_violated(
    left_out: str, bound: tuple[str, ...], tmp_path: Path
) -> None:
    output = check(tmp_path, left_out, *bound)
    assert "errors: 1" in output, output
