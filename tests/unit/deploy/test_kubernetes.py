"""The manifests, rendered by kubectl and checked offline against Kubernetes's own schemas."""

import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from dockerfile import STAGES
from programs import program

from server.app import SHUTDOWN_SECONDS
from server.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[3]
OVERLAYS = ("cpu", "gpu")
SCALING = (ROOT / "docs" / "scaling.md").read_text()
VERSIONS = ("1.30", "1.34")
CUSTOM = {"PodMonitor", "ScaledObject"}
"""Kinds of Prometheus Operator and KEDA, whose schemas are not Kubernetes's."""


def rendered(overlay):
    kubectl = program("kubectl", "kubectl")
    command = [kubectl, "kustomize", str(ROOT / "deploy" / "kubernetes" / "overlays" / overlay)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request):
    return {each["kind"]: each for each in rendered(request.param)} | {"overlay": request.param}


@pytest.fixture
def pod(objects):
    return objects["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture
def container(pod):
    (container,) = pod["containers"]
    return container


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_schemas_accept_every_object(overlay, version):
    checked = [each for each in rendered(overlay) if each["kind"] not in CUSTOM]
    assert {"Deployment", "Service", "PodDisruptionBudget", "ServiceAccount"} <= {each["kind"] for each in checked}
    for each in checked:
        kubernetes_validate.validate(each, version, strict=True)


def test_the_check_can_fail():
    deployment = next(each for each in rendered("cpu") if each["kind"] == "Deployment")
    deployment["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


def test_the_image_is_one_that_compose_builds(objects, container):
    name = f"stepgrpo:0.1.0-{objects['overlay']}"
    assert container["image"] == name
    assert name in (ROOT / "deploy" / "compose" / "server.yaml").read_text()


def test_the_pod_is_restricted_as_the_image_expects(pod, container):
    (user,) = [line.split()[1] for line in STAGES["cpu"] if line.startswith("USER ")]
    context = pod["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert context["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["resources"]["limits"]["memory"]


def test_probes_ask_for_life_and_for_readiness(container):
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] >= 600


def test_a_rollout_is_not_given_up_while_a_pod_may_still_load_its_model(objects, container):
    probe = container["startupProbe"]
    loading = probe["failureThreshold"] * probe["periodSeconds"]
    assert objects["Deployment"]["spec"]["progressDeadlineSeconds"] > loading


def test_the_service_sets_no_variable_that_the_server_would_take_for_a_setting(objects, pod):
    injected = objects["Service"]["metadata"]["name"].upper() + "_PORT"
    assert injected == "STEPGRPO_PORT"
    assert "port" in ServerSettings.model_fields
    assert pod["enableServiceLinks"] is False


def test_a_pod_has_time_to_drain(pod, container):
    slept = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > slept + SHUTDOWN_SECONDS


def test_selectors_find_the_pods(objects):
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["PodMonitor"]["spec"]["selector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    (port,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert objects["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["port"] == port["name"]
    assert labels[objects["PodMonitor"]["spec"]["jobLabel"]] == "stepgrpo"


def test_the_rules_become_objects_as_the_page_says():
    (loop,) = re.findall(r"^\$ (for rules in .*?) \| kubectl apply -f -$", SCALING, re.MULTILINE | re.DOTALL)
    result = subprocess.run(["bash", "-euo", "pipefail", "-c", loop], cwd=ROOT, capture_output=True, check=True)
    made = [each for each in yaml.safe_load_all(result.stdout) if each]
    assert {each["kind"] for each in made} == {"PrometheusRule"}
    rules = sorted(ROOT.glob("deploy/prometheus/rules/*.yml"))
    assert {each["metadata"]["name"]: each["spec"] for each in made} == {
        f"stepgrpo-{path.stem}": yaml.safe_load(path.read_text()) for path in rules
    }


def test_queue_depth_scales_the_gpu_servers_and_nobody_else_sets_their_number():
    objects = {each["kind"]: each for each in rendered("gpu")}
    scaled = objects["ScaledObject"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    assert "replicas" not in objects["Deployment"]["spec"]
    assert any("vllm:num_requests_waiting" in trigger["metadata"]["query"] for trigger in scaled["triggers"])


@pytest.mark.parametrize("version", VERSIONS)
def test_replicas_are_not_let_go_at_once(version):
    (scaled,) = [each["spec"] for each in rendered("gpu") if each["kind"] == "ScaledObject"]
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 600
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "stepgrpo"}, "maxReplicas": 8, "behavior": behavior}
    autoscaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "stepgrpo"}}
    kubernetes_validate.validate(autoscaler | {"spec": spec}, version, strict=True)
