"""`deploy/kubernetes.yaml`: its environment starts a gateway, its probes reach the gateway, and its
parts match."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import Request, urlopen

import yaml

from gateway.config.settings import SETTINGS, SHUTDOWN_TIMEOUT
from tests.auth.signing import SECRET
from tests.brokers.redis.server import session_server
from tests.cli.conftest import address
from tests.cli.processes import GATEWAY, WITHIN, Running

ROOT = Path(__file__).parents[2]
MANIFEST = {
    part["kind"]: part for part in yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text())
}
PROBES = {"readinessProbe": "ready", "livenessProbe": "ok"}


def test_probes_use_the_ports_of_the_manifest() -> None:
    pod = MANIFEST["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {one["name"]: one.get("value", SECRET) for one in container["env"]}
    assert env.keys() <= {setting.variable for setting in SETTINGS}
    bound, (port,) = env["PROGRESS_GATEWAY_BIND"], container["ports"]
    assert bound == f"0.0.0.0:{port['containerPort']}"
    leaving = float(env["PROGRESS_GATEWAY_SHUTDOWN_DELAY"]) + float(SHUTDOWN_TIMEOUT.default)
    assert pod["terminationGracePeriodSeconds"] > leaving
    # The pod must be known as not ready, and out of the Service, before it stops accepting.
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * 2 < float(env["PROGRESS_GATEWAY_SHUTDOWN_DELAY"])

    env |= {"PROGRESS_GATEWAY_BIND": "0.0.0.0:0", "PROGRESS_GATEWAY_REDIS": session_server().url}
    program, *arguments = container["args"]
    assert program == "gateway"
    with Running(*GATEWAY, *arguments, env=env) as served:
        at = address(served).rpartition(":")[2]
        for probe, status in PROBES.items():
            http_get = container[probe]["httpGet"]
            assert http_get["port"] == port["name"]
            request = Request(
                f"http://127.0.0.1:{at}{http_get['path']}",
                headers={"Host": "10.1.2.3:8000", "User-Agent": "kube-probe/1.31"},
            )
            with urlopen(request, timeout=WITHIN) as answer:  # noqa: S310 - our own
                assert json.load(answer)["status"] == status


def test_service_and_disruption_budget_select_the_pods() -> None:
    spec = MANIFEST["Deployment"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    assert MANIFEST["Service"]["spec"]["selector"] == labels
    budget = MANIFEST["PodDisruptionBudget"]["spec"]
    assert budget["selector"]["matchLabels"] == labels
    (container,) = spec["template"]["spec"]["containers"]
    (port,) = MANIFEST["Service"]["spec"]["ports"]
    assert port["targetPort"] in {one["name"] for one in container["ports"]}
    # A node can always be drained, and another one serves meanwhile.
    assert 0 < budget["maxUnavailable"] < spec["replicas"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
