"""`Dockerfile` and `compose.yaml`, executed in a bare Debian: Redis, the gateway and nginx in a
network of their own, as Compose would start them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.auth.signing import SECRET

from .container import Container

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def can_unshare() -> bool:
    unshare = shutil.which("unshare")
    return (
        bool(unshare)
        and not subprocess.run(
            [str(unshare), "--net", "true"], check=False, capture_output=True
        ).returncode
    )


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    if os.geteuid() != 0:
        pytest.skip("only root can make a Debian root")
    if shutil.which("mmdebstrap") is None:
        pytest.skip("no mmdebstrap in PATH")
    if not can_unshare():
        pytest.skip("this machine lets nobody have a network of their own")
    container = Container(tmp_path_factory.mktemp("debian") / "root")
    try:
        container.build(ROOT)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"mmdebstrap fails here: {error.stderr[-500:]!r}")
    # Programs that Compose has in separate images.
    container.run("apt-get", "update")
    install = ("apt-get", "install", "--yes", "--no-install-recommends")
    container.run(*install, "redis-server", "nginx-light")
    yield container
    shutil.rmtree(container.root)


def test_the_image_has_only_what_it_needs(container: Container) -> None:
    assert container.user == "gateway"
    assert not (container.root / "src").exists()
    assert "gateway, version" in container.run("gateway", "--version")
    assert (container.root / "opt/gateway").is_dir()


def test_compose_serves_a_job_through_nginx_and_stops_cleanly(
    container: Container, tmp_path: Path
) -> None:
    names = " ".join(COMPOSE)
    with (container.root / "etc/hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 localhost {names}\n")
    (volume,) = COMPOSE["nginx"]["volumes"]
    source, target, _ = volume.split(":")
    shutil.rmtree(container.root / "etc/nginx/sites-enabled")
    shutil.copy(ROOT / source, container.root / target.lstrip("/"))
    (container.root / "data").mkdir(exist_ok=True)

    environment = dict(COMPOSE["gateway"]["environment"])
    assert environment["PROGRESS_GATEWAY_SECRET"].startswith("${PROGRESS_GATEWAY_SECRET:?")
    environment |= {
        "PROGRESS_GATEWAY_SECRET": SECRET,
        "PROGRESS_GATEWAY_TRUSTED_PROXIES": "127.0.0.1",
    }
    gateway = Container(
        container.root, container.variables | environment, container.user, container.command
    )
    plain = Container(container.root)
    (health,) = re.findall(r"CMD (\[.*\])", container.health)
    plan = {
        "redis": plain.arguments(*COMPOSE["redis"]["command"]),
        "gateway": gateway.arguments(*gateway.command),
        "nginx": plain.arguments("nginx", "-g", "daemon off;"),
        "tool": gateway.arguments("gateway"),
        "health": gateway.arguments(*yaml.safe_load(health)),
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    done = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--kill-child",
         sys.executable, "-m", "tests.ops.composed", str(tmp_path / "plan.yaml")],
        cwd=ROOT, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
