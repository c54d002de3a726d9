"""build-repo deploy swarm"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.commands.deploy.options import Image, Name
from builder.commands.deploy.target import Deployment

Published = Annotated[
    int | None, typer.Option(help="Port on every node. Default: none but the stack's network.", min=1, max=65535)
]


def swarm(
    repository: Path,
    output: Path,
    image: Image,
    repository_path: Annotated[
        str | None, typer.Option(help="Of the repository on every node. Default: it is in the image.", metavar="DIR")
    ] = None,
    name: Name = "triton",
    replicas: Annotated[int, typer.Option(help="Of the server.", min=1, max=100)] = 2,
    publish_http: Published = None,
    publish_grpc: Published = None,
    proxy_image: Annotated[str, typer.Option(help="HAProxy 2.4 or newer.", metavar="IMAGE")] = "haproxy:3.2-alpine",
    tls_secret: Annotated[
        str | None, typer.Option(help="Secret with certificate and key in one PEM, for the proxy.", metavar="NAME")
    ] = None,
    admin_secret: Annotated[
        str | None, typer.Option(help="Secret that is the key to Triton's model control.", metavar="NAME")
    ] = None,
    cpus: Annotated[float | None, typer.Option(help="Of a replica. Default: by the repository.", min=0.1)] = None,
    memory: Annotated[int | None, typer.Option(help="MiB of a replica. Default: by the repository.", min=64)] = None,
    gpus: Annotated[int, typer.Option(help="Of a replica, where it needs any.", min=1)] = 1,
) -> Deployment:
    """A stack file: replicas behind a proxy, updated one by one."""
    from builder.containers import slim
    from builder.deploy.image import judged
    from builder.deploy.swarm import STACK, Options, render
    from builder.repository.served import read_intact

    options = Options(
        image,
        name,
        replicas,
        repository_path,
        proxy_image,
        publish_http,
        publish_grpc,
        tls_secret,
        admin_secret,
        cpus,
        memory,
        gpus,
    )
    models = read_intact(repository)
    following = f"docker stack deploy --with-registry-auth --compose-file {output / STACK} {name}"
    return Deployment(render(models, options), judged(image, not slim.refusal(models)), following)
