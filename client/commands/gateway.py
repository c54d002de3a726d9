"""repo-client gateway"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from client.commands.options import Connection, Json, connects
from client.commands.output import print_error, print_json
from client.endpoint import LOOPBACK
from client.errors import InvalidInput, InvalidOption, UnreadableFile
from client.gateway.settings import MIB, Listening, Settings

KEY_VARIABLE = "REPO_GATEWAY_KEY"


@connects
def gateway(
    connection: Connection,
    model: Annotated[
        str | None, typer.Option(help="For requests that name none. Default: the only one there is.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one.", min=0, max=65535)] = 8080,
    max_bytes: Annotated[int, typer.Option(help="Largest image taken.", min=1)] = 20 * MIB,
    concurrency: Annotated[int, typer.Option(help="Requests at Triton at a time.", min=1)] = 32,
    queue: Annotated[int, typer.Option(help="Requests that may wait; more are answered 429.", min=0)] = 128,
    body_timeout: Annotated[
        float, typer.Option(help="Seconds a body, or reading an answer, may take.", min=0.001)
    ] = 30.0,
    header_timeout: Annotated[float, typer.Option(help="Seconds headers may take to arrive.", min=0.001)] = 10.0,
    drain: Annotated[float, typer.Option(help="Seconds between /readyz saying no and the stop.", min=0)] = 0.0,
    api_key_file: Annotated[
        Path | None, typer.Option(help=f"File with a key to ask of callers; or set {KEY_VARIABLE}.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain, for HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of that certificate.")] = None,
    as_json: Json = False,
) -> None:
    """Serve images by HTTP: POST /classify, /detect, /segment and /embed, a page at /, documentation at /docs."""
    from client.gateway.app import Gateway
    from client.gateway.serve import serve

    key = _api_key(api_key_file)
    if host not in LOOPBACK and key is None:
        print_error(f"anybody who reaches {host} can use this gateway; give --api-key-file to ask for a key")
    if (tls_cert is None) != (tls_key is None):
        raise InvalidOption("give both --tls-cert and --tls-key, or neither")
    settings = Settings(model, max_bytes, concurrency, queue, body_timeout, header_timeout, key)
    # The gateway's callers retry themselves, on 503.
    client = replace(connection, retries=min(connection.retries, 1)).async_client()
    announce = (lambda url: print_json({"url": url})) if as_json else (lambda url: print_error(f"listening on {url}"))
    serve(Gateway(client, settings), Listening(host, port, tls_cert, tls_key, drain), announce)


def _api_key(file: Path | None) -> str | None:
    try:
        key = file.read_text(encoding="utf-8-sig").strip() if file else os.environ.get(KEY_VARIABLE)
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    if key is not None and not key.strip():
        raise InvalidInput(f"{file or KEY_VARIABLE} holds no key")
    return key
