"""build-repo deploy kubernetes"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.commands.deploy.options import AdminSecret, Image, Name
from builder.commands.deploy.target import Deployment


def _text(help: str, metavar: str = "NAME") -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=help, metavar=metavar)
    return option


def _count(help: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=help, metavar="N", min=1)
    return option


Uri = Annotated[str | None, _text("Where pods copy it from: s3://, gs://, as:// or https://.", "URI")]
Endpoint = Annotated[str | None, _text("Of a storage that speaks S3.", "URL")]
Secret = Annotated[str | None, _text("Secret with its credentials, as environment variables.")]
Claim = Annotated[str | None, _text("Volume claim that holds it.", "NAME[/PATH]")]
Baked = Annotated[bool, typer.Option("--repository-baked", help="It is in the image, in /models.")]
FetchImage = Annotated[str | None, _text("What copies it. Default: rclone's.", "IMAGE")]
FetchCommand = Annotated[str | None, _text("Instead of rclone's, with {uri} and {folder}.", "COMMAND")]
Namespace = Annotated[str | None, _text("Default: that of whoever applies the files.")]
Architecture = Annotated[str, _text("Of the nodes.")]
RuntimeClass = Annotated[str | None, _text("That GPUs need in your cluster, such as nvidia.")]
Replicas = Annotated[int, _count("Of each kind of machine.")]
QueueMs = Annotated[int, _count("Mean wait in a queue, above which pods are added.")]
Cpus = Annotated[int | None, _count("Of a pod. Default: by the repository.")]
Memory = Annotated[int | None, _count("Of a pod. Default: by the repository.")]
Gpus = Annotated[int, _count("Of a pod, where it needs any.")]
Startup = Annotated[int | None, _count("In which the models load. Default: by the repository.")]
Clients = Annotated[list[str] | None, _text("Namespace that may call; may be given again. Default: by label.")]
Monitoring = Annotated[str, _text("Namespace of Prometheus.")]
Egress = Annotated[str, _text("Network that the repository comes from.", "CIDR")]
Monitor = Annotated[bool, typer.Option(help="For the Prometheus operator.")]
MonitorLabels = Annotated[list[str] | None, _text("By which it finds monitors; may be given again.", "KEY=VALUE")]
PullSecret = Annotated[str | None, _text("Secret with which the images are pulled.")]
Protocol = Annotated[str, _text("What KServe routes: v2 or grpc-v2.", "PROTOCOL")]


def kubernetes(
    repository: Path,
    output: Path,
    image: Image,
    repository_uri: Uri = None,
    repository_endpoint: Endpoint = None,
    repository_secret: Secret = None,
    repository_claim: Claim = None,
    repository_baked: Baked = False,
    fetch_image: FetchImage = None,
    fetch_command: FetchCommand = None,
    name: Name = "triton",
    namespace: Namespace = None,
    architecture: Architecture = "amd64",
    runtime_class: RuntimeClass = None,
    min_replicas: Replicas = 2,
    max_replicas: Replicas = 8,
    queue_ms: QueueMs = 20,
    cpus: Cpus = None,
    memory_mib: Memory = None,
    gpus: Gpus = 1,
    startup_seconds: Startup = None,
    admin_secret: AdminSecret = None,
    pull_secret: PullSecret = None,
    client_namespace: Clients = None,
    monitoring_namespace: Monitoring = "monitoring",
    egress_cidr: Egress = "0.0.0.0/0",
    service_monitor: Monitor = True,
    monitor_label: MonitorLabels = None,
    kserve_protocol: Protocol = "v2",
) -> Deployment:
    """A Kustomize base with an overlay a GPU generation, and KServe's objects; for Kubernetes 1.30 and newer."""
    from builder.containers import slim
    from builder.deploy import kubernetes, source
    from builder.deploy.image import judged
    from builder.repository.served import read_intact

    how = source.How(repository_secret, repository_endpoint, fetch_image or source.FETCH_IMAGE, fetch_command)
    origin = source.choose(repository_uri, repository_claim, repository_baked, how)
    place = kubernetes.Place(name, namespace, architecture, runtime_class)
    scale = kubernetes.Scale(min_replicas, max_replicas, queue_ms)
    sizes = kubernetes.Sizes(cpus, memory_mib, gpus, startup_seconds)
    network = kubernetes.NetworkAccess(tuple(client_namespace or ()), monitoring_namespace, egress_cidr)
    monitors = kubernetes.Monitors(service_monitor, kubernetes.labels(monitor_label or ()))
    options = kubernetes.Options(
        image, origin, place, scale, sizes, network, monitors, admin_secret, kserve_protocol, pull_secret
    )
    models = read_intact(repository)
    opened = judged(image, not slim.refusal(models))
    return Deployment(kubernetes.render(models, options), opened, kubernetes.apply_command(output))
