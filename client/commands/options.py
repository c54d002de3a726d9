"""What several commands ask for, declared once."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client import signals
from client.endpoint import DEFAULT_URL
from client.errors import InvalidOption, UnreadableFile
from client.types import Tls

if TYPE_CHECKING:
    from client.aio import AsyncClient
    from client.client import Client

ADMIN_KEY_VARIABLE = "REPO_CLIENT_ADMIN_KEY"

Url = Annotated[
    str,
    typer.Option(
        help="Address of the server: HOST:PORT of gRPC, or grpcs://, http://, https://HOST:PORT.",
        metavar="URL",
        envvar="REPO_CLIENT_URL",
    ),
]
Timeout = Annotated[float, typer.Option(help="Seconds for each request, retries included.", min=0.001)]
Retries = Annotated[int, typer.Option(help="How often a request is sent again while the server is unavailable.", min=0)]
Header = Annotated[
    list[str] | None,
    typer.Option(
        help="'Name: value' to send along, or @FILE with one a line, which keeps keys out of `ps`. Repeatable.",
        show_default=False,
    ),
]
AdminKeyFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the administrator's key of a restricted server; or set REPO_CLIENT_ADMIN_KEY.",
        show_default=False,
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option(help="PEM authorities that the server's certificate must come from.", envvar="REPO_CLIENT_CA"),
]
Cert = Annotated[Path | None, typer.Option(help="PEM certificate to show to the server.", envvar="REPO_CLIENT_CERT")]
Key = Annotated[Path | None, typer.Option(help="PEM key of that certificate.", envvar="REPO_CLIENT_KEY")]

Model = Annotated[str | None, typer.Option(help="Model to ask. Default: the only classifier there is.")]
Top = Annotated[
    int | None,
    typer.Option(
        help="How many classes to give at most. Default: 5; of a model with several labels at once, all at or above "
        "the threshold.",
        min=1,
        show_default=False,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Give only classes that are at least so probable. Default: 0.5 for a model with several labels at once, "
        "none for others.",
        show_default=False,
    ),
]
Concurrency = Annotated[int, typer.Option(help="Requests in flight.", min=1, max=1024)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@dataclass(frozen=True)
class Connection:
    """The options that say which server, and how to reach it."""

    url: str = DEFAULT_URL
    timeout: float = 30.0
    retries: int = 3
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    tls: Tls = field(default_factory=Tls)
    admin_key: str | None = field(default=None, repr=False)

    @contextlib.contextmanager
    def client(self, patient: bool = False) -> Iterator[Client]:
        """Its calls are cancelled when the end is asked for; `patient`: only if that is asked for twice."""
        from client.client import Client

        stop = signals.of_process()
        with Client(self.url, **self._keywords()) as client, stop.ends(client.cancel, urgent=patient):
            yield client

    def async_client(self) -> AsyncClient:
        from client.aio import AsyncClient

        return AsyncClient(self.url, **self._keywords())

    def _keywords(self) -> dict[str, Any]:
        return {
            "timeout": self.timeout,
            "retries": self.retries,
            "headers": dict(self.headers),
            "tls": self.tls,
            "admin_key": self.admin_key,
        }


def connects(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of a Connection in place of its parameter `connection`."""
    signature = inspect.signature(command, eval_str=True)
    others = [p for p in signature.parameters.values() if p.name != "connection"]
    names = list(inspect.signature(_connection).parameters)

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        given = {name: values.pop(name) for name in names}
        command(connection=_connection(**given), **values)

    options = inspect.signature(_connection, eval_str=True).parameters.values()
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*others, *options)]
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options


def _connection(
    url: Url = DEFAULT_URL,
    timeout: Timeout = 30.0,
    retries: Retries = 3,
    header: Header = None,
    admin_key_file: AdminKeyFile = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> Connection:
    lines = [line for text in header or () for line in _header_lines(text)]
    headers = tuple(map(_header, lines))
    return Connection(url, timeout, retries, headers, Tls(ca, cert, key), _admin_key(admin_key_file))


def _admin_key(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(ADMIN_KEY_VARIABLE) or None
    try:
        return file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{file}: {getattr(error, 'strerror', None) or error}") from None


def _header_lines(text: str) -> list[str]:
    if not text.startswith("@"):
        return [text]
    try:
        return [line for line in Path(text[1:]).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{text[1:]}: {getattr(error, 'strerror', None) or error}") from None


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise InvalidOption("a header is written 'Name: value'")  # without the line, which may hold a key
    return name.strip(), value.strip()
