"""The manifest of `docs/operations.md`: its environment starts a gateway, and its probes
find that."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import yaml

from gateway.settings import SETTINGS
from tests.auth.signing import SECRET
from tests.brokers.server import session_server
from tests.cli.conftest import address
from tests.cli.processes import GATEWAY, WITHIN, Running

from .documented import documented

PROBES = {"readinessProbe": "ready", "livenessProbe": "ok"}


def test_probes_find_what_the_manifest_starts() -> None:
    pod = yaml.safe_load(documented("Kubernetes", "yaml"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {one["name"]: one.get("value", SECRET) for one in container["env"]}
    assert env.keys() <= {setting.variable for setting in SETTINGS}
    bound, (port,) = env["GATEWAY_BIND"], container["ports"]
    assert bound == f"0.0.0.0:{port['containerPort']}"
    drain = next(setting for setting in SETTINGS if setting.name == "drain")
    assert pod["terminationGracePeriodSeconds"] > float(drain.default)

    env |= {"GATEWAY_BIND": "0.0.0.0:0", "GATEWAY_REDIS": session_server().url}
    program, *arguments = container["args"]
    assert program == "gateway"
    with Running(*GATEWAY, *arguments, env=env) as served:
        at = address(served).rpartition(":")[2]
        for probe, status in PROBES.items():
            asked = container[probe]["httpGet"]
            assert asked["port"] == port["name"]
            request = Request(
                f"http://127.0.0.1:{at}{asked['path']}",
                headers={"Host": "10.1.2.3:8000", "User-Agent": "kube-probe/1.31"},
            )
            with urlopen(request, timeout=WITHIN) as answer:  # noqa: S310 - our own
                assert json.load(answer)["status"] == status
