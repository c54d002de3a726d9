"""build-repo deploy systemd"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.commands.deploy.target import Deployment

User = Annotated[str | None, typer.Option(help="Account to run as. Default: one that systemd makes up.")]
Prefix = Annotated[
    Path | None, typer.Option(help="Environment whose bin/ has the programs. Default: this one.", metavar="DIR")
]
Readable = Annotated[
    list[Path] | None,
    typer.Option(help="What else the programs need below a home, such as their Python. Repeatable.", metavar="DIR"),
]
Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to other machines.")]
AdminKey = Annotated[
    Path | None, typer.Option(help="Key of serve --admin-key-file; as all keys here, a file for root.", metavar="FILE")
]
ApiKey = Annotated[Path | None, typer.Option(help="Key to ask of the gateway's callers.", metavar="FILE")]
Certificate = Annotated[Path | None, typer.Option(help="PEM certificate chain, for HTTPS.", metavar="FILE")]
CertificateKey = Annotated[Path | None, typer.Option(help="PEM key of that certificate.", metavar="FILE")]
Port = Annotated[int, typer.Option(min=1, max=65535)]
Memory = Annotated[str | None, typer.Option(help="The most that each service may use, such as 8G or 75%.")]
Cpus = Annotated[float | None, typer.Option(help="The most cores that the server may use.")]
Gpu = Annotated[bool | None, typer.Option("--gpu/--no-gpu", help="NVIDIA GPUs for it. Default: as the models need.")]
AllowFrom = Annotated[
    list[str] | None,
    typer.Option(help="Network that may connect, besides this machine, such as 10.0.0.0/8. Repeatable.", metavar="NET"),
]
WithGateway = Annotated[bool, typer.Option("--gateway/--no-gateway", help="Also the web service before it.")]
Model = Annotated[str | None, typer.Option(help="For requests that name none.")]
Drain = Annotated[int, typer.Option(help="Seconds between /readyz saying no and the stop.", min=0)]


def systemd(
    repository: Path,
    output: Path,
    user: User = None,
    prefix: Prefix = None,
    readable: Readable = None,
    host: Host = "127.0.0.1",
    http_port: Port = 8000,
    grpc_port: Port = 8001,
    metrics_port: Port = 8002,
    admin_key_file: AdminKey = None,
    memory: Memory = None,
    cpus: Cpus = None,
    gpu: Gpu = None,
    allow_from: AllowFrom = None,
    gateway: WithGateway = True,
    gateway_model: Model = None,
    gateway_host: Host = "127.0.0.1",
    gateway_port: Port = 8080,
    gateway_drain: Drain = 0,
    gateway_key_file: ApiKey = None,
    gateway_tls_cert: Certificate = None,
    gateway_tls_key: CertificateKey = None,
) -> Deployment:
    """Hardened units for the embedded server and the gateway."""
    del output
    from builder.deploy.systemd import Environment, Gateway, Options, Ports, render, this_environment
    from builder.launchers import access
    from builder.launchers.options import LaunchOptions
    from builder.repository.served import read_intact
    from builder.triton.advisories import EMBEDDED

    before = Gateway(
        gateway_model, gateway_host, gateway_port, gateway_drain, gateway_key_file, gateway_tls_cert, gateway_tls_key
    )
    options = Options(
        repository.absolute(),
        Environment(prefix, tuple(readable or ())) if prefix else this_environment(tuple(readable or ())),
        repository.resolve(),
        user,
        host,
        Ports(http_port, grpc_port, metrics_port),
        admin_key_file,
        memory,
        cpus,
        gpu,
        tuple(allow_from or ()),
        before if gateway else None,
    )
    return Deployment(render(read_intact(repository), options), access.judgement(LaunchOptions(host), EMBEDDED))
