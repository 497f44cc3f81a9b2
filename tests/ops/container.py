"""Runs a Dockerfile without Docker: its instructions, one by one, in a bare Debian root.

It supports the instructions of our Dockerfile: FROM (Debian), RUN, COPY, ENV, USER, and CMD in JSON
form. EXPOSE and HEALTHCHECK are ignored. Others are errors.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from attrs import define, field

__all__ = ["Container"]

FROM_HOST = (
    "/etc/apt/apt.conf.d",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/pip.conf",
    "/etc/resolv.conf",
)
"""The machine's configuration of package archives, which is not part of an image."""
CERTIFICATES = os.environ.get("PIP_CERT")
OWN_CERTIFICATES = "/etc/certificates-of-the-host.pem"
HOST_VARIABLES = {
    name: OWN_CERTIFICATES if name == "PIP_CERT" else text
    for name, text in os.environ.items()
    if name.startswith("PIP_")
}


@define
class Container:
    """A root directory, and the settings made by the instructions so far."""

    root: Path
    variables: dict[str, str] = field(factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    user: str | None = None
    command: list[str] = field(factory=list)
    health: str = ""

    def build(self, context: Path) -> None:
        """Execute `context`'s Dockerfile."""
        text = re.sub(r"\\\n", " ", (context / "Dockerfile").read_text())
        for line in text.splitlines():
            if line.strip() and not line.startswith("#"):
                instruction, _, rest = line.partition(" ")
                self._execute(instruction, rest.strip(), context)

    def _execute(self, instruction: str, rest: str, context: Path) -> None:
        match instruction:
            case "FROM":
                self._from(rest)
            case "RUN":
                self.run("/bin/sh", "-c", rest)
            case "COPY":
                *sources, target = rest.split()
                self._copy([context / source for source in sources], target)
            case "ENV":
                name, _, value = rest.partition("=")
                self.variables[name] = value
            case "USER":
                self.user = rest
            case "CMD":
                self.command = json.loads(rest)
            case "HEALTHCHECK":
                self.health = rest
            case "EXPOSE":
                pass
            case _:
                raise ValueError(f"there is no {instruction} here")

    def _from(self, image: str) -> None:
        found = re.fullmatch(r"debian:(\w+)-slim", image)
        assert found, f"{image} is not a bare Debian"
        # Without documentation, like the image, and without waiting for the disk.
        excluded = [f"path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
        options = [f"--dpkgopt={option}" for option in (*excluded, "force-unsafe-io")]
        subprocess.run(
            ["mmdebstrap", "--variant=minbase", "--mode=root", *options, found[1], str(self.root)],
            check=True, capture_output=True, timeout=900,
        )  # fmt: skip
        if CERTIFICATES:
            shutil.copyfile(CERTIFICATES, self.root / OWN_CERTIFICATES.lstrip("/"))
        for name in FROM_HOST:
            source, target = Path(name), self.root / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.is_file():
                shutil.copyfile(source, target)

    def _copy(self, sources: list[Path], target: str) -> None:
        to = self.root / target.lstrip("/")
        for source in sources:
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "node_modules")
                shutil.copytree(source, to, dirs_exist_ok=True, ignore=ignored)
            else:
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, to)

    def arguments(self, *command: str) -> list[str]:
        """The prefix that runs a command in the root, as its user and with its variables."""
        user = [] if self.user is None else [f"--userspec={self.user}"]
        variables = [f"{name}={value}" for name, value in self.variables.items()]
        return ["chroot", *user, str(self.root), "/usr/bin/env", "-i", *variables, *command]

    def run(self, *command: str) -> str:
        """Run a command to its end; returns its output."""
        both = HOST_VARIABLES | self.variables
        variables = [f"{name}={value}" for name, value in both.items()]
        done = subprocess.run(
            ["chroot", str(self.root), "/usr/bin/env", "-i", *variables, *command],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout
