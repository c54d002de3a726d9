"""build-repo status"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.commands.options import Json, ManifestFile, Repository
from builder.commands.output import print_json, print_table
from builder.commands.plan import record
from builder.commands.servers import AdminKeyFile, Ca, Cert, Key, Urls, accesses

if TYPE_CHECKING:
    from builder.build.entry import Entry
    from builder.lifecycle.serving import Serving
    from builder.lifecycle.status import ModelStatus, ServerStatus, Status

DEFAULT_MANIFEST = Path("models.yaml")


def status(
    manifest: ManifestFile = DEFAULT_MANIFEST,
    repository: Repository = Path("model_repository"),
    check: Annotated[bool, typer.Option("--check", help="Read every file, and compare it with the lock.")] = False,
    urls: Urls = None,
    admin_key_file: AdminKeyFile = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Say of each model which versions there are, which is published, what a build would do, and what servers serve."""
    from builder.lifecycle import status as lifecycle
    from builder.lifecycle.serving import compared

    servers = accesses(urls, admin_key_file, ca, cert, key)
    found = lifecycle.status(repository, _entries(manifest), servers, partial(compared, repository), check)
    if as_json:
        print_json(_record(found, repository))
    else:
        _print(found)


def _entries(manifest: Path) -> list[Entry] | None:
    """None where a repository lies without its manifest, as it does on a server's machine."""
    from builder.build.entry import resolve
    from builder.manifest.models import load_manifest

    if manifest == DEFAULT_MANIFEST and not manifest.exists():
        return None
    return resolve(load_manifest(manifest))


def _print(found: Status) -> None:
    columns = ("MODEL", "VERSIONS", "PUBLISHED", "PLAN", "LOCK", "MB")
    rows = [(m.name, _listed(m), m.published, _plan(m), m.lock or None, _megabytes(m.bytes)) for m in found.models]
    if found.shared_bytes:
        rows.append(("(shared steps)", None, None, None, None, _megabytes(found.shared_bytes)))
    print_table(columns, [*rows, ("total", None, None, None, None, _megabytes(found.bytes))], numbers=(2, 5))
    if found.servers:
        print()
        lines = [line for server in found.servers for line in _lines(server, found.models)]
        print_table(("SERVER", "MODEL", "VERSION", "STATE"), lines, numbers=(2,))


def _listed(model: ModelStatus) -> str | None:
    return ", ".join(map(str, model.versions)) or None


def _plan(model: ModelStatus) -> str | None:
    from builder.lifecycle.status import REMOVED

    return REMOVED if model.is_removed else str(model.plan) if model.plan else None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _lines(server: ServerStatus, models: list[ModelStatus]) -> Iterator[tuple[Any, ...]]:
    if server.error:
        yield server.url, None, None, str(server.error)
        return
    published = {model.name: model.published for model in models}
    for name in sorted({*server.serving, *(name for name, version in published.items() if version)}):
        yield server.url, name, server.versions.get(name), _standing(server.serving.get(name), published.get(name))


def _standing(served: Serving | None, published: int | None) -> str:
    if served is None:
        return f"not served; {published} is published"
    if published is None:
        return "not of this repository"
    if served.version != published:
        return f"{published} is published; rollout brings it"
    return "as published" if served.is_published else "not as published, under the same number; rollout brings it"


def _record(found: Status, repository: Path) -> dict[str, Any]:
    return {
        "repository": str(repository),
        "models": [_model(model) for model in found.models],
        "shared_bytes": found.shared_bytes,
        "bytes": found.bytes,
        "servers": [_server(server) for server in found.servers],
    }


def _model(model: ModelStatus) -> dict[str, Any]:
    return {
        "name": model.name,
        "versions": model.versions,
        "published": model.published,
        "plan": record(model.plan) if model.plan else None,
        "removed": model.is_removed,
        "lock": model.lock,
        "problems": model.problems,
        "bytes": model.bytes,
    }


def _server(server: ServerStatus) -> dict[str, Any]:
    if not server.error:
        differing = sorted(name for name, one in server.serving.items() if not one.is_published)
        return {"url": server.url, "versions": server.versions, "not_as_published": differing}
    return {"url": server.url, "error": str(server.error), "exit_code": server.error.exit_code}
