"""How a running Triton is reached for the control of its models: by gRPC or by HTTP, the same calls."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from builder.errors import RolloutError, ServerAway, ServerOdd

ANSWER_SECONDS = 20.0
"""Within which a server tells of itself."""
SCHEMES = ("grpc", "grpcs", "http", "https")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Triton's words, by gRPC and by HTTP.
RESTRICTED = "is restricted"
UNCONTROLLED = "explicit model load / unload is not allowed"
NOT_SEEN = "failed to poll from model repository"
"""Of a model whose files the server's repository does not have."""
PLACES = re.compile(r"\n+At:\n(?:  .*\n?)*")
"""How the Python backend ends what a model raised."""
LONGEST = 600
"""Characters of a server's reason."""


@dataclass(frozen=True)
class Access:
    """Where a server is, and what lets its administrator in."""

    url: str
    """HOST:PORT of gRPC, or grpcs://, http://, https://HOST:PORT, as clients take it."""
    admin_key: str | None = field(default=None, repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        """Raises ServerOdd for one that no server speaks."""
        scheme = self.url.partition("://")[0].lower() if "://" in self.url else "grpc"
        if scheme not in SCHEMES:
            raise ServerOdd(f"{self.url!r} is no address; write HOST:PORT, or {', '.join(SCHEMES)}://HOST:PORT")
        return scheme

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return self.url.rpartition("://")[2].rstrip("/")

    @property
    def is_secure(self) -> bool:
        return self.scheme in ("grpcs", "https")

    @property
    def is_local(self) -> bool:
        """Whether the address is this machine's own: a proxy that the environment names is for the world outside."""
        return self.address.rpartition(":")[0].strip("[]") in LOOPBACK


class Tensor(Protocol):
    """As the KServe v2 protocol sends it, in its raw form."""

    @property
    def name(self) -> str: ...
    @property
    def data_type(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def data(self) -> bytes: ...


@dataclass(frozen=True)
class Raw:
    """A tensor of an answer."""

    name: str
    data_type: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Answer:
    version: int
    """Of the model that was asked."""
    outputs: tuple[Raw, ...]


@dataclass(frozen=True)
class Row:
    """One version in the server's index."""

    name: str
    version: int | None
    """None: none was ever loaded."""
    state: str
    reason: str = ""


class Connection(Protocol):
    """A server that is reached. Methods raise ServerAway, ServerOdd, and RolloutError with the server's own reason."""

    @property
    def access(self) -> Access: ...

    @property
    def largest_files(self) -> int:
        """Bytes of files that one call of load_model takes."""

    def server_version(self) -> str:
        """Triton's, such as 2.51.0."""

    def repository_index(self) -> list[Row]:
        """What is in its repository, and what was loaded. What was loaded with files of its own is not told."""

    def is_model_ready(self, name: str, version: int | None = None) -> bool: ...

    def model_config(self, name: str, version: int | None = None) -> Any:
        """The ModelConfig with which it was loaded."""

    def load_model(
        self, name: str, config: Any = None, files: Mapping[str, bytes] | None = None, seconds: float = ANSWER_SECONDS
    ) -> None:
        """Back when it is loaded. `config`, a ModelConfig, in place of the repository's; `files` of its folder."""

    def unload_model(self, name: str, seconds: float = ANSWER_SECONDS) -> None: ...

    def infer(
        self, name: str, inputs: Sequence[Tensor], version: int | None = None, seconds: float = ANSWER_SECONDS
    ) -> Answer: ...

    def close(self) -> None: ...


def connected(access: Access) -> Connection:
    """Raises ServerAway, ServerOdd."""
    from builder.triton.by_grpc import ByGrpc
    from builder.triton.by_http import ByHttp

    for file in (access.ca, access.cert, access.key):
        if file is not None and not file.is_file():
            raise ServerOdd(f"{file}: there is no such file")
    if access.admin_key is not None and not all("!" <= character <= "~" for character in access.admin_key):
        raise ServerOdd("an administrator's key is one line of printable ASCII without spaces")
    return ByGrpc(access) if access.scheme.startswith("grpc") else ByHttp(access)


def as_json(config: Any) -> str:
    """A ModelConfig as the load call takes it."""
    import json

    from google.protobuf import json_format

    return json.dumps(json_format.MessageToDict(config, preserving_proto_field_name=True))


def refusal(access: Access, reason: str) -> RolloutError:
    """What the server's no means."""
    if RESTRICTED in reason:
        has = "another administrator's key than the one given" if access.admin_key else "an administrator's key"
        return ServerOdd(
            f"{access.url} keeps the control of its models to its administrator and has {has}; give it with "
            "--admin-key-file FILE or in BUILD_REPO_ADMIN_KEY"
        )
    if UNCONTROLLED in reason:
        return ServerOdd(
            f"{access.url} takes no orders about its models: start it with --model-control-mode=explicit and "
            "--load-model=*, as `build-repo serve` does"
        )
    return RolloutError(_tidy(reason))


def _tidy(reason: str) -> str:
    """Without the places in the server's own code, in one line."""
    text = " ".join(PLACES.sub("", reason).split()).strip("; ")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def away(access: Access, reason: str) -> ServerAway:
    return ServerAway(f"{access.url} does not answer: {reason}; is a server running there, and is this its port?")


def odd(access: Access, reason: str) -> ServerOdd:
    return ServerOdd(
        f"what answers at {access.url} does not speak Triton's protocol: {reason}; is a proxy between, or is this the "
        "port of something else?"
    )
