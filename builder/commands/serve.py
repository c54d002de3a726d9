"""build-repo serve"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from builder.commands import own_options
from builder.commands.options import HttpHost, Json, Linger, Port, Repository, UntilInputCloses
from builder.commands.output import print_json, progress, say
from builder.commands.pull import Verify
from builder.errors import LaunchError, ServerEnded
from builder.machine import signals
from builder.util import hints

if TYPE_CHECKING:
    from builder.launchers import Server
    from builder.launchers.newer import Published
    from builder.launchers.options import LaunchOptions, ServerTls


def _models() -> own_options.Models:
    from builder.launchers import LAUNCHERS

    return {name: launcher.OPTIONS for name, launcher in LAUNCHERS.items()}


LAUNCHER = own_options.Selection("launcher", "How the server is run", _models, LaunchError)
ServeCommand = own_options.command(LAUNCHER)
"""`serve`, with --launcher and the options that the launchers bring."""


Follow = Callable[[], AbstractContextManager[None]]
"""What is done about what is published, while it lasts."""
Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to other machines.")]
MetricsHost = Annotated[str | None, typer.Option(help="Address of the metrics. Default: HTTP's.", show_default=False)]
Certificate = Annotated[Path | None, typer.Option(help="PEM certificate chain, for gRPC; HTTP then stays on loopback.")]
CertificateKey = Annotated[Path | None, typer.Option(help="PEM key of that certificate.")]
ClientCa = Annotated[Path | None, typer.Option(help="PEM authorities of which gRPC clients must show a certificate.")]
AdminKeyFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the key to model control, shared memory, logging and trace; or set BUILD_REPO_ADMIN_KEY."
    ),
]
Unrestricted = Annotated[bool, typer.Option("--unrestricted", help="Let everybody use those.")]
VerifyIntegrity = Annotated[
    bool,
    typer.Option(
        "--check/--no-check",
        help="First compare every file with what was recorded when it was built, and judge what is served, as "
        "build-repo check does, for the server that is to serve it.",
    ),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Roll out by itself what is published while it serves; see build-repo rollout.")
]
MaxSlowdown = Annotated[
    float | None,
    typer.Option(
        min=0.01, help="With --watch: refuse a version that takes longer than so many times the old one's time."
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the server's whole log.")]


def serve(
    context: typer.Context,
    repository: Repository = Path("model_repository"),
    host: Host = "127.0.0.1",
    http_port: Port = 8000,
    grpc_port: Port = 8001,
    metrics_port: Port = 8002,
    metrics_host: MetricsHost = None,
    tls_cert: Certificate = None,
    tls_key: CertificateKey = None,
    tls_client_ca: ClientCa = None,
    admin_key_file: AdminKeyFile = None,
    unrestricted: Unrestricted = False,
    verify_integrity: VerifyIntegrity = True,
    verify: Verify = None,
    http_host: HttpHost = None,
    watch: Watch = False,
    max_slowdown: MaxSlowdown = None,
    linger: Linger = 1,
    until_input_closes: UntilInputCloses = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Serve a repository in the foreground until Ctrl-C or SIGTERM."""
    from builder.launchers.options import LaunchOptions

    if until_input_closes:
        threading.Thread(target=_end_with_input, daemon=True).start()
    launcher, own = own_options.chosen(context, LAUNCHER)
    _require_sense(watch, max_slowdown, own)
    _require_signed(repository, verify)
    with progress(1) as steps:
        options = LaunchOptions(
            host,
            http_port,
            grpc_port,
            metrics_port,
            verbose,
            tls=_tls(tls_cert, tls_key, tls_client_ca),
            admin_key=_admin_key(admin_key_file, unrestricted),
            restrict=False if unrestricted else None,
            metrics_host=metrics_host,
            verify_integrity=verify_integrity,
            http_host=http_host,
            watch=watch,
            progress=steps,
            report=(lambda _: None) if as_json else say,
            judge=partial(_judge, repository) if verify_integrity else lambda *_: None,
            warn=say,
        )
        served = _published(repository)
        server = _launch(repository, launcher, options, own, as_json)

    def follow() -> AbstractContextManager[None]:
        return _followed(server, repository, max_slowdown, verify) if watch else _told(server, repository, served)

    _attend(server, follow, as_json, linger)


def _judge(repository: Path, read: Path, triton: str | None) -> None:
    """Raises CheckError for what the server would refuse."""
    from builder.check import gate

    is_changed = read.absolute() != repository.absolute()
    gate.require_loadable(repository, gate.targets_of(triton), read if is_changed else None)


def _require_sense(watch: bool, max_slowdown: float | None, own: Any) -> None:
    if watch and getattr(own, "detach", False):
        raise LaunchError(
            "--watch lasts as long as this command, which --detach ends; leave one out, and bring a detached server to "
            "what is published with build-repo rollout"
        )
    if max_slowdown is not None and not watch:
        raise LaunchError("--max-slowdown is for versions that --watch rolls out; add that, or leave it out")


def _followed(
    server: Server, repository: Path, max_slowdown: float | None, key: Path | None
) -> AbstractContextManager[None]:
    from builder.lifecycle import serving, watch

    if server.access is None:
        raise LaunchError("this launcher has no key to its server's models; give one with --admin-key-file")
    allow = None if key is None else partial(_require_signed, repository, key)
    has = partial(serving.has_published, repository, server.access)
    return watch.watched(repository, server.access, server.served, say, max_slowdown, allow=allow, has=has)


def _told(server: Server, repository: Path, served: Published) -> AbstractContextManager[None]:
    """What is published meanwhile is told, and left to the user."""
    from builder.launchers import newer

    by_hand = ""
    if server.access:
        by_hand = f"{hints.command(repository, 'rollout', '--url', server.access.url)}, or "
    hint = f"to serve that: {by_hand}start this again with --watch"
    return newer.watched(repository, served, say, hint, server.served)


def _require_signed(repository: Path, key: Path | None) -> None:
    from builder.stores import signing

    if key is not None:
        signing.require_served(repository, key)


def _published(repository: Path) -> Published:
    from builder.launchers import newer

    return newer.published(repository)


def _launch(repository: Path, launcher: str, options: LaunchOptions, own: Any, as_json: bool) -> Server:
    from builder.launchers import LAUNCHERS, access
    from builder.machine import systemd

    if notice := access.notice(options):
        say(notice)
    if not as_json:
        say(f"starting Triton over {repository} ...")
    with systemd.starting(f"loading the models of {repository}"):
        return LAUNCHERS[launcher].launch(repository, options, own)


def _attend(server: Server, follow: Follow, as_json: bool, linger: float) -> None:
    """Say where the server is, and stay until it is to stop; not with one that goes on by itself."""
    from builder.machine import systemd

    try:
        _say_ready(server, as_json)
        if not server.is_detached:
            _wait(server, follow)
    except (KeyboardInterrupt, SystemExit) as end:
        signals.hold()
        systemd.stopping("answering what is in flight")
        if isinstance(end, SystemExit):
            signals.wait(linger)  # balancers go on sending until they have noticed
        say("stopping: answering what is in flight ...")
    finally:
        signals.hold()
        server.stop()


def _say_ready(server: Server, as_json: bool) -> None:
    ends = server.endpoints
    if as_json:
        known = {"restricted": server.is_restricted, "advisories": [found.cve for found in server.advisories]}
        print_json({"ready": True} | known | asdict(ends))
        return
    how = f"build-repo stop --name {server.name}" if server.is_detached else "Ctrl-C"
    say(f"ready: gRPC {ends.grpc}, HTTP {ends.http}, metrics {ends.metrics}; {how} stops it")


def _wait(server: Server, follow: Follow) -> NoReturn:
    """Until a signal comes, as an exception; raises ServerEnded if the server ends before."""
    from builder.machine import systemd

    systemd.ready(f"gRPC {server.endpoints.grpc}, HTTP {server.endpoints.http}")
    with systemd.watched(server.is_live), follow():
        status = server.wait()
    raise ServerEnded(f"the server ended by itself with status {status}; its last words are above")


def _end_with_input() -> None:
    """Whoever started this holds the other end, and when they are gone it closes."""
    while os.read(0, 4096):  # not sys.stdin, whose lock this would hold when the process ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _admin_key(file: Path | None, unrestricted: bool) -> str | None:
    from builder.launchers import access

    if unrestricted and file:
        raise LaunchError("with --unrestricted nobody is asked for the key of --admin-key-file; give one of the two")
    return None if unrestricted else access.read_key(file)


def _tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> ServerTls | None:
    from builder.launchers.options import ServerTls

    if certificate and key:
        return ServerTls(certificate, key, client_ca)
    if certificate or key or client_ca:
        raise LaunchError("TLS takes both --tls-cert and --tls-key")
    return None
