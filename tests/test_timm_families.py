"""Of each family of timm's classifiers the smallest, with random weights: built with full verification, or refused."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
from conftest import build
from timm.models import get_pretrained_cfg

from builder.errors import BuilderError

TABLE: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "timm_families.json").read_text("utf-8"))
SMALLEST = TABLE["smallest"]
"""By module of timm, the classifier with the fewest parameters."""
WITHOUT = TABLE["without"]
"""Modules that have no classifier, and what they have."""
FORMATS = ("onnx", "torchscript")
LEAST_SHARE = 0.97
SIDE = 128
"""Of the pictures that a network gets which takes any."""
JOURNAL = os.environ.get("TIMM_FAMILIES_JOURNAL")
"""A file that each family's line is written to as soon as it is known; families in it are not built again."""


def test_every_module_of_timm_is_in_the_table() -> None:
    assert sorted([*SMALLEST, *WITHOUT]) == sorted(timm.list_modules())
    assert set(SMALLEST.values()) <= set(timm.list_models())


def entries(name: str) -> Iterator[tuple[str, str]]:
    """Formats and entries, to be tried in this order: pictures of a small size first, where the network takes any."""
    config = get_pretrained_cfg(name)
    assert config is not None
    small = f", preprocess: {{resize: {SIDE}, crop: {SIDE}}}"
    for format_name in FORMATS:
        for size in ("",) if config.fixed_input_size else (small, ""):
            keys = f"network: timm/{name}, weights: random, format: {format_name}, max_batch_size: 2{size}"
            yield format_name, f"models:\n  m: {{{keys}}}\n"


def attempt(name: str, folder: Path) -> tuple[str, str]:
    """The format that it is built in, or none, and what was said of those before."""
    said: list[str] = []
    for format_name, text in entries(name):
        folder.mkdir()
        try:
            build(folder, text)
            return format_name, "; ".join(said)
        except BuilderError as error:
            said.append(f"{format_name}: {' '.join(str(error).split())[:400]}")
        finally:
            shutil.rmtree(folder)
    return "", "; ".join(said)


@pytest.fixture(scope="module")
def lines() -> dict[str, str]:
    """By family what was told of it; shared, so that all families are built in one process, one after the other."""
    if not JOURNAL or not Path(JOURNAL).exists():
        return {}
    return {line.split()[0]: line for line in Path(JOURNAL).read_text("utf-8").splitlines()}


def told_of(family: str, folder: Path, lines: dict[str, str]) -> str:
    """The family's line of the table."""
    if family not in lines:
        started, name = time.monotonic(), SMALLEST[family]
        format_name, reason = attempt(name, folder / family)
        seconds = f"{time.monotonic() - started:.0f} s"
        lines[family] = f"{family:28} {name:36} {format_name or 'refused':12} {seconds:>7}  {reason}"
        if JOURNAL:
            with Path(JOURNAL).open("a", encoding="utf-8") as file:
                file.write(lines[family] + "\n")
    return lines[family]


@pytest.mark.slow
@pytest.mark.parametrize("family", SMALLEST)
def test_a_family_is_built_or_refused_with_a_reason(family: str, tmp_path: Path, lines: dict[str, str], tell) -> None:
    """What raises anything but one of our own errors fails here."""
    tell(told_of(family, tmp_path, lines))


@pytest.mark.slow
def test_nearly_all_families_are_built(tmp_path: Path, lines: dict[str, str], tell) -> None:
    refused = [family for family in SMALLEST if told_of(family, tmp_path, lines).split()[2] == "refused"]
    built = len(SMALLEST) - len(refused)
    tell(f"timm: {built} of {len(SMALLEST)} families are built ({built / len(SMALLEST):.1%}); refused: {refused}")
    assert built / len(SMALLEST) >= LEAST_SHARE
