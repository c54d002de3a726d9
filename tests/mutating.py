"""check's verdicts on thousands of broken models, held to the real server's, model by model.

    python tests/mutating.py --seed 7 --count 2000 --only input

prints where they differ, by what the server says. A seed and a number of mutations stand for the same ones always.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import stand_ins
from mutation_seeds import HERE, SEEDS
from mutations import Mutation, mutated

from builder.check.findings import Finding
from builder.check.load import Verdict, judged
from builder.check.run import CheckOptions, check_repository
from builder.check.target import EMBEDDED

BATCH = 400
STRICT_EVERY = 4
"""Of the batches, which one is judged with auto-complete off."""
LOAD_S = 10.0
KNOWN = Path(__file__).parent / "repositories" / "known_disagreements.json"
OF_BACKENDS = ("TMR7", "TMR8")
"""Codes of what the backends themselves demand: those here are stand-ins, which demand nothing."""


def this_week() -> int:
    """A new seed each week: the year and the number of the week."""
    year, week, _ = datetime.now(UTC).isocalendar()
    return year * 100 + week


@dataclass(frozen=True)
class Judged:
    """A model of a mutation."""

    mutation: Mutation
    model: str
    strict: bool
    configs: str
    """Its own, and those of what came with it."""
    findings: tuple[Finding, ...]
    """That are refusals."""
    verdict: Verdict
    told_loads: bool = True
    """Whether it loads, by check."""

    @property
    def agrees(self) -> bool:
        return self.verdict.is_loaded == self.told_loads

    @property
    def is_false_refusal(self) -> bool:
        return self.verdict.is_loaded and not self.told_loads

    @property
    def said(self) -> str:
        """What the one that refuses says, without what differs from model to model."""
        words = self.verdict.reason or " ".join(f"{each.rule.code}: {each.message}" for each in self.findings)
        return re.sub(r"m\d+\w*", "MODEL", re.sub(r"'[^']*'|/\S+|\d+", "_", re.sub(r"^.*?state: |\n", " ", words)))[
            :150
        ]


@dataclass
class Outcome:
    seed: int
    judged: list[Judged] = field(default_factory=list)

    @property
    def counted(self) -> list[Judged]:
        """Without what depends on the machine that the server runs on."""
        return [each for each in self.judged if not is_left_out(each)]

    @property
    def disagreements(self) -> list[Judged]:
        return [each for each in self.counted if not each.agrees]

    @property
    def false_refusals(self) -> list[Judged]:
        return [each for each in self.disagreements if each.is_false_refusal]

    @property
    def unexplained(self) -> list[Judged]:
        return [each for each in self.disagreements if not explanation(each)]

    @property
    def agreement(self) -> float:
        counted = len(self.counted)
        return (counted - len(self.disagreements)) / counted if counted else 0.0

    def summary(self) -> str:
        counted, refused = self.counted, sum(not each.verdict.is_loaded for each in self.counted)
        crashes, false = sum(each.verdict.is_crash for each in counted), len(self.false_refusals)
        return (
            f"mutations of seed {self.seed}: {len(counted)} models, {refused} refused by the server ({crashes} "
            f"by its own death): {self.agreement:.3%} agreement, {false} false refusals, "
            f"{len(self.disagreements) - false} missed, {len(self.unexplained)} of all unexplained; "
            f"{len(self.judged) - len(counted)} left out, which depend on the machine"
        )

    def told(self, examples: int = 3) -> str:
        """The disagreements, by what was said of them; false refusals first."""
        groups: dict[tuple[bool, str], list[Judged]] = collections.defaultdict(list)
        for each in self.disagreements:
            groups[not each.is_false_refusal, each.said].append(each)
        lines = [self.summary()]
        for (is_missed, said), found in sorted(groups.items(), key=lambda group: (group[0][0], -len(group[1]))):
            lines.append(f"\n{'MISSED' if is_missed else 'FALSE REFUSAL'} {len(found)} times: {said}")
            lines += [_shown(each) for each in found[:examples]]
        return "\n".join(lines)


def _shown(each: Judged) -> str:
    known = f"\n    KNOWN: {why}" if (why := explanation(each)) else ""
    codes = ", ".join(f"{finding.rule.code} {finding.message}" for finding in each.findings) or "nothing"
    return (
        f"  {each.model}{' (strict)' if each.strict else ''} {each.mutation.told[:300]}\n"
        f"    server: {each.verdict.reason[:300] or 'loads'}\n    check: {codes[:300]}{known}"
    )


@functools.cache
def known() -> list[dict[str, str]]:
    """Patterns of the server's reasons, each with why check does not say the same."""
    found: list[dict[str, str]] = json.loads(KNOWN.read_text(encoding="utf-8"))["known"] if KNOWN.exists() else []
    return found


def explanation(each: Judged) -> str:
    """Why check misses it; nothing explains a false refusal."""
    return "" if each.is_false_refusal else next((one["why"] for one in known() if _fits(each, one)), "")


def is_left_out(each: Judged) -> bool:
    return any("depends_on" in one and _fits(each, one) for one in known())


def _fits(each: Judged, one: dict[str, str]) -> bool:
    if each.strict and "config" in one:  # then no backend fills anything in
        return False
    return bool(re.search(one["server"], each.verdict.reason) and re.search(one.get("config", ""), each.configs))


def run(seed: int, count: int, folder: Path, backends: Path, only: str = "") -> Outcome:
    """`count` mutations; `only` a field's name, of those that touch it."""
    chance, outcome, made = random.Random(seed), Outcome(seed), 0
    while made < count:
        batch = [_drawn(chance, only) for _ in range(min(BATCH, count - made))]
        number = made // BATCH
        outcome.judged += _judged(
            batch, folder / f"batch-{number}", backends, number % STRICT_EVERY == STRICT_EVERY - 1
        )
        made += len(batch)
    return outcome


def _drawn(chance: random.Random, only: str) -> Mutation:
    names = list(SEEDS)
    while True:
        found = mutated(chance, SEEDS[chance.choice(names)])
        if not only or only in found.where:
            return found


def _judged(batch: Sequence[Mutation], repository: Path, backends: Path, strict: bool) -> Iterator[Judged]:
    owners = {}
    for number, mutation in enumerate(batch):
        for ending in mutation.seed:
            owners[f"m{number}{ending}"] = mutation
        write(mutation, repository, f"m{number}")
    report = check_repository([repository], CheckOptions(EMBEDDED, strict, gpus=0))
    refusals: dict[str, list[Finding]] = collections.defaultdict(list)
    for finding in report.findings:
        if finding.is_refusal and not finding.rule.code.startswith(OF_BACKENDS):
            refusals[finding.model].append(finding)
    for verdict in judged(repository, list(owners), backends, strict, seconds=LOAD_S):
        name = verdict.model
        found, texts = tuple(refusals[name]), "".join(part.text for part in owners[name].seed.values())
        yield Judged(owners[name], name, strict, texts, found, verdict, not found)
    shutil.rmtree(repository)


def write(mutation: Mutation, repository: Path, name: str) -> None:
    """Its models, whose names begin with this one."""
    for ending, part in mutation.seed.items():
        folder = repository / f"{name}{ending}"
        folder.mkdir(parents=True)
        (folder / "config.pbtxt").write_text(part.text.replace(HERE, name), encoding="utf-8")
        for version in part.folders:
            (folder / version).mkdir()
        for file, content in part.files.items():
            path = folder / file
            if path.parent.name in part.folders or not path.parent.name.isdigit():
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=this_week())
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--only", default="", metavar="FIELD", help='mutations of it; or "text", "versions"')
    parser.add_argument("--examples", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        backends = stand_ins.backends(Path(folder) / "backends")
        outcome = run(given.seed, given.count, Path(folder), backends, given.only)
    print(outcome.told(given.examples))
    return bool(outcome.false_refusals)


if __name__ == "__main__":
    sys.exit(main())
