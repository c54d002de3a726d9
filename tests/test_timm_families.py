"""Of each family of timm's classifiers the smallest, with random weights: built with full verification, or refused."""

import json
import os
import time
from pathlib import Path

import pytest
import timm
from conftest import build

from builder.errors import BuilderError

PLACE = Path(__file__).parent / "timm_families.json"
SMALLEST: dict[str, str] = json.loads(PLACE.read_text("utf-8"))["smallest"]
"""By module of timm."""
WITHOUT: dict[str, str] = json.loads(PLACE.read_text("utf-8"))["without classifiers"]
"""Modules that have none, and what they have."""
FORMATS = ("onnx", "torchscript")
LEAST_SHARE = 0.97
SIDE = 64
"""Of pictures, where a network takes any; it is asked for with 224 where that fails."""
# CPU features, figures and lists of some minutes: where a run is to begin in the middle, and what it did.
JOURNAL = os.environ.get("TIMM_FAMILIES_JOURNAL")


def test_every_module_of_timm_is_in_the_table() -> None:
    assert set(timm.list_modules()) == {*SMALLEST, *WITHOUT}


def entry(name: str, format_name: str) -> str:
    return f"models:\n  m: {{network: timm/{name}, weights: random, format: {format_name}, max_batch_size: 2}}\n"


def attempt(name: str, folder: Path) -> tuple[str, str]:
    """The format that it is built in, or none, and what was said of those before."""
    said = []
    for format_name in FORMATS:
        place = folder / format_name
        place.mkdir(parents=True)
        try:
            build(place, entry(name, format_name))
        except BuilderError as error:
            said.append(f"{format_name}: {error}")
            continue
        return format_name, "; ".join(said)
    return "", "; ".join(said)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_nearly_all_families_of_timm_are_built_and_the_others_are_refused_with_a_reason(tmp_path: Path, tell) -> None:
    """Minutes to an hour: a network of each of some hundred families is made, exported and verified."""
    done: dict[str, tuple[str, str]] = {}
    for family, name in sorted(SMALLEST.items()):
        started = time.monotonic()
        done[family] = attempt(name, tmp_path / family)
        format_name, reason = done[family]
        line = f"{family:28} {name:36} {format_name or 'refused':12} {time.monotonic() - started:6.1f} s  {reason[:300]}"
        tell(line)
        if JOURNAL:
            with Path(JOURNAL).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
    built = [family for family, (format_name, _) in done.items() if format_name]
    tell(f"timm: {len(built)} of {len(done)} families are built, {len(done) - len(built)} are refused")
    assert len(built) / len(done) >= LEAST_SHARE, sorted(set(done) - set(built))
