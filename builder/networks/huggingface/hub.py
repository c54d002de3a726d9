"""Snapshots of the hub, through its own client: from its cache on this machine, or by the network.

A commit that is in the cache is taken from there, and nothing is asked. A branch or tag moves, so that the hub is asked
what it is now; where there is no network, what it was when it was last asked is taken. Either way the commit is
recorded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.errors import BuilderError, NetworkError
from builder.networks.huggingface.names import Place
from builder.networks.huggingface.snapshot import CONFIG, Snapshot
from builder.util.names import HUB

INSTALL = "pip install 'triton-build-repo[huggingface]'"
COMMIT = re.compile("[0-9a-f]{40}")
MAIN = "main"
TAKEN = ("*.json", "*.txt", "*.model", "*.safetensors")
CODE = ("*.py",)
LEFT = ("*/*.safetensors", "onnx/*", "openvino/*", "coreml/*")
"""Other forms of the same weights, in folders of their own."""
LOCAL = "or name a folder that holds the snapshot: `network: hf:DIR`"


def fetched(place: Place, with_code: bool = False) -> Snapshot:
    """The snapshot's files on this machine. Raises NetworkError."""
    hub = client()
    wanted = {
        "repo_id": place.repository,
        "revision": place.revision,
        "allow_patterns": [*TAKEN, *(CODE if with_code else ())],
        "ignore_patterns": [*LEFT],
    }
    known = place.revision if place.revision and COMMIT.fullmatch(place.revision) else None
    if known and (folder := cached(place)) and _has_weights(found := Snapshot(place.name, folder, known)):
        return found
    folder = _asked(place, lambda: Path(hub.snapshot_download(**wanted)))
    return Snapshot(place.name, folder, folder.name if COMMIT.fullmatch(folder.name) else "")


def _has_weights(snapshot: Snapshot) -> bool:
    """Whether the cache has more of it than what somebody else asked for."""
    try:
        return bool(snapshot.weights())
    except BuilderError:
        return False


def cached(place: Place) -> Path | None:
    """The snapshot's folder in the cache, which may have it from an earlier time; None without one. Asks nobody."""
    try:
        hub = client()
        found = hub.try_to_load_from_cache(place.repository, CONFIG, revision=place.revision or MAIN)
    except (NetworkError, ValueError):
        return None
    return Path(found).parent if isinstance(found, str) else None


def commit_of(place: Place) -> str:
    """Of the snapshot in the cache; empty where there is none."""
    folder = cached(place)
    return folder.name if folder else ""


def client() -> Any:
    """The package huggingface_hub, which is told to tell nobody. Raises NetworkError where it is not installed."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
    except ImportError:
        raise NetworkError(f"the package huggingface_hub is missing; run: {INSTALL}") from None
    return huggingface_hub


def _asked(place: Place, ask: Callable[[], Path]) -> Path:
    from huggingface_hub import errors

    what, at = f"{HUB}{place.repository}", f"@{place.revision}" if place.revision else ""
    try:
        return ask()
    except errors.GatedRepoError:
        message = (
            f"{what} is gated: its owner gives it to those who accepted the terms on its page of the hub. Accept them, "
            f"run `hf auth login` (or set HF_TOKEN), and build again; {LOCAL}"
        )
    except errors.RevisionNotFoundError:
        message = f"{what} has no revision {place.revision!r}; name a branch, a tag or a whole commit of it"
    except errors.RepositoryNotFoundError:
        message = (
            f"the hub has no {place.repository}, or keeps it private; correct the name, or, if it is yours, run "
            f"`hf auth login` (or set HF_TOKEN); {LOCAL}"
        )
    except errors.HFValidationError:
        message = f"{what}{at} is no name of a repository of the hub, which are of the form ORG/NAME"
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        message = (
            f"{what}{at} is not in the hub's cache on this machine, and the hub cannot be asked ({_first(error)}). "
            f"Connect this machine, bring the cache along (HF_HOME), {LOCAL}"
        )
    except Exception as error:  # whatever its client, and the HTTP library behind it, raise
        message = f"{what}{at} cannot be downloaded: {_first(error)}; try again, {LOCAL}"
    raise NetworkError(message)


def _first(error: Exception) -> str:
    return (str(error.__cause__ or error).strip() or type(error).__name__).split("\n", 1)[0].rstrip(".")
