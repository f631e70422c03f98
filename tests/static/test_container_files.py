"""The files around the image, judged by those who know their formats."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import ROOT, defaults

CONTAINER = ROOT / "container"
LIMITS = defaults("nginx")
# As the role has it: a request, what the app may add to that, and a client that is slow to take the answer.
LONGEST_S = LIMITS["nginx_longest_request_s"] + 5 + LIMITS["nginx_send_timeout_s"]


def tool(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the virtualenv."""
    command = [str(Path(sys.executable).with_name(name)), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def resources() -> list[dict[str, Any]]:
    """Return what the cluster is told."""
    return list(yaml.safe_load_all((CONTAINER / "kubernetes.yml").read_text(encoding="utf-8")))


def pods() -> list[dict[str, Any]]:
    """Return the descriptions of pods."""
    return [each["spec"]["template"]["spec"] for each in resources() if "template" in each["spec"]]


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    done = tool("hadolint", "--no-color", "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_of_dockerfiles_would_find_a_mistake(tmp_path: Path) -> None:
    broken = tmp_path / "Dockerfile"
    broken.write_text((ROOT / "Dockerfile").read_text(encoding="utf-8").replace("USER 10001:10001", "USER root"))
    assert "DL3002" in tool("hadolint", "--no-color", str(broken)).stdout


def compose_problems(path: Path) -> str:
    """Return what the schema of Compose has against a file."""
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(path))
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_compose_would_take_the_file(tmp_path: Path) -> None:
    assert compose_problems(CONTAINER / "compose.yml") == ""
    broken = tmp_path / "compose.yml"
    text = (CONTAINER / "compose.yml").read_text(encoding="utf-8")
    broken.write_text(text.replace("stop_grace_period", "stop_grace_time"))
    assert "stop_grace_time" in compose_problems(broken)


def test_a_cluster_would_take_the_file(tmp_path: Path) -> None:
    # It knows no schema of the Prometheus operator, and says so; that part is tried below.
    done = tool("kubernetes-validate", "--strict", "--no-warn", str(CONTAINER / "kubernetes.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed for resource ") == len(resources()) - 1
    broken = tmp_path / "kubernetes.yml"
    text = (CONTAINER / "kubernetes.yml").read_text(encoding="utf-8")
    broken.write_text(text.replace("periodSeconds: 2", "periodsSeconds: 2"))
    assert tool("kubernetes-validate", "--strict", str(broken)).returncode != 0


def monitor_problems(resource: dict[str, Any]) -> str:
    """Return what the operator's own kind, as its models have it, does not know of a resource."""
    # Two megabytes of models, which no type checker need read.
    kind = importlib.import_module("cloudcoil.models.prometheus_operator.v1").ServiceMonitor
    try:
        known = kind.model_validate(resource).model_dump(by_alias=True, exclude_unset=True, mode="json")
    except ValueError as error:
        return str(error)
    return "" if known == resource else f"unknown fields: understood is only {known}"


def test_the_prometheus_operator_would_take_its_part() -> None:
    assert monitor_problems(one("ServiceMonitor")) == ""
    misspelt, wrong = one("ServiceMonitor"), one("ServiceMonitor")
    misspelt["spec"]["endpoints"][0]["intervall"] = "15s"
    assert "unknown fields" in monitor_problems(misspelt)
    wrong["spec"]["endpoints"][0]["port"] = 9117
    assert "endpoints.0.port" in monitor_problems(wrong)


def one(kind: str) -> dict[str, Any]:
    """Return the only resource of a kind."""
    [found] = [each for each in resources() if each["kind"] == kind]
    return found


def test_what_refers_to_something_in_the_cluster_finds_it() -> None:
    pod, service, monitor = one("Deployment")["spec"]["template"], one("Service"), one("ServiceMonitor")
    ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    for selecting in (one("Deployment")["spec"], one("PodDisruptionBudget")["spec"]):
        assert selecting["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    # The job's pods are no part of the service.
    job = one("Job")["spec"]["template"]["metadata"]["labels"]
    assert not service["spec"]["selector"].items() <= job.items()
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    named = {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}
    assert named <= {port["name"] for port in service["spec"]["ports"]}
    for each in pods():
        assert {volume["name"] for volume in each["volumes"]} == {
            mount["name"] for container in each["containers"] for mount in container["volumeMounts"]
        }
    probes = {name: probe for name, probe in pod["spec"]["containers"][0].items() if name.endswith("Probe")}
    assert probes.keys() == {"startupProbe", "readinessProbe", "livenessProbe"}
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"http"}


def test_a_stop_has_the_time_that_the_longest_request_takes() -> None:
    compose = yaml.safe_load((CONTAINER / "compose.yml").read_text(encoding="utf-8"))
    assert int(compose["services"]["api"]["stop_grace_period"].removesuffix("s")) > LONGEST_S
    [deployment] = [each for each in resources() if each["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    [drain] = [int(each["value"]) for each in pod["containers"][0]["env"] if each["name"] == "DRAIN_S"]
    assert pod["terminationGracePeriodSeconds"] > LONGEST_S + drain
    [told] = re.findall(r"--stop-timeout (\d+)", (CONTAINER / "README.md").read_text(encoding="utf-8"))
    assert int(told) > LONGEST_S


@pytest.mark.parametrize("pod", pods())
def test_a_pod_has_no_right_that_it_does_not_need(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_nothing_that_git_ignores_is_part_of_the_build() -> None:
    """A run that writes while an image is built would change its layers, and a secret would lie in one."""
    ignored, left_out = (
        {line.removeprefix("**/").strip("/") for line in (ROOT / name).read_text(encoding="utf-8").splitlines()}
        for name in (".gitignore", ".dockerignore")
    )
    assert ignored - left_out == set()
