"""The files with the names of an output's classes."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from builder.check.findings import DIED, Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.rules.naming import quoted

MODEL = "core: src/model.cc"

NO_LABELS = Rule(
    "TMR213",
    "labels-not-there",
    Level.ERROR,
    "The file with an output's labels is not there.",
    "The server reads it when it loads the model.",
    "Put the file beside config.pbtxt, or leave `label_filename` out.",
    MODEL,
)
LABELS_NO_FILE = Rule(
    "TMR214",
    "labels-are-no-file",
    Level.ERROR,
    "What an output's labels should be read from is no file.",
    "The server ends when it reads a folder, and waits for ever for a pipe.",
    "Name a text file beside config.pbtxt.",
    MODEL,
)
LABELS_TWICE = Rule(
    "TMR215",
    "labels-twice",
    Level.ERROR,
    "Two outputs of one name have labels.",
    "The server keeps labels by the output's name.",
    "Remove one of the outputs.",
    "core: src/label_provider.cc",
)
LABELS_OUTSIDE = Rule(
    "TMR217",
    "labels-outside-the-model",
    Level.WARNING,
    "The file with an output's labels is outside of the model's folder.",
    "Newer servers refuse it, and whoever copies the folder leaves it behind.",
    "Put the file beside config.pbtxt.",
    MODEL,
)
RULES = (NO_LABELS, LABELS_NO_FILE, LABELS_TWICE, LABELS_OUTSIDE)


def check(model: Model, context: Context) -> Iterator[Finding]:
    labelled: set[str] = set()
    for place, output in enumerate(model.filled.output):
        if not output.label_filename:
            continue
        if output.name in labelled:
            message = f"there are two outputs {quoted(output.name)} with labels"
            server = f"multiple label files for '{output.name}'"
            yield model.finding(LABELS_TWICE, message, "output", place, "label_filename", server=server)
        labelled.add(output.name)
        yield from _label_file(model, place, output.label_filename)


def _label_file(model: Model, place: int, name: str) -> Iterator[Finding]:
    # The server puts the paths together as texts, so that a slash in front changes nothing.
    file = model.folder / name.lstrip("/")
    path = ("output", place, "label_filename")
    try:
        mode = file.stat().st_mode
    except PermissionError:
        return
    except (OSError, ValueError):
        message = f"the labels {quoted(name)} are not there"
        yield model.finding(NO_LABELS, message, *path, server="failed to open text file for read")
        return
    if not stat.S_ISREG(mode):
        yield model.finding(LABELS_NO_FILE, f"the labels {quoted(name)} are no file", *path, server=DIED)
    elif not file.resolve().is_relative_to(model.folder.resolve()):
        message = f"the labels {quoted(name)} are outside of the model's folder"
        yield model.finding(LABELS_OUTSIDE, message, *path, server="is outside model directory")
