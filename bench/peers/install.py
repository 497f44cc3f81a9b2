"""Peers come from their own registries, by name, into a cache beside the bench.

Nothing is installed into the system: Python packages go into an environment, Node's into a
folder, Debian's are unpacked, Go's are built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..servers import CACHE, Unavailable

__all__ = ["DEBIAN", "GO", "NODE", "PYTHON", "debian", "go", "nginx", "node", "python"]

PYTHON = CACHE / "venv" / "bin" / "python"
NODE = CACHE / "node"
DEBIAN = CACHE / "debian"
GO = CACHE / "go"
TIMEOUT = 180
BUILD_TIMEOUT = 600


def python(*packages: str) -> None:
    """Installs Python packages, in an environment of their own. Raises `Unavailable`."""
    if not PYTHON.exists():
        _run([sys.executable, "-m", "venv", str(CACHE / "venv")])
    _once(CACHE / "venv", packages, [str(PYTHON), "-m", "pip", "install", "-q", *packages])


def node(*packages: str) -> None:
    """Installs packages for Node. Raises `Unavailable`, also if there is no Node."""
    npm = _program("npm")
    _program("node")
    quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    NODE.mkdir(parents=True, exist_ok=True)
    _once(NODE, packages, [npm, "install", *quiet, "--prefix", str(NODE), *packages])


def debian(*packages: str) -> None:
    """Unpacks programs of Debian's packages. Raises `Unavailable` on other systems."""
    DEBIAN.mkdir(parents=True, exist_ok=True)
    stamp = DEBIAN / f".{'+'.join(packages)}"
    if stamp.exists():
        return
    _run([_program("apt-get"), "download", "-qq", *packages], cwd=DEBIAN)
    for package in packages:
        for archive in DEBIAN.glob(f"{package}_*.deb"):
            _run([_program("dpkg"), "-x", str(archive), str(DEBIAN)])
            archive.unlink()
    stamp.touch()


def go(module: str) -> None:
    """Builds a program of a Go module. Raises `Unavailable`."""
    GO.mkdir(parents=True, exist_ok=True)
    _once(
        GO,
        [module],
        [_program("go"), "install", module],
        env={**os.environ, "GOBIN": str(GO)},
        timeout=BUILD_TIMEOUT,
    )


def nginx() -> None:
    """Installs Debian's nginx with nchan, and gives nchan the folder of the system's that it
    insists on.

    nchan makes it whatever the configuration says, so the name is changed in its module,
    for one as long below the prefix that nginx is started with.
    """
    debian("nginx", "libnginx-mod-nchan")
    module = DEBIAN / "usr/lib/nginx/modules/ngx_nchan_module.so"
    folder = ".nginx-workdir/"
    module.write_bytes(module.read_bytes().replace(b"/var/lib/nginx/", folder.encode()))
    (CACHE / folder).mkdir(exist_ok=True)


def _once(
    directory: Path,
    packages: Sequence[str],
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> None:
    name = "+".join(packages).replace("/", "-")
    stamp = directory / f".{name}"
    if not stamp.exists():
        _run(command, env=env, timeout=timeout)
        stamp.touch()


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Unavailable(f"there is no {name} on the PATH")
    return path


def _run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> None:
    try:
        subprocess.run(command, cwd=cwd, env=env, check=True, capture_output=True, timeout=timeout)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise Unavailable(f"{Path(command[0]).name} failed: {said[-1]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None
