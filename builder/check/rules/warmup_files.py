"""Warm-up data from files: whether they are there, and have the bytes of the tensor in them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from builder.check.data_files import NOT_OPENED, DataFile, look
from builder.check.findings import DIED, Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.rules.warmup import FILE, HERE, SOURCE, Path, declared, samples
from builder.check.tensors import ANY, STRING, byte_size, elements, string_lengths

NO_FILE = Rule(
    "TMR508",
    "warmup-file-missing",
    Level.ERROR,
    "The file of a warm-up input is not there.",
    "The server looks in the folder warmup beside the config.",
    "Put the file there, or correct input_data_file.",
    SOURCE,
)
NO_REGULAR_FILE = Rule(
    "TMR509",
    "warmup-file-is-none",
    Level.ERROR,
    "The file of a warm-up input is a folder or a pipe.",
    "The server reads it as a file, and ends, or waits for ever.",
    "Name a file in input_data_file.",
    SOURCE,
)
SHORT_FILE = Rule(
    "TMR510",
    "warmup-file-too-short",
    Level.ERROR,
    "The file of a warm-up input has fewer bytes than the tensor.",
    "The server fills the whole tensor from it: the product of the dims, times the bytes of an element.",
    "Write all elements into the file, in row-major order and little-endian.",
    SOURCE,
)
STRINGS = Rule(
    "TMR511",
    "warmup-file-strings",
    Level.ERROR,
    "The file of a STRING warm-up input has not the tensor's strings in it.",
    "Each string is its length in four bytes, little-endian, and then its bytes; there is one for each element.",
    "Write the strings so, as many as the product of the dims.",
    "core: src/infer_request.cc",
)
OUTSIDE = Rule(
    "TMR525",
    "warmup-file-outside",
    Level.WARNING,
    "The file of a warm-up input is outside of the model's folder.",
    "It is not copied with the model, and a repository in a bucket is fetched a model's folder at a time.",
    "Put the file into the model's folder warmup.",
    SOURCE,
)
RULES = (NO_FILE, NO_REGULAR_FILE, SHORT_FILE, STRINGS, OUTSIDE)
FOLDER = "warmup"
MOST_STRINGS, MOST_BYTES = 100_000, 64 << 20
"""More than that is not looked into."""


def check(model: Model, context: Context) -> Iterator[Finding]:
    for index, sample in samples(model):
        for name in sorted(sample.inputs) if sample.batch_size else ():
            given = sample.inputs[name]
            if given.WhichOneof("input_data_type") == FILE:
                file = look(model.folder, FOLDER, given.input_data_file)
                yield from _file(model, name, given, file, (HERE, index, "inputs", name, FILE))


def _file(model: Model, name: str, given: Any, file: DataFile, path: Path) -> Iterator[Finding]:
    where = f"{FOLDER}/{given.input_data_file}"
    if file.status is None:
        yield model.finding(NO_FILE, f"there is no {where}", *path, server=NOT_OPENED)
        return
    if file.is_endless:
        words = DIED if file.is_folder else ""
        yield model.finding(NO_REGULAR_FILE, f"{where} is no file with bytes", *path, server=words)
    elif file.is_regular and ANY not in given.dims:
        yield from _content(model, name, given, file, path)
    if file.is_outside:
        yield model.finding(OUTSIDE, f"{where} is outside of the model's folder", *path)


def _content(model: Model, name: str, given: Any, file: DataFile, path: Path) -> Iterator[Finding]:
    if given.data_type != STRING:
        due = byte_size(given.data_type, given.dims)
        if file.size < due:
            message = f"{FOLDER}/{given.input_data_file} has {file.size} bytes of {due}"
            words = f"warmup setting expects {due} bytes, but the data provided from {given.input_data_file}only has"
            yield model.finding(SHORT_FILE, message, *path, server=words)
    elif (own := declared(model, name)) and own.data_type == STRING:
        yield from _strings(model, name, elements(given.dims), file, path)


def _strings(model: Model, name: str, due: int, file: DataFile, path: Path) -> Iterator[Finding]:
    if due > MOST_STRINGS or file.size > MOST_BYTES or (raw := _read(file)) is None:
        return
    found, words = list(islice(string_lengths(raw), max(due, 0) + 1)), ""
    what, message = f"inference input '{name}' for model", f"has {len(found)} strings of {due}"
    if found and found[-1] is None:
        message, words = "ends in half a length", f"incomplete string length indicator for {what}"
    elif len(found) > due:
        message, words = f"has more than {due} strings", f"unexpected number of string elements {len(found)} for {what}"
    elif len(found) != due:
        words = f"expected {due} string elements for {what}"
    if words:
        yield model.finding(STRINGS, f"{FOLDER}/{file.path.name} {message}", *path, server=words)


def _read(file: DataFile) -> bytes | None:
    try:
        with file.path.open("rb") as opened:
            return opened.read(MOST_BYTES)
    except OSError:
        return None
