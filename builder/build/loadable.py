"""What is staged is judged as the server that will load it would, before anything of it is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from builder.check.findings import Finding
from builder.check.gate import listed, refusals_in
from builder.check.target import EMBEDDED, NEWEST, Target
from builder.errors import CheckError
from builder.repository import layout
from builder.repository.staging import StagedEnsemble, StagedNetwork, StagedStep
from builder.triton import releases

VERSION = 1
"""Stands for the one that it will have."""
RUNTIME = "tensorrt_version"
"""What is recorded of plans, which one release alone may read."""


def require_loadable(
    folder: Path,
    steps: Sequence[StagedStep],
    network: StagedNetwork,
    ensemble: StagedEnsemble | None,
    facts: Mapping[str, str],
) -> None:
    """Raises CheckError. `folder` is made: a repository of links to what is staged."""
    repository = _laid_out(folder, steps, network, ensemble)
    refusals: list[Finding] = []
    for target in (_target(facts), EMBEDDED):
        if not (found := refusals_in(repository, target)):
            return
        refusals = refusals or found
    told = listed([_within(finding, repository) for finding in refusals])
    name = (ensemble or network).name
    raise CheckError(f"{name}: Triton would refuse what was made, so nothing of it is published:\n{told}")


def _within(finding: Finding, repository: Path) -> Finding:
    """With the path that the file would have in a repository."""
    is_inside = finding.path.is_relative_to(repository)
    return replace(finding, path=finding.path.relative_to(repository)) if is_inside else finding


def _laid_out(
    folder: Path, steps: Sequence[StagedStep], network: StagedNetwork, ensemble: StagedEnsemble | None
) -> Path:
    folder.mkdir()
    for step in {step.name: step for step in steps}.values():
        (folder / step.name).symlink_to(step.folder.absolute())
    for staged in (network, ensemble) if ensemble else (network,):
        model = folder / staged.name
        model.mkdir()
        for entry in staged.folder.absolute().iterdir():
            name = str(VERSION) if entry.name == layout.VERSION_FOLDER else entry.name
            (model / name).symlink_to(entry)
        # An ensemble's config names its network.
        (model / layout.CONFIG).write_text(staged.render(network.name, VERSION), encoding="utf-8")
    return folder


def _target(facts: Mapping[str, str]) -> Target:
    release = releases.with_tensorrt(facts[RUNTIME]) if RUNTIME in facts else None
    return Target(release.tag) if release else NEWEST
