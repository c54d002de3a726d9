"""What must hold of a set of Kubernetes documents beyond their schemas. Each policy yields what breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from builder.deploy import sizing
from builder.deploy.image import pinned
from builder.errors import DeployError

Document = dict[str, Any]
SECRETIVE = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL", re.IGNORECASE)
HOST = ("hostNetwork", "hostPID", "hostIPC", "hostUsers")
RESTRICTED_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
HEALTH = {"startupProbe": "ready", "readinessProbe": "ready", "livenessProbe": "live"}
METRIC = "triton_queue_milliseconds"


@dataclass(frozen=True)
class Pod:
    """As the Deployment has it, or as KServe makes it of runtime and service."""

    name: str
    namespace: str | None
    spec: Document
    labels: dict[str, str]

    @property
    def servers(self) -> list[Document]:
        return list(self.spec["containers"])

    @property
    def containers(self) -> list[Document]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def name_of(document: Document) -> str:
    return str(document["metadata"]["name"])


def pods(documents: list[Document]) -> list[Pod]:
    found = [
        Pod(
            name_of(document),
            document["metadata"].get("namespace"),
            document["spec"]["template"]["spec"],
            document["spec"]["template"]["metadata"]["labels"],
        )
        for document in of_kind(documents, "Deployment")
    ]
    return found + [_of_kserve(service, documents) for service in of_kind(documents, "InferenceService")]


def _of_kserve(service: Document, documents: list[Document]) -> Pod:
    """KServe takes the runtime's containers, puts the model's own settings over them, and adds labels."""
    predictor = service["spec"]["predictor"]
    (runtime,) = (
        document
        for document in of_kind(documents, "ServingRuntime")
        if name_of(document) == predictor["model"]["runtime"]
    )
    (container,) = runtime["spec"]["containers"]
    spec = {key: value for key, value in predictor.items() if key not in ("model", "minReplicas", "maxReplicas")}
    own = container | {key: value for key, value in predictor["model"].items() if key in container}
    labels = service["metadata"]["labels"] | {"serving.kserve.io/inferenceservice": name_of(service)}
    volumes = runtime["spec"]["volumes"]
    return Pod(
        f"{name_of(service)}-predictor",
        service["metadata"].get("namespace"),
        spec | {"containers": [own], "volumes": volumes},
        labels,
    )


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def chosen(documents: list[Document], selector: dict[str, str]) -> list[Pod]:
    return [pod for pod in pods(documents) if selects(selector, pod.labels)]


# --- what the restricted Pod Security Standard asks, and a read-only root besides ---


def runs_as_nobody_special(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        context = pod.spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{pod.name} may run as root"
        for container in pod.containers:
            own = container.get("securityContext", {})
            if own.get("runAsUser", 1) == 0 or own.get("runAsNonRoot") is False:
                yield f"{pod.name}/{container['name']} runs as root"


def gains_no_privileges(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        for container in pod.containers:
            context = container.get("securityContext", {})
            if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
                yield f"{pod.name}/{container['name']} may gain privileges"


def has_no_capabilities(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        for container in pod.containers:
            capabilities = container.get("securityContext", {}).get("capabilities", {})
            if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
                yield f"{pod.name}/{container['name']} has capabilities"


def is_confined(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        contexts = [pod.spec.get("securityContext", {}), *(c.get("securityContext", {}) for c in pod.containers)]
        if any(context.get("seccompProfile", {}).get("type") != "RuntimeDefault" for context in contexts):
            yield f"{pod.name} makes any system call"


def writes_nothing_of_the_image(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        for container in pod.containers:
            if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
                yield f"{pod.name}/{container['name']} writes its root"


def is_apart_from_the_host(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        yield from (f"{pod.name} has {key}" for key in HOST if pod.spec.get(key))
        for volume in pod.spec.get("volumes", []):
            if set(volume) - {"name"} - RESTRICTED_VOLUMES:
                yield f"{pod.name} has the volume {volume['name']} of its host"
        for container in pod.containers:
            if any("hostPort" in port for port in container.get("ports", [])):
                yield f"{pod.name}/{container['name']} takes a port of its host"


def asks_nothing_of_the_api(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.name} has a token"
        if pod.spec.get("serviceAccountName") not in map(name_of, of_kind(documents, "ServiceAccount")):
            yield f"{pod.name} has no account of its own"
    for account in of_kind(documents, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{name_of(account)} hands out tokens"


# --- what keeps a fleet up ---


def is_limited(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        for container in pod.containers:
            resources = container.get("resources", {})
            if not {"cpu", "memory"} <= set(resources.get("limits", {})) & set(resources.get("requests", {})):
                yield f"{pod.name}/{container['name']} is not limited"
        for volume in pod.spec["volumes"]:
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod.name}'s {volume['name']} grows without limit"


def asks_for_gpus_as_kubernetes_wants(documents: list[Document]) -> Iterator[str]:
    """Whole, as many as its limit, on nodes of the generation, whose taint is tolerated."""
    for pod in pods(documents):
        (resources,) = (container["resources"] for container in pod.servers)
        asked = [resources[kind].get("nvidia.com/gpu") for kind in ("requests", "limits")]
        tolerates = any(taint.get("key") == "nvidia.com/gpu" for taint in pod.spec.get("tolerations", []))
        if asked[0] != asked[1] or (asked[0] is not None) != tolerates or tolerates != ("-gpu" in pod.name):
            yield f"{pod.name} asks for GPUs by halves"
        generation = re.search(r"-gpu-sm(\d+)(\d)\b", pod.name)
        found = tuple(pod.spec["nodeSelector"].get(f"nvidia.com/gpu.compute.{part}") for part in ("major", "minor"))
        if found != (generation.groups() if generation else (None, None)):
            yield f"{pod.name} runs on GPUs that its plans are not for"


def is_pinned(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        for container in pod.containers:
            try:
                pinned(container["image"])
            except DeployError as error:
                yield f"{pod.name}/{container['name']}: {error}"


def is_probed(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        for container in pod.servers:
            ports = _ports(container)
            for probe, path in HEALTH.items():
                request = container.get(probe, {}).get("httpGet", {})
                if request.get("path") != f"/v2/health/{path}":
                    yield f"{pod.name} has no {probe} of Triton's"
                elif ports.get(request.get("port"), request.get("port")) != ports.get("http", ports.get("http1")):
                    yield f"{pod.name}'s {probe} asks at another port"


def stops_in_order(documents: list[Document]) -> Iterator[str]:
    """Withdrawn, drained, ended, before it is killed."""
    for pod in pods(documents):
        for container in pod.servers:
            seconds = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if seconds < 5:
                yield f"{pod.name} stops while it is still sent requests"
            if pod.spec.get("terminationGracePeriodSeconds", 30) < seconds + sizing.STOP_SECONDS:
                yield f"{pod.name} is killed while it drains"


def rolls_out_without_a_gap(documents: list[Document]) -> Iterator[str]:
    for deployment in of_kind(documents, "Deployment"):
        rolling = deployment["spec"]["strategy"].get("rollingUpdate", {})
        if rolling.get("maxUnavailable") != 0 or not rolling.get("maxSurge"):
            yield f"{name_of(deployment)} has fewer pods while it rolls out"
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        startup = container.get("startupProbe", {"failureThreshold": 0, "periodSeconds": 0})
        if deployment["spec"]["progressDeadlineSeconds"] <= startup["failureThreshold"] * startup["periodSeconds"]:
            yield f"{name_of(deployment)} is given up before its pods may be ready"
        if "replicas" in deployment["spec"]:
            yield f"{name_of(deployment)} undoes what its autoscaler chose"


def spreads(documents: list[Document]) -> Iterator[str]:
    for deployment in of_kind(documents, "Deployment"):
        template = deployment["spec"]["template"]
        constraints = template["spec"].get("topologySpreadConstraints", [])
        if {item["topologyKey"] for item in constraints} != {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}:
            yield f"{name_of(deployment)}'s pods may be on one machine"
        if any(item["labelSelector"]["matchLabels"] != template["metadata"]["labels"] for item in constraints):
            yield f"{name_of(deployment)} spreads other pods than its own"


# --- what refers to something else ---


def keeps_secrets_out(documents: list[Document]) -> Iterator[str]:
    yield from (f"{name_of(secret)} is written out" for secret in of_kind(documents, "Secret"))
    for pod in pods(documents):
        for container in pod.containers:
            for variable in container.get("env", []):
                if "value" in variable and SECRETIVE.search(variable["name"]):
                    yield f"{pod.name}/{container['name']} has {variable['name']} in its text"


def mounts_what_there_is(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        volumes = {volume["name"] for volume in pod.spec["volumes"]}
        mounts = [(c["name"], mount) for c in pod.containers for mount in c.get("volumeMounts", [])]
        if {mount["name"] for _, mount in mounts} != volumes:
            yield f"{pod.name} has volumes {volumes} and mounts others"
        for server in pod.servers:
            paths = {mount["mountPath"] for mount in server.get("volumeMounts", [])}
            if not {"/tmp", "/dev/shm"} <= paths:
                yield f"{pod.name} cannot write to /tmp or /dev/shm"
            words = server["args"]
            if "--admin-key-file" in words:
                key = words[words.index("--admin-key-file") + 1]
                if key.rpartition("/")[0] not in paths:
                    yield f"{pod.name} lacks its admin key"


def repository_is_where_it_is_looked_for(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        (server,) = pod.servers
        path = server["args"][server["args"].index("--repository") + 1]
        mounted = {m["mountPath"] for m in server["volumeMounts"]} | {"/mnt/models"}  # that of KServe
        for fetch in pod.spec.get("initContainers", []):
            if path not in {mount["mountPath"] for mount in fetch["volumeMounts"]} or path not in mounted:
                yield f"{pod.name} fetches a repository that is not served"
            if path not in [*fetch.get("args", []), *fetch.get("command", [])]:
                yield f"{pod.name} fetches to another place than {path}"


def deployments_choose_their_pods(documents: list[Document]) -> Iterator[str]:
    for deployment in of_kind(documents, "Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        selector = deployment["spec"]["selector"]["matchLabels"]
        if not selects(selector, labels) or len(chosen(documents, selector)) != 1:
            yield f"{name_of(deployment)} chooses other pods than its own"


def services_reach_pods(documents: list[Document]) -> Iterator[str]:
    for service in of_kind(documents, "Service"):
        reached = chosen(documents, service["spec"]["selector"])
        if not reached:
            yield f"{name_of(service)} reaches no pod"
        for pod in reached:
            ports = _ports(pod.servers[0])
            for port in service["spec"]["ports"]:
                if ports.get(port["targetPort"]) != port["port"]:
                    yield f"{name_of(service)}'s {port['name']} leads to no port of {pod.name}"
    for pod in pods(documents):
        own = [s for s in of_kind(documents, "Service") if selects(s["spec"]["selector"], pod.labels)]
        is_headless = {service["spec"].get("clusterIP") == "None" for service in own}
        if pod.name.endswith("-predictor") or is_headless == {True, False}:
            continue  # KServe makes the Services of its pods
        yield f"{pod.name} lacks a Service, or a headless one for gRPC"


def autoscalers_scale(documents: list[Document]) -> Iterator[str]:
    names = [pod.name for pod in pods(documents)]
    scaled = []
    for scaler in of_kind(documents, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        scaled.append(target["name"])
        if target["name"] not in names or (target["kind"], target["apiVersion"]) != ("Deployment", "apps/v1"):
            yield f"{name_of(scaler)} scales {target['name']}, which is not there"
        if not 1 <= scaler["spec"]["minReplicas"] <= scaler["spec"]["maxReplicas"]:
            yield f"{name_of(scaler)} has an impossible range"
        if [metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]] != [METRIC]:
            yield f"{name_of(scaler)} follows something else than the queue"
    yield from (f"{name} is not scaled by one autoscaler" for name in names if scaled.count(name) != 1)


def budgets_protect(documents: list[Document]) -> Iterator[str]:
    budgets = of_kind(documents, "PodDisruptionBudget")
    for budget in budgets:
        if not chosen(documents, budget["spec"]["selector"]["matchLabels"]):
            yield f"{name_of(budget)} protects no pod"
    for pod in pods(documents):
        own = [b for b in budgets if selects(b["spec"]["selector"]["matchLabels"], pod.labels)]
        if len(own) != 1:  # with two, Kubernetes evicts none of its pods
            yield f"{pod.name} has {len(own)} budgets"


def networks_are_closed(documents: list[Document]) -> Iterator[str]:
    policies = of_kind(documents, "NetworkPolicy")
    for policy in policies:
        reached = chosen(documents, policy["spec"]["podSelector"].get("matchLabels", {}))
        if not reached or set(policy["spec"]["policyTypes"]) != {"Ingress", "Egress"}:
            yield f"{name_of(policy)} closes nothing"
        for rule in policy["spec"].get("ingress", [{}]):
            if not rule.get("from") or not rule.get("ports") or {} in rule["from"]:
                yield f"{name_of(policy)} lets anybody in"
            named = {port.get("port") for port in rule.get("ports", [])}
            yield from (
                f"{name_of(policy)} opens {named}, which {pod.name} has not"
                for pod in reached
                if not named <= set(_ports(pod.servers[0]))
            )
        if any(not rule.get("ports") for rule in policy["spec"].get("egress", [{}])):
            yield f"{name_of(policy)} lets anything out"
    for pod in pods(documents):
        if pod.name.endswith("-predictor"):
            continue  # where KServe's gateway is, its installation tells
        if not any(selects(p["spec"]["podSelector"].get("matchLabels", {}), pod.labels) for p in policies):
            yield f"{pod.name} is open"


def monitors_find_metrics(documents: list[Document]) -> Iterator[str]:
    """Each pod's, once."""
    services = of_kind(documents, "Service")
    for monitor in of_kind(documents, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        if "serving.kserve.io/inferenceservice" in selector:
            found = [pod for pod in chosen(documents, selector) if "metrics" in _ports(pod.servers[0])]
        else:
            (port,) = (endpoint["port"] for endpoint in monitor["spec"]["endpoints"])
            found = [
                pod
                for service in services
                if selects(selector, service["metadata"]["labels"])
                if port in [item["name"] for item in service["spec"]["ports"]]
                for pod in chosen(documents, service["spec"]["selector"])
            ]
        if len(found) != 1:
            yield f"{name_of(monitor)} finds the metrics of {len(found)} deployments"


def is_in_one_namespace(documents: list[Document]) -> Iterator[str]:
    if len({document["metadata"].get("namespace") for document in documents}) > 1:
        yield "the objects are in several namespaces"
    names = [(document["kind"], name_of(document)) for document in documents]
    yield from (f"{kind} {name} is there twice" for kind, name in set(names) if names.count((kind, name)) > 1)


def _ports(container: Document) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container.get("ports", [])}


POLICIES: dict[str, Callable[[list[Document]], Iterator[str]]] = {
    policy.__name__: policy
    for policy in (
        runs_as_nobody_special,
        gains_no_privileges,
        has_no_capabilities,
        is_confined,
        writes_nothing_of_the_image,
        is_apart_from_the_host,
        asks_nothing_of_the_api,
        is_limited,
        asks_for_gpus_as_kubernetes_wants,
        is_pinned,
        is_probed,
        stops_in_order,
        rolls_out_without_a_gap,
        spreads,
        keeps_secrets_out,
        mounts_what_there_is,
        repository_is_where_it_is_looked_for,
        deployments_choose_their_pods,
        services_reach_pods,
        autoscalers_scale,
        budgets_protect,
        networks_are_closed,
        monitors_find_metrics,
        is_in_one_namespace,
    )
}


def broken(documents: list[Document]) -> dict[str, list[str]]:
    """By policy, what breaks it; those that hold are left out."""
    found = {name: list(policy(documents)) for name, policy in POLICIES.items()}
    return {name: reasons for name, reasons in found.items() if reasons}
