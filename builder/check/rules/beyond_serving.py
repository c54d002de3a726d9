"""What loads, and serves otherwise than is meant: warm-up without data, too many threads, what copying left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.check import backends
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.rules import warmup
from builder.check.rules.naming import is_undecided, quoted
from builder.check.tensors import STRING

EMPTY_TEXTS = Rule(
    "TMR901",
    "warmup-of-empty-texts",
    Level.WARNING,
    "A warm-up input of TYPE_STRING has random data.",
    "The server makes no random texts: the model gets empty ones, as with `zero_data`.",
    "Give texts in an `input_data_file`, each behind its length in 4 bytes, or say zero_data if empty ones are meant.",
    warmup.SOURCE,
)
THREADS = Rule(
    "TMR902",
    "more-threads-than-cores",
    Level.WARNING,
    "The instances of a model have more threads together than this machine has cores.",
    "Each instance has threads of its own, which then take the cores from each other.",
    "Lower the number of threads, or of instances; ignore this where a larger machine serves.",
    "onnxruntime_backend, pytorch_backend: README",
)
LEFT_OVER = Rule(
    "TMR903",
    "left-over-is-served",
    Level.WARNING,
    "A folder of the repository looks like a copy that was put aside.",
    "The server takes every folder for a model, whatever its name, and serves this one too.",
    "Move it out of the repository.",
    "core: src/model_repository_manager/model_repository_manager.cc",
)
UNFINISHED = Rule(
    "TMR904",
    "copy-not-finished",
    Level.WARNING,
    "A version that is served has a file under the name that tools give to what they have not yet copied.",
    "The copy may have been cut short, and then what lies beside it is old, or not whole.",
    "Copy the version again, and remove what is left over.",
)
HOLLOW = Rule(
    "TMR905",
    "version-without-files",
    Level.WARNING,
    "A version that the policy does not choose has no files.",
    "Nothing tells of it now; the model does not load once the policy chooses that version.",
    "Put the version's files there, or remove its folder.",
)
RULES = (EMPTY_TEXTS, THREADS, LEFT_OVER, UNFINISHED, HOLLOW)

THREADS_OF = {"onnxruntime": ("intra_op_thread_count",), "pytorch": ("INTRA_OP_THREAD_COUNT", "NUM_THREADS")}
"""Parameters of the backends whose instances have threads of their own each."""
PUT_ASIDE = ("~", ".bak", ".backup", ".old", ".orig", ".tmp", ".temp", ".part", ".disabled", ".deleted")
IN_PARTS = (".part", ".partial", ".tmp", ".crdownload", ".download", ".incomplete", ".aria2", ".filepart")


def check(model: Model, context: Context) -> Iterator[Finding]:
    filled = model.filled
    if filled.model_warmup:
        yield from _texts(model)
    if filled.parameters and filled.backend in THREADS_OF:
        yield from _threads(model, context)
    if not is_undecided(model):
        yield from _left_over(model)
        yield from _versions(model)


def _texts(model: Model) -> Iterator[Finding]:
    for index, sample in warmup.samples(model):
        for name in sorted(sample.inputs) if sample.batch_size else ():
            given = sample.inputs[name]
            if given.data_type == STRING and given.WhichOneof("input_data_type") == "random_data":
                message = f"the warm-up input {name!r} gets empty texts"
                yield model.finding(EMPTY_TEXTS, message, warmup.HERE, index, "inputs", name, "random_data")


def _threads(model: Model, context: Context) -> Iterator[Finding]:
    count = sum(group.count for group in model.filled.instance_group if _is_of_cpu(group, context.gpus))
    for key in THREADS_OF[model.filled.backend]:
        given = model.filled.parameters[key].string_value if key in model.filled.parameters else ""
        threads = int(given) if given.isdecimal() and len(given) < 10 else 0
        if threads * count > context.cores:
            instances = "1 instance" if count == 1 else f"{count} instances"
            message = f"{instances} of {threads} threads on {context.cores} cores"
            yield model.finding(THREADS, message, "parameters", key)


def _is_of_cpu(group: Any, gpus: int | None) -> bool:
    return bool(group.kind == group.KIND_CPU or (group.kind == group.KIND_AUTO and gpus == 0))


def _left_over(model: Model) -> Iterator[Finding]:
    name = model.name
    is_aside = name.startswith(".") or name.endswith(PUT_ASIDE)
    # One with its old name in the config is refused for that.
    if is_aside and model.config.exists and model.config.message.name in ("", name):
        yield model.finding_at(LEFT_OVER, model.folder, f"the server serves {quoted(name)} as a model of its own")


def _versions(model: Model) -> Iterator[Finding]:
    served = model.served
    for version, folder in model.version_folders.items():
        if folder.name != str(version):
            continue  # told as a version by accident
        if version in served:
            for name in _names(folder):
                if _is_in_parts(name):
                    yield model.finding_at(UNFINISHED, folder / name, f"version {version} has {quoted(name)}")
        elif backends.of(model) and not _has_files(folder):
            yield model.finding_at(HOLLOW, folder, f"version {version} has no files")


def _is_in_parts(name: str) -> bool:
    if name.endswith(IN_PARTS):
        return True
    # rsync's: a dot, the name, a dot and six letters or digits.
    stem, dot, ending = name[1:].rpartition(".")
    return bool(name.startswith(".model.") and dot and "." in stem and len(ending) == 6 and ending.isalnum())


def _has_files(folder: Path) -> bool:
    return any(not name.startswith(".") for name in _names(folder))


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except OSError:
        return ["?"]  # what cannot be read is not judged
