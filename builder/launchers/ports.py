"""The ports of a server on this machine: chosen while they are free, and what clients are told of them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from builder.errors import LaunchError
from builder.launchers import access
from builder.types import Endpoints

if TYPE_CHECKING:
    from builder.launchers.options import LaunchOptions

# Nobody can connect to "all addresses": where a server listens on them, this machine reaches it by loopback.
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def choose(options: LaunchOptions) -> dict[str, int]:
    """The ports of http, grpc and metrics: those asked for, if they are free, and free ones for 0. Raises LaunchError.

    They are free again when this returns, since the server is to bind them itself; all three are held until the last
    is chosen, so that no two are the same.
    """
    wanted = {"http": options.http_port, "grpc": options.grpc_port, "metrics": options.metrics_port}
    hosts = vars(access.addresses(options))
    given = [port for port in wanted.values() if port]
    if twice := next((port for port in given if given.count(port) > 1), None):
        raise LaunchError(f"port {twice} is given twice; --http-port, --grpc-port and --metrics-port are three")
    sockets: list[socket.socket] = []
    try:
        for name, port in wanted.items():
            sockets.append(_bind(hosts[name], name, port))
        return {name: bound.getsockname()[1] for name, bound in zip(wanted, sockets, strict=True)}
    finally:
        for bound in sockets:
            bound.close()


def _bind(host: str, name: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    # As the server does: connections of one that has just ended are no obstacle.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise LaunchError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --{name}-port, or 0 for a free one"
        ) from None
    return bound


def endpoints(options: LaunchOptions, ports: dict[str, int]) -> Endpoints:
    """Where clients on this machine reach the server."""
    hosts = {name: ANY_ADDRESS.get(host, host) for name, host in vars(access.addresses(options)).items()}
    at = {name: _joined(hosts[name], port) for name, port in ports.items()}
    return Endpoints(
        grpc=f"grpcs://{at['grpc']}" if options.tls else at["grpc"],
        http=at["http"],
        metrics=f"http://{at['metrics']}/metrics",
    )


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
