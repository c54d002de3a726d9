"""What the release does not know yet, or not any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from builder.check import backends
from builder.check.backends.pytorch import AOTI
from builder.check.findings import DIED, Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.places import PathOf
from builder.check.target import FIRST_TO_BATCH_AOTI, FIRST_WITH_AOTI, Field, Gap, Target
from builder.triton import releases

FIELD = Rule(
    "TMR951",
    "field-of-later-releases",
    Level.ERROR,
    "The config has a field that came after the release that it is judged for.",
    "The server reads no config that has a field which it does not know.",
    "Leave the field out, or serve with a later release.",
    "common: protobuf/model_config.proto, as the releases of tritonclient have it",
)
GONE = Rule(
    "TMR952",
    "backend-not-in-the-image",
    Level.WARNING,
    "NVIDIA's image of the release is without the backend, which other releases have.",
    "The server refuses the model unless somebody has built the backend into the image.",
    "Serve with another release, or convert the model to another format.",
    "server pull request 8068; server issues 7027, 8204",
)
UNBATCHED = Rule(
    "TMR953",
    "package-with-batches",
    Level.WARNING,
    "An AOTInductor package has a max_batch_size, in a release before 26.06.",
    "PyTorch's backend puts requests to such packages together only since then.",
    "Set max_batch_size to 0 and write the batch axis into dims, or serve with a later release.",
    "pytorch_backend pull request 198",
)
SHELL_NAME = Rule(
    "TMR954",
    "name-for-a-shell",
    Level.WARNING,
    "The name of a Python model has a character that means something to a shell.",
    "From 25.08 on the Python backend refuses such names; before, it handed them to a shell.",
    "Rename the folder, with letters, digits, `_`, `-` and `.`.",
    "python_backend pull requests 404, 414; server: qa/L0_backend_python",
)
BLANK_NAME = Rule(
    "TMR955",
    "blank-for-a-shell",
    Level.ERROR,
    "The name of a Python model has a blank.",
    "The Python backend hands the model's path to a shell, which takes it for two, and the server ends over it.",
    "Rename the folder, with letters, digits, `_`, `-` and `.`.",
    "seen of the 24.10 server; python_backend pull request 404",
)
RULES = (FIELD, GONE, UNBATCHED, SHELL_NAME, BLANK_NAME)
QUOTED = "25.08"
"""Release from which no shell reads the path."""
TO_SHELLS = frozenset(";|&$`<>()[]{}\\\"'*?~#!")


def check(model: Model, context: Context) -> Iterator[Finding]:
    target = context.target
    for field in target.unknown():
        for path in _places(model.config.spans, field.path):
            yield _unknown(model, field, path, target)
    for gap in target.gaps():
        if backends.name_of(model) == gap.backend and not backends.place.is_foreign(model):
            yield _gone(model, gap, target)
    if target.is_before(QUOTED) and any(map(str.isspace, model.name)) and backends.name_of(model) == "python":
        message = f"the name {model.name!r} has a blank, at which a shell cuts the model's path"
        yield model.finding_at(BLANK_NAME, model.folder, message, server=DIED)
    if not TO_SHELLS.isdisjoint(model.name) and backends.name_of(model) == "python":
        message = f"the name {model.name!r} has a character that means something to a shell"
        yield model.finding_at(SHELL_NAME, model.folder, message)
    if model.filled.platform == AOTI and model.filled.max_batch_size > 0 and _is_unbatched(target):
        message = f"{target.release} does not put requests together for AOTInductor packages"
        yield model.finding(UNBATCHED, message, "max_batch_size")


def _places(spans: Mapping[PathOf, object], path: tuple[str, ...]) -> Iterator[PathOf]:
    """Of a field in a text, in every message of a list that it is in."""
    if "*" not in path:
        if path in spans:
            yield path
        return
    star, place = path.index("*"), 0
    found: PathOf
    while (*path[:star], place) in spans:
        if (found := (*path[:star], place, *path[star + 1 :])) in spans:
            yield found
        place += 1


def _unknown(model: Model, field: Field, path: PathOf, target: Target) -> Finding:
    name = path[-1]
    return model.finding(
        FIELD,
        f"{name} came with {field.since}, and {target.release} does not know it",
        *path,
        server=f'Message type "inference.{field.owner}" has no field named "{name}"',
        mend=f"leave {name} out, or serve with {field.since} or later",
    )


def _gone(model: Model, gap: Gap, target: Target) -> Finding:
    has = f"{gap.until} has it again" if gap.until else f"the last with it is {releases.before(gap.since)}"
    return model.finding(
        GONE,
        f"NVIDIA's image of {target.release} is without {gap.backend}; {has}",
        "backend" if model.config.message.backend else "platform",
        server=f"unable to find backend library for backend '{gap.backend}'",
    )


def _is_unbatched(target: Target) -> bool:
    return not target.is_before(FIRST_WITH_AOTI) and target.is_before(FIRST_TO_BATCH_AOTI)
