"""build-repo serve"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from builder.commands.options import Json, Port, Repository
from builder.commands.output import print_json, say


def serve(
    repository: Repository = Path("model_repository"),
    launcher: Annotated[str, typer.Option(help="How the server is run.")] = "embedded",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to other machines.")] = "127.0.0.1",
    http_port: Port = 8000,
    grpc_port: Port = 8001,
    metrics_port: Port = 8002,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the server's whole log.")] = False,
    as_json: Json = False,
) -> None:
    """Serve a repository in the foreground until Ctrl-C or SIGTERM."""
    from builder import notify
    from builder.errors import LaunchError, ServerEnded
    from builder.launchers import LAUNCHERS, LaunchOptions

    if launcher not in LAUNCHERS:
        raise LaunchError(f"there is no launcher {launcher!r}; choose {', '.join(LAUNCHERS)}")
    options = LaunchOptions(host, http_port, grpc_port, metrics_port, verbose)
    if not as_json:
        say(f"starting Triton over {repository} ...")
    with notify.starting(f"loading the models of {repository}"):
        server = LAUNCHERS[launcher].launch(repository, options)
    try:
        if as_json:
            print_json({"ready": True} | asdict(server.endpoints))
        else:
            ends = server.endpoints
            say(f"ready: gRPC {ends.grpc}, HTTP {ends.http}, metrics {ends.metrics}; Ctrl-C stops it")
        notify.ready(f"gRPC {server.endpoints.grpc}, HTTP {server.endpoints.http}")
        with notify.watched(server.is_live):
            status = server.wait()
        raise ServerEnded(f"the server ended by itself with status {status}; its last words are above")
    except (KeyboardInterrupt, SystemExit):
        notify.stopping("answering what is in flight")
        say("stopping: answering what is in flight ...")
    finally:
        server.stop()
