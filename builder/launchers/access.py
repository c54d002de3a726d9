"""Who may reach what of a server: its addresses, its TLS, and the endpoints that only its administrator may use.

What a client must send is in `http_headers` and `grpc_headers`. Seen with Triton 2.51; the options are those of all
versions since.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import LaunchError
from builder.triton import advisories
from builder.triton.advisories import Advisory, Exposure, Judgement
from builder.triton.connection import Access
from builder.triton.control import (
    GRPC_HEADER,
    HEADER,
    MODEL_CONTROL,
    RESTRICTED,
    grpc_headers,
    http_headers,
    secret_arguments,
)

if TYPE_CHECKING:
    from builder.launchers.options import LaunchOptions, ServerTls
    from builder.types import Endpoints

__all__ = ["GRPC_HEADER", "HEADER", "RESTRICTED", "grpc_headers", "http_headers", "secret_arguments"]

ENVIRONMENT = "BUILD_REPO_ADMIN_KEY"
# Where nobody else can reach it: what a server may serve in plain text, and with holes.
LOOPBACK = "127.0.0.1"
# Nothing slows down whoever tries one key after the other.
SHORTEST_KEY = 16
UNKNOWN = (
    "which Triton the image has is told neither by its name nor by its labels, so that nobody can tell what published "
    "holes it has: see SECURITY.md"
)


@dataclass(frozen=True)
class Addresses:
    """What each of the server's three ports listens on."""

    http: str
    grpc: str
    metrics: str


def addresses(options: LaunchOptions) -> Addresses:
    """HTTP stays on loopback, for a proxy before it, with TLS and where the server has published holes.

    Beside TLS, plain text opens nothing; and what the holes need is, most of all, HTTP.
    """
    http = options.http_host or (LOOPBACK if _keeps_http(options) else options.host)
    return Addresses(http, options.host, options.metrics_host or http)


def _keeps_http(options: LaunchOptions) -> bool:
    return not is_loopback(options.host) and (options.tls is not None or _has_holes_in_http(options.triton))


def _has_holes_in_http(triton: str | None) -> bool:
    return triton is not None and bool(advisories.open_in(triton, Exposure(http=True)))


def judged(options: LaunchOptions, triton: str | None) -> LaunchOptions:
    """For a server of this version, None where nobody knows it; the user is warned of what is open in it."""
    if line := judgement(options, triton).line:
        options.warn(line)
    return replace(options, triton=triton)


def judgement(options: LaunchOptions, triton: str | None) -> Judgement:
    """What is open in a server of this version to others than this machine's own users."""
    known = replace(options, triton=triton)
    where = addresses(known)
    if triton is None:
        return Judgement(None, "" if _is_all_loopback(known) else UNKNOWN)
    found = open_advisories(known)
    if not found:
        return Judgement(())
    who = where.grpc if is_loopback(where.http) else where.http
    kept = "; plain HTTP stays on loopback unless --http-host moves it" if where.http != who else ""
    return Judgement(found, advisories.summary(triton, found, f"whoever reaches {who}") + kept)


def open_advisories(options: LaunchOptions) -> tuple[Advisory, ...]:
    """What others than this machine's own users can use against the server, the worst first."""
    if options.triton is None:
        return ()
    where = addresses(options)
    reached = Exposure(not is_loopback(where.http), not is_loopback(where.grpc), is_restricted(options))
    return advisories.open_in(options.triton, reached)


def is_loopback(host: str) -> bool:
    """Whether all that a name or an address stands for is this machine's own; a name unknown is not."""
    try:
        # An empty one is taken for every address, as socket.bind takes it.
        entries = socket.getaddrinfo(host.strip("[]") or "0.0.0.0", None)
    except OSError:
        return False
    return all(_is_loopback(str(entry[4][0])) for entry in entries)


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])  # behind it is the interface of a link-local one
    # ::ffff:127.0.0.1 reaches IPv4's loopback, and Python 3.11 says of it that it is none.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def is_restricted(options: LaunchOptions) -> bool:
    """Whether all groups of endpoints that there are to restrict are closed; see `closed`."""
    if options.restrict is not None:
        return options.restrict
    return options.admin_key is not None or not _is_all_loopback(options)


def _is_all_loopback(options: LaunchOptions) -> bool:
    """Whether HTTP and gRPC, which have endpoints to restrict, both listen on loopback alone; the metrics have none."""
    where = addresses(options)
    return is_loopback(where.http) and is_loopback(where.grpc)


def closed(options: LaunchOptions) -> tuple[str, ...]:
    """The groups of endpoints that take the key. Who controls models runs code, so that group is open to nobody."""
    if options.restrict is False:
        return ()
    return RESTRICTED if is_restricted(options) else MODEL_CONTROL


def key_of(options: LaunchOptions) -> str | None:
    """The key that a launcher gives to its server, None for an unrestricted one. Raises LaunchError.

    Where the user has none it is made up, so that the doors are closed to all but this launcher: call it once.
    """
    if not closed(options):
        return None
    if options.admin_key is None:
        # 256 bits, of an alphabet that command lines and headers take as it is.
        return secrets.token_urlsafe(32)
    return _usable(options.admin_key, "the administrator's key")


def own(endpoints: Endpoints, key: str | None) -> Access:
    """How this machine controls its own server. Whether to trust its certificate would be for the user to say."""
    return Access(f"http://{endpoints.http}" if endpoints.grpc.startswith("grpcs://") else endpoints.grpc, key)


def notice(options: LaunchOptions) -> str | None:
    """What the user should be told of it, in one line."""
    if options.admin_key is None and is_restricted(options):
        return (
            f"{', '.join(RESTRICTED)} are closed to everybody; --admin-key-file FILE lets its holders in, "
            "--unrestricted all"
        )
    if not is_restricted(options) and not _is_all_loopback(options):
        where = addresses(options)
        host = where.http if is_loopback(where.grpc) else where.grpc
        return f"unrestricted: whoever reaches {host} controls models, shared memory, logging and trace"
    return None


def public_arguments(where: Addresses, tls: ServerTls | None = None) -> list[str]:
    """tritonserver's arguments that everybody may see."""
    arguments = [f"--{name}-address={address}" for name, address in vars(where).items()]
    if tls is None:
        return arguments
    kind = "--grpc-use-ssl-mutual" if tls.client_ca else "--grpc-use-ssl"
    arguments += [f"{kind}=true", f"--grpc-server-cert={tls.certificate}", f"--grpc-server-key={tls.key}"]
    return arguments + ([f"--grpc-root-cert={tls.client_ca}"] if tls.client_ca else [])


def read_key(file: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The administrator's key, of a file or of the environment. Raises LaunchError."""
    if file is None:
        key = environment.get(ENVIRONMENT)
        return None if key is None else _usable(key.strip(), ENVIRONMENT)
    try:
        with file.open(encoding="utf-8-sig") as opened:
            # Of the file that was opened: its name may lead to another one by now.
            if os.fstat(opened.fileno()).st_mode & (stat.S_IROTH | stat.S_IWOTH):
                raise LaunchError(
                    f"every user of this machine can open {file}, which holds a key; run: chmod 600 {file}"
                )
            # Spaces stay, and are refused: whoever typed them would have to send them, which HTTP does not.
            return _usable(opened.read().strip("\r\n"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise LaunchError(f"no key can be read from {file}: {getattr(error, 'strerror', None) or error}") from None


def _usable(key: str, source: str) -> str:
    remedy = "make one: (umask 077; openssl rand -hex 32 > FILE)"
    if len(key) < SHORTEST_KEY:
        found = f"of {len(key)} characters can be guessed" if key else "is empty"
        raise LaunchError(f"{source}: a key {found}; {remedy}")
    if not all("!" <= character <= "~" for character in key):
        raise LaunchError(f"{source}: a key is one line of printable ASCII without spaces; {remedy}")
    return key
