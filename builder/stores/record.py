"""The lock of a far side: what the lock of a repository says, and which version of each model is current.

It is one object and written last, so that it is the truth, whatever else lies there. Readers of locks that know nothing
of far sides find in it what they know.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from builder.errors import StoreError
from builder.repository import layout
from builder.repository.layout import CONFIG
from builder.repository.lock import FILENAME, FORM

STORE_FORM = 1
Pin = tuple[str, str]
"""A model and one of its versions."""
Signed = dict[str, Any]


@dataclass(frozen=True)
class Version:
    files: dict[str, str]
    """SHA-256 by path in the model's folder. A step's has the config beside the versions, too."""
    built_from: dict[str, Any] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    """An ensemble's: the versions of what it asks, by name."""
    was_published: bool = False
    """Of what clients ask: whether they got it at some time, so that one may go back to it."""


@dataclass(frozen=True)
class Model:
    role: str
    current: str
    """The version whose config lies beside the versions; empty of what nobody knows."""
    versions: dict[str, Version]

    @property
    def is_asked(self) -> bool:
        """By clients."""
        return self.role in layout.SERVED_ROLES

    def config_of(self, number: str) -> str:
        """Which of a version's files is the config to lie beside the versions."""
        own = f"{number}/{CONFIG}"
        return own if own in self.versions[number].files else CONFIG

    @property
    def config(self) -> str:
        """SHA-256 of the config beside the versions."""
        return self.versions[self.current].files[self.config_of(self.current)]


@dataclass(frozen=True)
class Record:
    models: dict[str, Model] = field(default_factory=dict)
    id: str = ""
    """Another one with each time that it is written."""
    signed: Signed | None = None

    def content(self, pins: Iterable[Pin]) -> dict[str, str]:
        """SHA-256 by key of the versions' files, without the configs beside the versions."""
        return {
            f"{name}/{path}": digest
            for name, number in pins
            for path, digest in self.models[name].versions[number].files.items()
            if path != CONFIG
        }

    def pins(self) -> Iterator[Pin]:
        return ((name, number) for name, model in self.models.items() for number in model.versions)

    def current(self, names: Iterable[str]) -> list[Pin]:
        """What these models are now, with all that they ask, each once; what is asked first. Raises StoreError."""
        found: dict[Pin, None] = {}
        for name in names:
            self._add(found, (name, self.models[name].current))
        return list(found)

    def every(self, names: Iterable[str]) -> list[Pin]:
        """All versions of these models, with all that they ask."""
        found: dict[Pin, None] = {}
        for name in names:
            for number in self.models[name].versions:
                self._add(found, (name, number))
        return list(found)

    def _add(self, found: dict[Pin, None], pin: Pin) -> None:
        name, number = pin
        if name not in self.models or number not in self.models[name].versions:
            raise StoreError(
                f"its lock lacks version {number or '(none)'} of {name}, which it needs; push again from where the "
                "models were built"
            )
        for called in self.models[name].versions[number].calls.items():
            if called not in found and called != pin:
                self._add(found, called)
        found[pin] = None

    def asked(self, names: Iterable[str], where: str) -> list[str]:
        """These models, or all that clients ask. Raises StoreError for a name that is none of them."""
        known = sorted(name for name, model in self.models.items() if model.is_asked and model.current)
        chosen = list(dict.fromkeys(names)) or known
        for name in chosen:
            if name not in known:
                raise StoreError(f"{where} has no model {name!r}; it has {', '.join(known) or 'none'}")
        return chosen


def parse(data: bytes | None, uri: str) -> Record:
    """Raises StoreError; of nothing it is an empty record."""
    if data is None:
        return Record()
    try:
        document = json.loads(data)
        if document["lock"] != FORM or document.get("store", {}).get("form", STORE_FORM) != STORE_FORM:
            raise StoreError(f"{uri}/{FILENAME} is of another form than this build-repo reads; use a newer one")
        store = document.get("store", {})
        models = {
            _folder(name): _model(versions["versions"], store.get("models", {}).get(name, {}))
            for name, versions in document["models"].items()
        }
        return Record(models, str(store.get("id", "")), document.get("signed"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"{uri}/{FILENAME} cannot be read ({type(error).__name__}: {error}); take it away, and push again from "
            "where the models were built: what lies there already is not sent again"
        ) from None


def _folder(name: str) -> str:
    """What comes from elsewhere names no place outside the repository. Raises ValueError."""
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise ValueError(f"{name!r} is no model")
    return name


def _model(versions: Mapping[str, Any], store: Mapping[str, Any]) -> Model:
    calls = store.get("calls", {})
    known = {
        _number(number): Version(
            {_path(path): _digest(digest) for path, digest in version["files"].items()},
            dict(version.get("built_from", {})),
            {_folder(name): _number(called) for name, called in calls.get(number, {}).items()},
            bool(version.get("published", False)),
        )
        for number, version in versions.items()
        if version is not None
    }
    model = Model(str(store.get("role", "")), str(store.get("current", "")), known)
    is_whole = model.current in known and model.config_of(model.current) in known[model.current].files
    return model if is_whole else replace(model, current="")


def _number(number: str) -> str:
    if not number.isdecimal():
        raise ValueError(f"{number!r} is no version")
    return number


def _path(path: str) -> str:
    if path.startswith("/") or "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(f"{path!r} is no path in a model")
    return path


def _digest(digest: str) -> str:
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise ValueError(f"{digest!r} is no SHA-256")
    return digest


def to_bytes(record: Record) -> bytes:
    document: dict[str, Any] = {
        "lock": FORM,
        "models": {name: {"versions": _versions(model)} for name, model in record.models.items()},
        "store": {"form": STORE_FORM, "id": record.id, "models": told(record)},
    }
    if record.signed:
        document["signed"] = record.signed
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _versions(model: Model) -> dict[str, Any]:
    return {
        number: {"files": version.files}
        | ({"built_from": version.built_from} if version.built_from else {})
        | ({"published": True} if version.was_published else {})
        for number, version in model.versions.items()
    }


def told(record: Record) -> dict[str, Any]:
    """What a far side's lock says beyond a repository's."""
    return {
        name: {
            "role": model.role,
            "current": model.current,
            "calls": {number: version.calls for number, version in model.versions.items() if version.calls},
        }
        for name, model in record.models.items()
    }


def merged(theirs: Record, ours: Record) -> Record:
    """Theirs with what is ours: the versions of both, and of our models our current ones."""
    models = dict(theirs.models)
    for name, model in ours.models.items():
        before = theirs.models[name].versions if name in theirs.models else {}
        own = {number: _with_past(version, before.get(number)) for number, version in model.versions.items()}
        models[name] = replace(model, versions=before | own)
    return Record(models, theirs.id, theirs.signed)


def _with_past(version: Version, before: Version | None) -> Version:
    return replace(version, was_published=version.was_published or bool(before and before.was_published))


def written_anew(record: Record) -> Record:
    return replace(record, id=secrets.token_hex(8))
