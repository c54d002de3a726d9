"""The running servers that a command reaches, and what lets it in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.triton.connection import Access

SCHEMES = ("grpc", "grpcs", "http", "https")
WITH_TLS = ("grpcs", "https")
PATIENCE_SECONDS = 15.0
"""For another rollout to a server: one that follows its repository begins at the same moment."""

Urls = Annotated[
    list[str] | None,
    typer.Option(
        "--url",
        help="A running server: HOST:PORT of gRPC, or grpcs://, http://, https://HOST:PORT. Repeatable.",
        metavar="URL",
        show_default=False,
    ),
]
AdminKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--admin-key-file",
        help="File with the key to the servers' model control; or set BUILD_REPO_ADMIN_KEY.",
        metavar="FILE",
        show_default=False,
    ),
]
Ca = Annotated[Path | None, typer.Option("--ca", help="PEM authorities that the servers' certificates must come from.")]
Cert = Annotated[Path | None, typer.Option("--cert", help="PEM certificate to show to the servers.")]
Key = Annotated[Path | None, typer.Option("--key", help="PEM key of that certificate.")]


def accesses(
    urls: list[str] | None,
    admin_key_file: Path | None = None,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
) -> list[Access]:
    """Each server once, in their order. Raises BadParameter, and LaunchError for a key that cannot be read.

    A server that this user started on this machine has left its key where only they can read it.
    """
    from builder.launchers import access

    listed = list(dict.fromkeys(urls or ()))
    given = access.read_key(admin_key_file)
    _require_pair(cert, key)
    _require_files(ca, cert, key)
    return [_access(url, given, ca, cert, key) for url in listed]


def _access(url: str, given: str | None, ca: Path | None, cert: Path | None, key: Path | None) -> Access:
    scheme, host = _parts(url)
    if (ca or cert) and scheme not in WITH_TLS:
        raise typer.BadParameter(
            f"{url} is reached without TLS, and --ca and --cert are for TLS; write grpcs:// or https://"
        )
    return Access(url, given or _own_key(url, host), ca, cert, key)


def _parts(url: str) -> tuple[str, str]:
    """The scheme, and the host."""
    scheme, separator, rest = url.rpartition("://")
    scheme = scheme if separator else "grpc"
    host, colon, port = rest.partition("/")[0].rpartition(":")
    if scheme not in SCHEMES or not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise typer.BadParameter(
            f"{url!r} is no address of a server; write HOST:PORT of gRPC, or grpcs://, http://, https://HOST:PORT"
        )
    return scheme, host


def _own_key(url: str, host: str) -> str | None:
    from builder.launchers import access, keys

    return keys.of(url) if access.is_loopback(host) else None


def _require_pair(cert: Path | None, key: Path | None) -> None:
    if (cert is None) != (key is None):
        raise typer.BadParameter("--cert and --key go together: a certificate, and the key of it")


def _require_files(*files: Path | None) -> None:
    for file in files:
        if file is not None and not file.is_file():
            raise typer.BadParameter(f"there is no file {file}")
