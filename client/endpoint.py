"""Where a server is, and what it takes to reach it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from client.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidOption,
    ModelNotFound,
    NoMemory,
    NotAllowed,
    ServerError,
    ServerUnavailable,
    UnreadableFile,
    from_status,
)
from client.types import Tls

DEFAULT_URL = "localhost:8001"
SCHEMES = ("grpc", "grpcs", "http", "https")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
STEP_PREFIX = re.compile(r"^(in ensemble '[^']*', (\[request id: [^\]]*\] )?)+")
# What Triton adds to NOT_FOUND for a model that it has, but that is being loaded or unloaded: a
# server that starts or stops.
UNLOADED = re.compile("has no available versions|is not at ready state")
# INTERNAL by gRPC and 500 by HTTP are also what Triton says of a worker of its Python backend that was killed, or
# hangs: nobody is answered until it is started anew. The whole message is compared, since a model's own error may
# hold what somebody wrote into an image.
DEAD_WORKER = re.compile(
    r"(Failed to process the request\(s\) for model instance '[^']*', message: )?"
    r"Stub process ('[^']*' )?is not healthy\.?"
)
# What it says of a worker that has no shared memory for a batch; the next one may be smaller.
FULL_MEMORY = re.compile("Failed to increase the shared memory pool size")
# Of gRPC's and aiohttp's words for UNAVAILABLE, those for a server that is no longer there.
LOST = re.compile("connect|socket closed|broken pipe|stream removed", re.IGNORECASE)
# gRPC's words, with UNKNOWN, of a stream that ended before its answer did: as where a server is killed behind a proxy.
CUT_SHORT = re.compile(r"Stream removed\b")
# Triton says UNAVAILABLE by gRPC, and 403 by HTTP, to callers without the key of a restricted endpoint; asking
# again is of no use.
RESTRICTED = re.compile(r"This (protocol|API) is restricted")
NO_ENTRY = "the server does not let this service in"
# What `build-repo serve` takes its administrator's key in; of gRPC's, Triton sets the first part.
ADMIN_HEADER = "build-repo-admin-key"
GRPC_ADMIN_HEADER = f"triton-grpc-protocol-{ADMIN_HEADER}"


@dataclass(frozen=True)
class Endpoint:
    url: str
    """As the user wrote it."""
    scheme: str
    address: str
    """host:port, and for HTTP perhaps a path."""
    tls: Tls
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_administrators(self) -> bool:
        """Whether an administrator's key goes with every call."""
        return bool({ADMIN_HEADER, GRPC_ADMIN_HEADER} & set(self.headers))

    @property
    def secure(self) -> bool:
        return self.scheme in ("grpcs", "https")

    @property
    def is_local(self) -> bool:
        """Whether the address is this machine's own, whatever runs behind it."""
        return self.address.split("/")[0].rsplit(":", 1)[0].strip("[]") in LOOPBACK

    def error(self, status: str | None, message: str) -> ClientError:
        """What a caller is told of a call that ended with `status`."""
        message = STEP_PREFIX.sub("", message)
        if RESTRICTED.search(message):
            return NotAllowed(self._restriction(message), restricted=True).without_address(NO_ENTRY)
        mapped = from_status(status, message)
        if isinstance(mapped, ModelNotFound) and UNLOADED.search(message):
            mapped = ServerUnavailable(message)
        if status == "StatusCode.UNKNOWN" and CUT_SHORT.match(message):
            mapped = ServerUnavailable(message)
        if isinstance(mapped, ServerError) and DEAD_WORKER.fullmatch(message.strip()):
            told = "a worker process of the server is dead, and until it is back nobody is answered"
            return self._unavailable(f"{message}; {told}", gone=True)
        if isinstance(mapped, ServerError) and FULL_MEMORY.search(message):
            return NoMemory(message)
        if isinstance(mapped, ServerUnavailable):
            return self._unavailable(f"{message}{self._hint(message)}", bool(LOST.search(message)))
        if isinstance(mapped, ModelNotFound):
            hint = f"`repo-client models --url {self.url}` lists what is served"
            return ModelNotFound(f"{message}; {hint}").without_address(message)
        if isinstance(mapped, NotAllowed):
            refusal = NotAllowed(f"{self.url} does not let this client in: {message}; give its --header")
            return refusal.without_address(NO_ENTRY)
        return mapped

    def late(self, seconds: float) -> DeadlineExceeded:
        message = f"did not answer within {seconds:g} s"
        return DeadlineExceeded(f"{self.url} {message}").without_address(f"the server {message}")

    def _unavailable(self, message: str, gone: bool) -> ServerUnavailable:
        """gRPC, too, names addresses in its words for one that is not there."""
        error = ServerUnavailable(f"{self.url} is unavailable: {message}", gone)
        return error.without_address("the server is unavailable")

    def _restriction(self, message: str) -> str:
        if ADMIN_HEADER not in message:  # another's server, or a proxy that lets nobody through
            return f"{self.url}: {message}" + ("; give its --header" if "expecting header" in message else "")
        if self.is_administrators:
            return f"{self.url} has another administrator's key than the one given"
        return (
            f"{self.url} keeps this to its administrator, whose key is given with --admin-key-file FILE or in "
            "REPO_CLIENT_ADMIN_KEY"
        )

    def _hint(self, message: str) -> str:
        if "connect" not in message.lower():
            return ""
        if self.secure:
            return "; does a server speak TLS there, with a certificate of the authority given?"
        return f"; is a server running there, and is this its {'gRPC' if self.scheme == 'grpc' else 'HTTP'} port?"


def parse(
    url: str, headers: Mapping[str, str] | None = None, tls: Tls | None = None, admin_key: str | None = None
) -> Endpoint:
    """`HOST:PORT` is gRPC; `grpcs://`, `http://` and `https://` say otherwise. Raises InvalidOption, UnreadableFile."""
    scheme, separator, address = url.rpartition("://")
    scheme = scheme.lower() if separator else "grpc"
    if scheme not in SCHEMES or not address.strip("/"):
        raise InvalidOption(f"{url!r} is not an address; write HOST:PORT or one of {', '.join(SCHEMES)}://HOST:PORT")
    given = _lower_names(headers or {}) | _admin_header(scheme, admin_key)
    endpoint = Endpoint(url.removeprefix("grpc://"), scheme, address.rstrip("/"), tls or Tls(), given)
    if tls and tls != Tls() and not endpoint.secure:
        raise InvalidOption(f"{url} is not encrypted, so certificates are of no use; write grpcs:// or https://")
    for path in (endpoint.tls.ca, endpoint.tls.certificate, endpoint.tls.key):
        if path is not None and not path.is_file():
            raise UnreadableFile(f"{path}: there is no such file")
    return endpoint


def _admin_header(scheme: str, key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not key or not all("!" <= character <= "~" for character in key):
        raise InvalidOption("an administrator's key is one line of printable ASCII without spaces")
    return {GRPC_ADMIN_HEADER if scheme.startswith("grpc") else ADMIN_HEADER: key}


def _lower_names(headers: Mapping[str, str]) -> dict[str, str]:
    """gRPC takes lower-case names alone, HTTP any."""
    return {name.lower(): value for name, value in headers.items()}
