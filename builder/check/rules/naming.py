"""A model's name and folder, and how the server chooses its backend."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from builder.check.findings import Edit, Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.target import FIRST_WITH_AOTI

UTILS = "core: src/model_config_utils.cc"
MANAGER = "core: src/model_repository_manager/model_repository_manager.cc"
BACKEND_MODEL = "core: src/backend_model.cc"

PLATFORMS = {
    "tensorflow_graphdef": "tensorflow",
    "tensorflow_savedmodel": "tensorflow",
    "tensorrt_plan": "tensorrt",
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
}
FORMER = {"pytorch_libtorch": "pytorch", "libtorch": "pytorch", "torch_aoti": "pytorch"}
"""Platforms of PyTorch's since 26.03."""
BACKENDS = frozenset(
    {
        *PLATFORMS.values(),
        *("openvino", "python", "tensorrtllm", "vllm", "dali", "fil", "identity", "repeat", "square"),
    }
)
"""NVIDIA's, in one image or another."""
LINK_TO_NOWHERE = Rule(
    "TMR102",
    "link-to-nowhere",
    Level.ERROR,
    "The model's folder has a link that leads nowhere.",
    "The server asks of everything in the folder whether it is a folder, and gives up at what is not there.",
    "Remove the link, or put back what it leads to.",
    "core: src/filesystem/implementations/local.h",
)
NAME = Rule(
    "TMR103",
    "name-is-not-the-folders",
    Level.ERROR,
    "The name in the config is not the name of the folder.",
    "The server wants both to be equal, down to blanks and capital letters.",
    "Leave `name` out, or make it the folder's name.",
    MANAGER,
)
NO_BACKEND = Rule(
    "TMR104",
    "no-backend",
    Level.ERROR,
    "Neither the config nor a file tells which backend runs the model.",
    "Without `backend` and `platform`, the server knows a backend by the files in the first version's folder.",
    "Say `backend` in the config, or take the folder out of the repository if it is no model.",
    UTILS,
)
PLATFORM = Rule(
    "TMR105",
    "unknown-platform",
    Level.ERROR,
    "There is no such platform.",
    "A platform that the server does not know names no backend.",
    "Say `backend` instead of `platform`.",
    UTILS,
)
PAIR = Rule(
    "TMR106",
    "platform-and-backend-disagree",
    Level.ERROR,
    "The platform is not one of the backend's.",
    "Each of the server's own backends has its platforms, and no other is accepted beside it.",
    "Leave `platform` out: the backend says it all.",
    UTILS,
)
ENSEMBLE_BACKEND = Rule(
    "TMR107",
    "ensemble-with-backend",
    Level.ERROR,
    "An ensemble has a backend.",
    "The server itself runs ensembles.",
    "Leave `backend` out.",
    UTILS,
)
RULES = (LINK_TO_NOWHERE, NAME, NO_BACKEND, PLATFORM, PAIR, ENSEMBLE_BACKEND)


def check(model: Model, context: Context) -> Iterator[Finding]:
    yield from _folder(model)
    yield from _name(model)
    yield from _choice(model, context)


def quoted(text: str) -> str:
    """As a string of a config.pbtxt."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def replacing(model: Model, field: str, value: str) -> tuple[Edit, ...]:
    """The field with another value; empty: without the field."""
    span = model.config.spans.get((field,))
    if span is None:
        return ()
    return (Edit(span.start, span.end, f"{field}: {quoted(value)}" if value else ""),)


def is_undecided(model: Model) -> bool:
    """Whether the server cannot even tell which backend runs it."""
    return not model.filled.backend and not model.filled.platform


def _folder(model: Model) -> Iterator[Finding]:
    if broken := model.listing.broken or _broken_artifact(model):
        yield model.finding_at(LINK_TO_NOWHERE, broken, f"{broken.name} leads nowhere", "failed to stat file")


def _broken_artifact(model: Model) -> Path | None:
    """The server guesses a backend by these, and asks whether they are folders; as far as it comes."""
    config, first = model.config.message, model.listing.first
    if not first or config.backend or config.platform or config.default_model_filename:
        return None
    for name in ("model.savedmodel", "model.graphdef", "model.plan", "model.onnx", "model.xml", "model.pt"):
        if name in first and name in ("model.onnx", "model.xml"):
            return None
        if name in first and first[name] is None:
            return model.folder / model.listing.folders[0] / name
    return None


def _name(model: Model) -> Iterator[Finding]:
    said = model.config.message.name
    if said and said != model.name:
        yield model.finding(
            NAME,
            f"the model is named {quoted(said)}, its folder {quoted(model.name)}",
            "name",
            server=f"unexpected directory name '{model.name}' for model '{said}', directory name must equal model name",
            edits=replacing(model, "name", model.name),
        )


def _choice(model: Model, context: Context) -> Iterator[Finding]:
    backend, platform = model.filled.backend, model.filled.platform
    if not backend and platform != "ensemble":
        yield _unchosen(model)
    elif backend and platform == "ensemble":
        yield model.finding(
            ENSEMBLE_BACKEND,
            f"the ensemble has the backend {quoted(backend)}",
            "backend",
            server="must have platform type 'ensemble' and empty backend type",
            edits=replacing(model, "backend", ""),
        )
    elif backend in PLATFORMS.values() and not _is_pair(backend, platform, context):
        yield _disagreeing(model)


def _is_pair(backend: str, platform: str, context: Context) -> bool:
    if not context.target.is_before(FIRST_WITH_AOTI) and FORMER.get(platform) == backend:
        return True
    return PLATFORMS.get(platform) == backend


def _unchosen(model: Model) -> Finding:
    platform, name = model.filled.platform, model.filled.name
    if platform:
        return _unknown_platform(model, platform, name)
    if file := model.filled.default_model_filename:
        message = f"no backend is known by the file name {quoted(file)}"
        return model.finding(
            NO_BACKEND, message, "default_model_filename", server=f"unexpected platform type '' for {name}"
        )
    server = f"Could not determine backend for model '{model.name}' with no backend in model configuration"
    if model.config.message.HasField("ensemble_scheduling"):
        return model.finding(
            NO_BACKEND,
            "the ensemble does not say that it is one",
            "ensemble_scheduling",
            server=server,
            mend='Add `platform: "ensemble"`.',
            edits=(Edit(0, 0, 'platform: "ensemble"\n'),) if model.config.text else (),
        )
    if not model.config.exists and not model.versions:
        message = "there is neither a config nor a version: the server takes every folder of a repository for a model"
        return model.finding_at(NO_BACKEND, model.folder, message, server)
    return model.finding(NO_BACKEND, f"nothing tells which backend runs it{_looked(model)}", server=server)


def _looked(model: Model) -> str:
    if not model.listing.folders:
        return ""
    return f", nor does a file in {quoted(model.listing.folders[0])}, where the server looks for one"


def _unknown_platform(model: Model, platform: str, name: str) -> Finding:
    likely = difflib.get_close_matches(platform.strip().lower(), PLATFORMS, 1, 0.7)
    meant = "pytorch_libtorch" if platform == "libtorch" else (likely or [""])[0]
    known = f" before {FIRST_WITH_AOTI}" if platform in FORMER else ""
    return model.finding(
        PLATFORM,
        f"there is no platform {quoted(platform)}{known}" + (f"; did you mean {quoted(meant)}?" if meant else ""),
        "platform",
        server=f"unexpected platform type '{platform}' for {name}",
        edits=replacing(model, "platform", meant) if meant else (),
    )


def _disagreeing(model: Model) -> Finding:
    backend, platform = model.filled.backend, model.filled.platform
    own = " or ".join(quoted(known) for known, of in PLATFORMS.items() if of == backend)
    said = f"the platform is {quoted(platform)}" if platform else "no platform is given"
    return model.finding(
        PAIR,
        f"{said}, and that of the backend {quoted(backend)} is {own}",
        "platform" if platform else "backend",
        server=f"unexpected 'platform' and 'backend' pair, got:{platform}, {backend}",
    )
