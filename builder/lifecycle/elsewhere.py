"""A candidate tried in a server of its own on this machine, with nothing but its parts."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import LaunchError, RolloutError
from builder.launchers import LAUNCHERS
from builder.launchers.options import LaunchOptions
from builder.lifecycle import trial
from builder.lifecycle.candidate import Candidate
from builder.repository import layout
from builder.repository.staging import staging_root
from builder.triton import model_config
from builder.triton.connection import Access, connected

if TYPE_CHECKING:
    from builder.lifecycle.rollout import RolloutOptions
    from builder.repository.served import Part

ANY_PORTS = LaunchOptions(http_port=0, grpc_port=0, metrics_port=0, verify_integrity=False)


def hold(candidate: Candidate, options: RolloutOptions) -> None:
    """Raise RolloutError where it cannot be loaded, or answers otherwise than when it was built.

    How long it takes is not compared: the old version is in another server.
    """
    with tempfile.TemporaryDirectory(prefix="build-repo-trial-", dir=_room(candidate)) as folder:
        models = Path(folder) / "models"
        for part in candidate.served.parts:
            _lay_out(part, models / part.name)
        try:
            server = LAUNCHERS["embedded"].launch(models, ANY_PORTS)
        except LaunchError as error:
            raise RolloutError(f"in a server of its own: {error}") from None
        try:
            _ask(candidate, server.endpoints.grpc, options.timeout)
        finally:
            server.stop()


def _room(candidate: Candidate) -> Path | None:
    """Beside the repository, so that nothing is copied; None, where others' files are, if that cannot be written."""
    root = staging_root(candidate.served.repository)
    return root if root.is_dir() and os.access(root, os.W_OK) else None


def _lay_out(part: Part, folder: Path) -> None:
    shutil.copytree(part.folder, folder / str(part.version), copy_function=_linked)
    if (part.model / layout.WARMUP_FOLDER).is_dir():
        shutil.copytree(part.model / layout.WARMUP_FOLDER, folder / layout.WARMUP_FOLDER, copy_function=_linked)
    (folder / layout.CONFIG).write_text(model_config.to_text(part.config), encoding="utf-8")


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _ask(candidate: Candidate, url: str, seconds: float) -> None:
    connection, goldens = connected(Access(url)), candidate.goldens()
    try:
        if goldens is not None:
            trial.hold(lambda sample: connection.infer(candidate.name, sample.inputs, seconds=seconds), goldens)
    finally:
        connection.close()
