"""build-repo prune"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.commands.options import Json, ManifestFile, OlderThan, Repository
from builder.commands.output import print_json, say
from builder.commands.servers import AdminKeyFile, Ca, Cert, Key, Urls, accesses

if TYPE_CHECKING:
    from builder.repository.prune import Pruned
    from builder.triton.connection import Access

MIB = 1024 * 1024


Models = Annotated[list[str] | None, typer.Argument(metavar="[MODEL...]", help="Names that clients ask. Default: all.")]
Keep = Annotated[
    int | None,
    typer.Option(help="How many versions stay, with the current one. Default: 2, if no age is given.", min=1),
]
Removed = Annotated[bool, typer.Option("--removed", help="Also models that the manifest no longer has, as a whole.")]
Consent = Annotated[
    bool | None,
    typer.Option("--yes/--dry-run", help="Do it; or only show it, the default for more than one version."),
]


def prune(
    models: Models = None,
    keep: Keep = None,
    older_than: OlderThan = None,
    removed: Removed = False,
    manifest: ManifestFile = Path("models.yaml"),
    consent: Consent = None,
    repository: Repository = Path("model_repository"),
    urls: Urls = None,
    admin_key_file: AdminKeyFile = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Free the disk of versions that nobody needs: never what is served, called, or gone back to."""
    from builder.repository import prune as pruning

    wish = pruning.Wish(
        tuple(models or ()),
        keep,
        older_than,
        _removed(repository, manifest, models) if removed else (),
        removed and keep is None and older_than is None,
        _served(accesses(urls, admin_key_file, ca, cert, key)),
        consent,
    )
    pruned = pruning.prune(repository, wish, time.time())
    if as_json:
        print_json(_record(pruned))
    else:
        _show(pruned)


def _removed(repository: Path, manifest: Path, models: list[str] | None) -> list[str]:
    from builder.manifest.models import load_manifest
    from builder.repository import versions

    gone = set(versions.asked(repository)) - set(load_manifest(manifest).models)
    return sorted(gone & set(models) if models else gone)


def _served(servers: list[Access]) -> dict[str, frozenset[int]]:
    """What the servers have, by the model's name; one that does not tell ends it, since it may need what would go."""
    if not servers:
        return {}
    from builder.lifecycle.serving import serving

    found: dict[str, frozenset[int]] = {}
    for access in servers:
        for name, version in serving(access).items():
            found[name] = found.get(name, frozenset()) | {version}
    return found


def _record(pruned: Pruned) -> dict[str, object]:
    return {
        "done": pruned.is_done,
        "versions": pruned.versions,
        "removed": pruned.removed,
        "bytes": pruned.bytes,
        "kept": pruned.kept,
    }


def _show(pruned: Pruned) -> None:
    for name, numbers in sorted(pruned.versions.items()):
        what = (
            "all of it"
            if name in pruned.removed
            else f"version{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
        )
        print(f"{name}: {what}")
    for line in pruned.kept:
        say(line)
    freed = f"{pruned.bytes / MIB:.1f} MB"
    if not pruned.versions and not pruned.bytes:
        print("nothing to prune")
    elif pruned.is_done:
        print(f"freed {freed}")
    else:
        print(f"would free {freed}; nothing was removed: do it with --yes")
