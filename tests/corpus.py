"""Hand-written repositories of one fault each: tests/repositories/<CODE>/<slug>/, with what is to be said of them.

case.json has "finds" (of a model, all its codes), "server" (of a model, words of the real server's reason; none where
it loads; models that are left out are not asked, and "why_not" says why), "options" (of the check), "arguments" (of
tritonserver), "crashes" (true where the server may end over its refusal), "repositories" (folders in it, where there
are several) and "paths" (of what is checked, if not all).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.check.findings import Finding
from builder.check.load import Judge, Verdict, judge
from builder.check.run import CheckOptions, Report, check_repository
from builder.check.target import EMBEDDED, Target

FOLDER = Path(__file__).parent / "repositories"
TOLD = "case.json"
OF_BACKENDS = ("TMR7", "TMR8")
"""Codes of what backends demand: the stand-ins for them demand nothing, so that others' cases have empty artifacts."""


@dataclass(frozen=True)
class Case:
    folder: Path
    told: dict[str, Any]

    @property
    def code(self) -> str:
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return f"{self.code}/{self.folder.name}"

    @property
    def is_fine(self) -> bool:
        return self.folder.name.startswith("fine-")

    @property
    def finds(self) -> dict[str, list[str]]:
        """Of each model that has any, the codes, each once, however many fields have it."""
        return self._by_model((model, code) for model, codes in self.told["finds"].items() for code in codes)

    def found(self, report: Report) -> dict[str, list[str]]:
        """The same, as check finds them."""
        return self._by_model((each.model, each.rule.code) for each in report.findings)

    def _by_model(self, codes: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
        return _gathered((model, code) for model, code in codes if self.counts(code))

    def counts(self, code: str) -> bool:
        return self.code.startswith(OF_BACKENDS) or not code.startswith(OF_BACKENDS)

    def refusals(self, report: Report, model: str) -> list[Finding]:
        return [one for one in report.findings if one.model == model and one.is_refusal and self.counts(one.rule.code)]

    @property
    def server(self) -> dict[str, str]:
        return self.told.get("server") or {}

    @property
    def may_crash(self) -> bool:
        """Whether the server now and then ends over its refusal, before it has told it."""
        return bool(self.told.get("crashes"))

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(self.told.get("arguments") or ())

    @property
    def options(self) -> CheckOptions:
        given = dict(self.told.get("options") or {})
        return CheckOptions(Target(given.pop("target", EMBEDDED.release)), **given)

    def copied(self, to: Path) -> list[Path]:
        """Its repositories, in a new folder: no test writes here, and neither does a server."""
        shutil.copytree(self.folder, to, symlinks=True)
        (to / TOLD).unlink()
        return [to / name for name in self.told.get("repositories") or ["."]]

    def report(self, repositories: Sequence[Path]) -> Report:
        paths = [repositories[0].parent / name for name in self.told["paths"]] if "paths" in self.told else repositories
        return check_repository(paths, self.options)


def cases(folder: Path = FOLDER) -> list[Case]:
    """All of them; an unreadable one is an error of whoever wrote it."""
    found = sorted(folder.glob(f"TMR*/*/{TOLD}"))
    return [Case(file.parent, json.loads(file.read_text(encoding="utf-8"))) for file in found]


def by_model(findings: Iterable[Finding]) -> dict[str, list[str]]:
    """The codes of each, each once, however many fields have it."""
    return _gathered((finding.model, finding.rule.code) for finding in findings)


def _gathered(codes: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for model, code in codes:
        found.setdefault(model, set()).add(code)
    return {model: sorted(each) for model, each in found.items()}


class Court:
    """Real servers, one for each set of arguments, over a repository that has one case after the other."""

    def __init__(self, folder: Path, backends: Path, stack: ExitStack) -> None:
        self._folder, self._backends, self._stack = folder, backends, stack
        self._judges: dict[tuple[Any, ...], tuple[Judge, list[Path]]] = {}
        self._count = 0

    def verdicts(self, case: Case) -> dict[str, Verdict]:
        """Of the models that are to be asked for, each loaded alone."""
        given = self._copied(case)
        key = (case.options.strict, case.arguments, len(given))
        one, live = self._judges.get(key) or self._judges.setdefault(key, self._started(*key))
        for repository, place in zip(given, live, strict=True):
            for entry in [*repository.rglob("*")]:
                os.utime(entry, follow_symlinks=False)  # what is older than the last of its name would not be loaded
            for entry in repository.iterdir():
                entry.rename(place / entry.name)
        found = {model: one.verdict(model) for model in case.server}
        for place in live:
            shutil.rmtree(place)
            place.mkdir()
        if any(verdict.is_crash for verdict in found.values()):
            del self._judges[key]
        return found

    def _copied(self, case: Case) -> list[Path]:
        self._count += 1
        return case.copied(self._folder / f"case-{self._count}")

    def _started(self, strict: bool, arguments: Sequence[str], count: int) -> tuple[Judge, list[Path]]:
        live = [self._folder / f"live-{self._count}-{number}" for number in range(count)]
        for place in live:
            place.mkdir()
        return self._stack.enter_context(judge(live, self._backends, strict, arguments)), live


@contextmanager
def court(folder: Path, backends: Path) -> Iterator[Court]:
    with ExitStack() as stack:
        yield Court(folder, backends, stack)
