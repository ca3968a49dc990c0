"""What the manifests promise, built with kustomize and checked by the schemas of Kubernetes and KServe."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from clients_environment import clients_python

from service.app import BENTOML_TIMEOUT_S
from service.metrics import QUEUED_IMAGES
from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = ROOT / "service" / "deploy" / "kubernetes"
SCHEMAS = Path(__file__).parent / "kubernetes_schemas.py"
# The oldest that its makers still mend somewhere, and the newest that there are schemas for.
KUBERNETES_VERSIONS = ["1.30", "1.37"]

Document = dict[str, Any]


@functools.cache
def built(overlay: str) -> tuple[Document, ...]:
    """The objects of `base`, `overlays/gpu`, `kserve` or a folder elsewhere, as they reach the cluster."""
    if overlay == "kserve":
        return (yaml.safe_load((MANIFESTS / "kserve" / "inferenceservice.yaml").read_text()),)
    kustomize = [found for found in ("kustomize", "kubectl") if shutil.which(found)]
    if not kustomize:
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up("neither kustomize nor kubectl is installed, so the manifests stay untested")
    command = {"kustomize": ["kustomize", "build"], "kubectl": ["kubectl", "kustomize"]}[kustomize[0]]
    done = subprocess.run([*command, MANIFESTS / overlay], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return tuple(yaml.safe_load_all(done.stdout))


def the(kind: str, overlay: str) -> Document:
    [found] = [document for document in built(overlay) if document["kind"] == kind]
    return found


def pod_spec(overlay: str) -> Document:
    if overlay == "kserve":
        spec: Document = the("InferenceService", overlay)["spec"]["predictor"]
    else:
        spec = the("Deployment", overlay)["spec"]["template"]["spec"]
    return spec


def container(overlay: str) -> Document:
    [only] = pod_spec(overlay)["containers"]
    assert isinstance(only, dict)
    return only


def variables(overlay: str) -> dict[str, str]:
    """The environment of the container, beside that of its image."""
    if overlay == "kserve":
        return {each["name"]: each["value"] for each in container(overlay)["env"]}
    [source] = container(overlay)["envFrom"]
    settings = the("ConfigMap", overlay)
    assert source["configMapRef"]["name"] == settings["metadata"]["name"]
    data: dict[str, str] = settings["data"]
    return data


overlays = pytest.mark.parametrize("overlay", ["base", "overlays/gpu"])
everything = pytest.mark.parametrize("overlay", ["base", "overlays/gpu", "kserve"])


def faults(documents: list[Document]) -> list[list[str]]:
    """What the schemas find wrong with each."""
    done = subprocess.run(
        [clients_python(), SCHEMAS, *KUBERNETES_VERSIONS],
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_every_object_keeps_its_schema() -> None:
    documents = [each for overlay in ("base", "overlays/gpu", "kserve") for each in built(overlay)]
    assert len(documents) == 6 + 6 + 1
    assert faults(documents) == [[]] * len(documents)


def test_the_schemas_find_what_is_wrong() -> None:
    bad = yaml.safe_load((MANIFESTS / "kserve" / "inferenceservice.yaml").read_text())
    bad["spec"]["predictor"]["containers"][0]["resource"] = {}
    bad["spec"]["predictor"]["minReplicas"] = "one"
    bad_service = {"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {"port": 80}}
    of_kserve, of_service = faults([bad, bad_service])
    assert len(of_kserve) == 2
    assert len(of_service) == len(KUBERNETES_VERSIONS)


@everything
def test_a_pod_has_no_rights_and_cannot_gain_any(overlay: str) -> None:
    pod, own = pod_spec(overlay), container(overlay)["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}


@everything
def test_a_pod_runs_as_the_images_user_and_writes_where_the_image_writes(overlay: str) -> None:
    dockerfile = (ROOT / "service" / "deploy" / "Dockerfile").read_text()
    context = pod_spec(overlay)["securityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in dockerfile
    [mount] = container(overlay)["volumeMounts"]
    [volume] = pod_spec(overlay)["volumes"]
    assert f"ENV HOME={mount['mountPath']} " in dockerfile
    assert volume["name"] == mount["name"]
    assert volume["emptyDir"]["sizeLimit"]


@everything
def test_a_pod_has_requests_and_limits(overlay: str) -> None:
    resources = container(overlay)["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert resources["limits"].keys() >= {"cpu", "memory"}, "threads are sized by the limit of CPU"


@everything
def test_start_readiness_and_life_are_probed_where_the_service_tells_them(overlay: str) -> None:
    health = ("/v2/health/ready", "/v2/health/live") if overlay == "kserve" else ("/readyz", "/livez")
    asked = {
        probe: container(overlay)[f"{probe}Probe"]["httpGet"]
        for probe in ("startup", "readiness", "liveness")
    }
    assert (asked["startup"]["path"], asked["readiness"]["path"], asked["liveness"]["path"]) == (
        health[0],
        *health,
    )
    [port] = container(overlay)["ports"]
    assert port["containerPort"] == 3000
    assert {probe["port"] for probe in asked.values()} <= {port["name"], port["containerPort"]}
    startup = container(overlay)["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60, "a slow machine may take a minute"


@everything
def test_a_pod_that_ends_may_answer_what_it_has(overlay: str) -> None:
    sleep, pause_s = container(overlay)["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    drain_s = Settings.model_fields["drain_ms"].default / 1000
    assert pod_spec(overlay)["terminationGracePeriodSeconds"] > float(pause_s) + BENTOML_TIMEOUT_S + drain_s


@everything
def test_every_variable_is_a_setting_of_ours(overlay: str) -> None:
    fields = {name.removeprefix("DIGITSERVE_").lower(): value for name, value in variables(overlay).items()}
    assert fields.keys() <= Settings.model_fields.keys()
    assert Settings(**fields).device == ("cuda" if "gpu" in overlay else "cpu")
    assert pod_spec(overlay)["enableServiceLinks"] is False, (
        "Kubernetes' own would begin with DIGITSERVE_ too"
    )


@overlays
def test_nothing_selects_pods_of_another_instance(overlay: str) -> None:
    template = the("Deployment", overlay)["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert labels["app.kubernetes.io/instance"] == ("gpu" if "gpu" in overlay else "cpu")
    [spread] = template["spec"]["topologySpreadConstraints"]
    for selector in (
        the("Deployment", overlay)["spec"]["selector"]["matchLabels"],
        the("Service", overlay)["spec"]["selector"],
        the("PodDisruptionBudget", overlay)["spec"]["selector"]["matchLabels"],
        the("NetworkPolicy", overlay)["spec"]["podSelector"]["matchLabels"],
        spread["labelSelector"]["matchLabels"],
    ):
        assert selector == labels


def test_both_instances_may_live_in_one_namespace() -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in (*built("base"), *built("overlays/gpu"))]
    assert len(names) == len(set(names))


@overlays
def test_the_service_leads_to_the_port_that_is_let_in(overlay: str) -> None:
    [port] = container(overlay)["ports"]
    [of_service] = the("Service", overlay)["spec"]["ports"]
    network = the("NetworkPolicy", overlay)["spec"]
    [[allowed]] = [rule["ports"] for rule in network["ingress"]]
    assert of_service["targetPort"] == allowed["port"] == port["name"]
    assert network["policyTypes"] == ["Ingress", "Egress"]
    assert network["egress"] == [], "it calls nobody"


@overlays
def test_the_number_of_pods_follows_the_queue(overlay: str) -> None:
    scaler, deployment = the("HorizontalPodAutoscaler", overlay)["spec"], the("Deployment", overlay)
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"], "an apply would set back what the autoscaler chose"
    [series] = {series.name for series in QUEUED_IMAGES.collect()}
    assert series in [metric["pods"]["metric"]["name"] for metric in scaler["metrics"] if "pods" in metric]
    assert (
        int(scaler["metrics"][0]["pods"]["target"]["averageValue"])
        < Settings.model_fields["max_queue"].default
    )


def test_the_adapter_offers_the_metric_that_the_autoscaler_asks_for() -> None:
    [rule] = yaml.safe_load((MANIFESTS / "metrics" / "prometheus-adapter.yaml").read_text())["rules"][
        "custom"
    ]
    [series] = {series.name for series in QUEUED_IMAGES.collect()}
    assert rule["seriesQuery"].startswith(series + "{")
    assert rule["name"] == {"as": series}
    assert {"<<.Series>>", "<<.LabelMatchers>>", "<<.GroupBy>>"} <= set(
        re.findall(r"<<\S+?>>", rule["metricsQuery"])
    )


def test_the_gpu_overlay_asks_for_a_gpu_and_for_the_image_with_cuda() -> None:
    assert container("overlays/gpu")["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container("overlays/gpu")["image"] == "digitserve:cuda"
    assert container("base")["image"] == container("kserve")["image"] == "digitserve:cpu"


def test_the_gpu_overlay_keeps_its_image_where_the_base_has_another(tmp_path: Path) -> None:
    copy = tmp_path / "kubernetes"
    shutil.copytree(MANIFESTS, copy)
    base = copy / "base" / "kustomization.yaml"
    set_image = "  - name: digitserve\n    newName: registry.example/digitserve\n    newTag: '1'\n"
    base.write_text(base.read_text().replace("  - name: digitserve\n    newTag: cpu\n", set_image))
    assert container(str(copy / "base"))["image"] == "registry.example/digitserve:1"
    assert container(str(copy / "overlays" / "gpu"))["image"] == "digitserve:cuda"


def test_a_disruption_takes_one_pod_at_a_time() -> None:
    assert the("PodDisruptionBudget", "base")["spec"]["maxUnavailable"] == 1
    assert the("HorizontalPodAutoscaler", "base")["spec"]["minReplicas"] >= 2
