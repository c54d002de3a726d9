"""The folders of a model's versions, and which of them its policy serves."""

from __future__ import annotations

from collections.abc import Iterator

from builder.check import listing
from builder.check.findings import DIED, Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.rules.naming import is_undecided, quoted

LIFECYCLE = "core: src/model_repository_manager/model_lifecycle.cc"

NO_VERSION = Rule(
    "TMR151",
    "no-version",
    Level.ERROR,
    "The model has no version.",
    "The server serves folders with plain numbers, and needs one, even of an ensemble.",
    "Make a folder `1` in the model's folder, with the model's file in it, if its backend has one.",
    LIFECYCLE,
)
NONE_CHOSEN = Rule(
    "TMR152",
    "no-version-chosen",
    Level.ERROR,
    "The version policy chooses none of the versions that are there.",
    "The server refuses a model of which it would serve nothing.",
    "Name versions that are there, or leave `version_policy` out: then the latest is served.",
    LIFECYCLE,
)
TOO_LARGE = Rule(
    "TMR153",
    "version-too-large",
    Level.ERROR,
    "The name of a folder begins with a number that is too large.",
    "The server ends when it reads such a name, and with it every other model.",
    "Rename the folder, or move it out of the model's folder.",
    LIFECYCLE,
)
NOT_THERE = Rule(
    "TMR154",
    "version-not-there",
    Level.WARNING,
    "The version policy names a version that is not there.",
    "The server writes an error to its log, and serves the others.",
    "Put the version there, or take it out of the policy.",
    LIFECYCLE,
)
LEADING_ZERO = Rule(
    "TMR155",
    "version-with-leading-zero",
    Level.WARNING,
    "A folder's name is a number with a leading zero.",
    "The server ignores such folders, and what is in them is never served.",
    "Write the number without leading zeros.",
    LIFECYCLE,
)
ODD_NAME = Rule(
    "TMR156",
    "version-by-accident",
    Level.WARNING,
    "A folder's name begins with a number, and the server takes it for that version.",
    "The server reads what comes first, so that `2.tmp` is version 2, whose files it then looks for in the folder `2`.",
    "Move what is no version out of the model's folder, or begin its name with a letter.",
    LIFECYCLE,
)
NEGATIVE = Rule(
    "TMR157",
    "negative-version",
    Level.WARNING,
    "A version's number is negative.",
    "Ensembles and clients say -1 for the latest version, and no other negative number is asked for.",
    "Give the version a number from 1 on.",
    LIFECYCLE,
)
TWICE = Rule(
    "TMR158",
    "version-named-twice",
    Level.WARNING,
    "The version policy names a version twice that is not there.",
    "The server then takes it for one that is there, and tries to serve it.",
    "Name each version once.",
    LIFECYCLE,
)
RULES = (NO_VERSION, NONE_CHOSEN, TOO_LARGE, NOT_THERE, LEADING_ZERO, ODD_NAME, NEGATIVE, TWICE)


def check(model: Model, context: Context) -> Iterator[Finding]:
    yield from _folders(model)
    if model.listing.closed or (is_undecided(model) and not model.config.exists):
        return
    if not model.served:
        yield _nothing(model)
    elif model.filled.version_policy.WhichOneof("policy_choice") == "specific":
        yield from _specific(model)


def _folders(model: Model) -> Iterator[Finding]:
    for name in model.listing.folders:
        if name.isdecimal() and name.isascii() and listing.is_ignored(name):
            message = f"the server ignores the folder {quoted(name)}"
            yield model.finding_at(LEADING_ZERO, model.folder / name, message)
        number = listing.version(name)
        if number is not None and (name != str(number) or number < 0 or listing.is_too_large(number)):
            yield _odd(model, name, number)


def _odd(model: Model, name: str, number: int) -> Finding:
    path = model.folder / name
    if listing.is_too_large(number):
        message = f"the server ends when it reads the folder's name {quoted(name)}"
        return model.finding_at(TOO_LARGE, path, message, DIED)
    if name != str(number):
        return model.finding_at(ODD_NAME, path, f"the server takes the folder {quoted(name)} for version {number}")
    return model.finding_at(NEGATIVE, path, f"the server takes the folder {quoted(name)} for a version")


def _nothing(model: Model) -> Finding:
    server = f"at least one version must be available under the version policy of model '{model.name}'"
    if not model.versions:
        found = [name for name in model.listing.folders if name not in listing.DATA_FOLDERS]
        seen = f": its folders are {', '.join(map(quoted, found[:5]))}" if found else ""
        return model.finding_at(NO_VERSION, model.folder, f"there is no folder with a version's number{seen}", server)
    there = ", ".join(map(str, model.versions[:10]))
    return model.finding(
        NONE_CHOSEN, f"the policy chooses {_choice(model)}, and there is {there}", "version_policy", server=server
    )


def _choice(model: Model) -> str:
    policy = model.filled.version_policy
    if policy.WhichOneof("policy_choice") == "latest":
        return "the latest 0 versions"
    return ", ".join(map(str, policy.specific.versions[:10])) or "no version"


def _specific(model: Model) -> Iterator[Finding]:
    places: dict[int, list[int]] = {}
    for place, number in enumerate(model.filled.version_policy.specific.versions):
        places.setdefault(number, []).append(place)
    for number, found in places.items():
        if number in model.versions:
            continue
        path = ("version_policy", "specific", "versions", found[0])
        if len(found) > 1:
            yield model.finding(TWICE, f"version {number} is named twice and is not there", *path)
        else:
            yield model.finding(NOT_THERE, f"version {number} is not there", *path)
