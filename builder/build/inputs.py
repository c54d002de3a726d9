"""What a build of an entry reads, and would change its result: recorded in the lock, and compared before the next.

By the manifest's keys, and `code`, `tools` and `opened` beside them; of each, values and SHA-256 by name. Paths are
relative to the manifest's folder. The cores of a machine are none of it: where the entry leaves `threads` to the
machine, a build on another is the same build.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from builder import networks
from builder.build import adopted, code
from builder.build.entry import Entry
from builder.build.portable import names_callable, portable
from builder.errors import BuilderError
from builder.exporters import EXPORTERS
from builder.exporters.interfaces import interface, is_artifact
from builder.networks.card import card_path
from builder.repository.staging import staging_root
from builder.util import hashing
from builder.util.remembered import Digests
from builder.util.usercode.opened import Opened, watched

Inputs = dict[str, dict[str, str]]

CODE, TOOLS, OPENED = "code", "tools", "opened"
SAYS = "says"
"""Of a key of the manifest: its value."""
DEFAULT = "(default)"
LONGEST = 120
"""Characters of a value; of longer ones the digest is recorded."""
MOST_FILES = 16
"""Files of a key that are recorded each; of more, one digest of all."""
MOST_OPENED = 1000
REMEMBERED = "hashes.json"
COMMIT = "commit"
"""Of the hub's repository that a network is of, as this machine has it."""
CHANGED_MEANWHILE = "changed while it was built"
ROOT = Path(__file__).parent.parent
OWN = (
    *(f"{room}/**/*" for room in ("build", "data", "exporters", "networks", "samples", "steps", "tasks", "triton")),
    "runtimes/pillow/*",
    "runtimes/tokenizer/*",
    "runtimes/named_tensors.py",
    "templates/*.j2",
    "repository/golden.py",
)
"""Of this package, what decides what is published."""


def remembered(repository: Path) -> Digests:
    """Of files, as they were hashed for this repository before."""
    return Digests(staging_root(repository) / REMEMBERED)


class Reading:
    """The inputs of entries at one moment: what several entries name is read once."""

    def __init__(self, digests: Digests) -> None:
        self.digests = digests
        self._code: dict[tuple[str, Path], tuple[list[Path], dict[str, str]]] = {}

    def of(self, entry: Entry) -> Inputs:
        """Never fails: what cannot be read has no digest, and the build says why."""
        found = {key: {SAYS: value} for key, value in _said(entry).items()}
        for key, files in _files(entry).items():
            found.setdefault(key, {}).update(self._recorded(files, entry.base))
        named = [self._code_of(name, entry.base) for name in _callables(entry)]
        if own := self._recorded((path for files, _ in named for path in files), entry.base):
            found[CODE] = own
        packages = {name: version for _, versions in named for name, version in versions.items()}
        for name in (entry.spec.network,) if networks.huggingface.matches(entry.spec.network) else ():
            if commit := networks.huggingface.commit(name, entry.base):
                found.setdefault("network", {})[COMMIT] = commit
        return found | {TOOLS: packages | _tools(entry)}

    def again(self, entry: Entry, names: Iterable[str]) -> dict[str, str]:
        """The digests of files that a build opened, as they are now."""
        return {name: self.digests.of(entry.base / name) for name in names}

    def _recorded(self, files: Iterable[Path], base: Path) -> dict[str, str]:
        digests = {_place(path, base): self.digests.of(path) for path in files}
        if len(digests) <= MOST_FILES:
            return digests
        return {f"{len(digests)} files": _short("".join(f"{digests[name]}  {name}\n" for name in sorted(digests)))}

    def _code_of(self, name: str, base: Path) -> tuple[list[Path], dict[str, str]]:
        if (name, base) not in self._code:
            files = [*code.files_of(name, base), *code.elsewhere(name)]
            files = [path for path in dict.fromkeys(files) if path.is_file()]
            self._code[name, base] = files, code.packages(files, [name])
        return self._code[name, base]


def watching(entry: Entry, repository: Path) -> AbstractContextManager[Opened]:
    """What the entry's code opens below the manifest's folder, where this package and the repository may lie, too."""
    known = (path for files in _files(entry).values() for path in files)
    return watched(entry.base, (repository, staging_root(repository), ROOT), (entry.manifest.path, *known))


def with_opened(inputs: Inputs, opened: Opened, digests: Digests) -> Inputs:
    """The inputs with what the entry's code opened by itself, as far as they do not have it already."""
    known = {name for names in inputs.values() for name in names}
    found = {
        name: digests.of(path) if is_same else CHANGED_MEANWHILE
        for path, is_same in opened.files().items()
        if (name := _place(path, opened.folder)) not in known
    }
    return inputs | ({OPENED: dict(list(found.items())[:MOST_OPENED])} if found else {})


def with_commit(inputs: Inputs, commit: str | None) -> Inputs:
    """The inputs with the commit that was fetched while the network was made."""
    return inputs | {"network": inputs.get("network", {}) | {COMMIT: commit}} if commit else inputs


def _said(entry: Entry) -> dict[str, str]:
    """What the entry says, by key, but for what is as by default and for the keys of other formats."""
    said = portable(entry).model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    others = EXPORTERS.keys() - {entry.spec.format}
    return {key: _text(value) for key, value in said.items() if key not in others}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= LONGEST else _short(text)


def _short(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()}"


def _place(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path, base)).as_posix()


def _files(entry: Entry) -> dict[str, list[Path]]:
    """By key, the files whose content counts, but for code."""
    found = {"weights": [path for path in _of_weights(entry) if path.is_file()]}
    for key in dict.fromkeys(str(first) for first, *_ in entry.spec.files()):
        found.setdefault(key, []).extend(path for path in _data(entry, key) if path.is_file())
    if entry.artifact:
        found["artifact"] = list(adopted.files_of(entry.artifact))
        found.setdefault("reference", []).extend(_beside_reference(entry))
    return {key: files for key, files in found.items() if files}


def _of_weights(entry: Entry) -> list[Path]:
    path = entry.weights.path
    return [path, card_path(path)] if path else []


def _data(entry: Entry, key: str) -> list[Path]:
    """What is read of the files of one key: two keys may use different ones of the same folder."""
    spec = entry.spec
    others = {str(first) for first, *_ in spec.files()} - {key}
    fields = type(spec).model_fields
    alone = spec.model_copy(update={name: fields[name].get_default(call_default_factory=True) for name in others})
    try:
        return list(alone.data_files(entry.base))
    except BuilderError:
        return []


def _beside_reference(entry: Entry) -> list[Path]:
    reference = entry.spec.reference
    if not reference or not is_artifact(reference):
        return []
    path = entry.base / Path(reference).expanduser()
    try:
        return [path.parent / name for name in interface(path).beside]
    except BuilderError:
        return []


def _callables(entry: Entry) -> list[str]:
    return [value for value in entry.spec.files().values() if names_callable(value, entry.base)]


def _tools(entry: Entry) -> dict[str, str]:
    """The versions of what makes the artifact, and the digest of this package's own part in it."""
    names = {"torch", "numpy", *entry.exporter.VERSIONED}
    if own := getattr(entry.task, "VERSIONED", ()):
        names |= {*own}
    elif entry.task.HAS_STEPS or _is_of_torchvision(entry.spec.network) or _is_of_torchvision(entry.spec.reference):
        names |= {"torchvision", "pillow"}
    for named in (entry.spec.network, entry.spec.reference or ""):
        source = networks.source_of(named)
        names.update(source.PACKAGES if source else ())
    if any(networks.huggingface.matches(name or "") for name in (entry.spec.network, entry.spec.reference)):
        names |= {"transformers", "safetensors", "tokenizers"}
    found = {name: code.installed(name) for name in sorted(names)}
    return {name: version for name, version in found.items() if version} | {"build-repo": _own_digest()}


def _is_of_torchvision(network: str | None) -> bool:
    return network in networks.torchvision.names()


@functools.cache
def _own_digest() -> str:
    paths = {path for pattern in OWN for path in ROOT.glob(pattern) if hashing.CACHE not in path.parts}
    found = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file()):
        found.update(f"{path.relative_to(ROOT).as_posix()}\0{hashing.sha256(path)}\n".encode())
    return found.hexdigest()[:16]


def differences(recorded: Mapping[str, Mapping[str, str]], now: Inputs) -> dict[str, list[str]]:
    """By name of what changed, what of it: `precision: fp32 -> int8`."""
    found: dict[str, list[str]] = {}
    for group in [*now, *(name for name in recorded if name not in now)]:
        before, after = recorded.get(group, {}), now.get(group, {})
        if before != after:
            names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
            found[group] = [_told(group, name, before.get(name), after.get(name)) for name in names]
    return found


def _told(group: str, name: str, before: str | None, after: str | None) -> str:
    what = group if name == SAYS else name
    if name != SAYS and (before is None or after is None):
        return f"{what} is {'new' if before is None else 'gone'}"
    if after == "":
        return f"{what} cannot be read"
    if before == CHANGED_MEANWHILE:
        return f"{what} {CHANGED_MEANWHILE}"
    if _is_digest(before) or _is_digest(after):
        return f"{what} differs"
    return f"{what}: {before or DEFAULT} -> {after or DEFAULT}"


def _is_digest(text: str | None) -> bool:
    word = (text or "").removeprefix("sha256:")
    return len(word) in (16, 64) and set(word) <= set("0123456789abcdef")
