"""What is not to be served or deployed, because its server would refuse it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from builder.check.findings import Finding
from builder.check.outcome import place
from builder.check.run import CheckOptions, check_repository
from builder.check.target import EMBEDDED, NEWEST, Target, of_server
from builder.errors import CheckError, UnusableError
from builder.launchers import runtime
from builder.launchers.wanted import wanted
from builder.machine.cores import granted_cores
from builder.util.shown import printable

MOST = 20
"""Findings that a message has."""
NATIVE, OF_PYTHON = range(700, 900), range(751, 760)
"""Codes of what single backends demand, and of their artifacts. The embedded server has Python in place of the native
ones, which demands less."""
ASKS_REFUSED = 621
"""What comes of a model's refusal to the ensembles that ask it; its cause is told by itself."""


def targets_of(triton: str | None) -> tuple[Target, ...]:
    """What a server of that version may be; not known: the embedded one, or the newest."""
    if triton is None:
        return NEWEST, EMBEDDED
    return of_server(triton) or (NEWEST,)


def require_loadable(repository: Path, targets: Sequence[Target], read: Path | None = None) -> None:
    """Raises CheckError where none of the targets would load all that it is to serve.

    `read` is what the server reads of it, where that is something else.
    """
    refusals: list[Finding] = []
    for target in targets:
        refusals = list(_refusals(repository, target, read))
        if not refusals:
            return
    told = " nor ".join(target.release for target in targets)
    raise CheckError(
        f"{repository} is not what Triton {told} would load; mend it, as build-repo check says, or go on with "
        f"--no-check:\n{listed(refusals)}"
    )


def listed(refusals: Sequence[Finding]) -> str:
    """One a line."""
    lines = [f"  {printable(place(one))}: {one.rule.code} {printable(one.message)}" for one in refusals[:MOST]]
    return "\n".join([*lines, *([f"  and {len(refusals) - MOST} more"] if len(refusals) > MOST else [])])


def refusals_in(folder: Path, target: Target) -> list[Finding]:
    """Of a repository; nothing where there is none to judge, of which whoever goes on says more."""
    with suppress(UnusableError):
        report = check_repository([folder], CheckOptions(target, cores=granted_cores()))
        return [finding for finding in report.findings if finding.is_refusal]
    return []


def _refusals(repository: Path, target: Target, read: Path | None) -> Iterable[Finding]:
    if target == EMBEDDED and read is None:
        with runtime.adapted(repository) as folder:
            return _refusals(repository, target, folder)
    folder = read or repository
    names = wanted(folder)
    found = (one for one in refusals_in(folder, target) if one.model in names and _counts(one, target))
    return [_in_repository(finding, folder, repository) for finding in found]


def _counts(finding: Finding, target: Target) -> bool:
    number = int(finding.rule.code.removeprefix("TMR"))
    return target != EMBEDDED or (number != ASKS_REFUSED and (number not in NATIVE or number in OF_PYTHON))


def _in_repository(finding: Finding, read: Path, repository: Path) -> Finding:
    """The same, of the file that the user has; without a place in it, where the server reads another text."""
    if read == repository or not finding.path.is_relative_to(read):
        return finding
    path = repository / finding.path.relative_to(read)
    is_same = finding.span is None or _bytes(path) == _bytes(finding.path)
    return replace(finding, path=path, span=finding.span if is_same else None)


def _bytes(path: Path) -> bytes:
    with suppress(OSError):
        return path.read_bytes() if path.is_file() else b""
    return b""
