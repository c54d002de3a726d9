"""A repository to a far side: content, which never changes; then configs; then the lock, which makes it count.

Killed anywhere, the far side is whole: its lock tells of the old, or of the new. A server that reads it straight finds
configs all of whose versions are there, since they are replaced in the order in which a build publishes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builder.errors import StoreError
from builder.repository import layout, switching
from builder.repository.layout import CONFIG
from builder.repository.lock import FILENAME
from builder.stores import here, record, retained, signing, transfers
from builder.stores.far import Far, Found
from builder.stores.record import Record
from builder.stores.retained import Retention
from builder.stores.transfers import Unwatched, Watch
from builder.triton import model_config


@dataclass(frozen=True)
class PushOptions:
    models: tuple[str, ...] = ()
    """Names that clients ask; none: all."""
    every: bool = False
    """Every version that the repository has, not only those that it serves."""
    retention: Retention = field(default_factory=Retention)
    removed: bool = False
    """Whether models that the repository no longer has go."""
    sign: Path | None = None
    """An Ed25519 private key in PEM."""


@dataclass(frozen=True)
class Pushed:
    models: dict[str, int]
    """The versions that are current there, by what clients ask."""
    files: int
    """Sent."""
    bytes: int
    deleted: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    repository: Path
    far: Far
    ours: Record
    theirs: Record
    there: dict[str, Found]
    watch: Watch

    def file(self, key: str) -> Path:
        return self.repository / key


def push(repository: Path, far: Far, options: PushOptions, watch: Watch | None = None) -> Pushed:
    """Bring the far side to what the repository serves. Raises StoreError, RepositoryError, SignatureError."""
    key = signing.signer(options.sign) if options.sign else None
    ours = here.read(repository, options.models, options.every)
    seen = far.read(FILENAME)
    theirs = record.parse(seen, far.uri)
    _refuse_other_content(ours, theirs, far.uri)
    job = _Job(repository, far, ours, theirs, far.files(), watch or Unwatched())
    sent = _send_content(job)
    sent += _send_configs(job)
    after = _after(job, options, key)
    gone = _gone(job, after)
    if gone or _says_other(after, theirs):
        after = _signed(record.written_anew(after), job, key)
        _require_whole(far, after, ours)
        far.replace(record.to_bytes(after), FILENAME, seen)
        far.delete(gone)
    names = {name: int(model.current) for name, model in ours.models.items() if model.is_asked}
    return Pushed(names, len(sent), sum(sent), len(gone), tuple(_notes(theirs, after)))


def _refuse_other_content(ours: Record, theirs: Record, uri: str) -> None:
    """A version never changes, or servers and repositories that have it already would be others' without notice."""
    for name, number in ours.pins():
        known = theirs.models[name].versions.get(number) if name in theirs.models else None
        if known and known.files != ours.models[name].versions[number].files:
            raise StoreError(
                f"{uri} has a version {number} of {name} with other content, which was pushed from elsewhere. Pull it "
                "into the repository that is to go on (build-repo pull), and build there, which gives the next number; "
                "or push to another address"
            )


def _send_content(job: _Job) -> list[int]:
    """What lacks; sizes of what was sent."""
    wanted = job.ours.content(job.ours.pins())
    recorded = job.theirs.content(job.theirs.pins())
    return _send(job, [key for key, digest in wanted.items() if not _is_there(job, key, recorded.get(key) == digest)])


def _is_there(job: _Job, key: str, is_recorded: bool) -> bool:
    """What the far lock does not tell of was left by a push that was cut off, and counts if it is surely the same."""
    found, file = job.there.get(key), job.file(key)
    if found is None or found.size != file.stat().st_size:
        return False
    return is_recorded or job.far.holds(found, key, file)


def _send(job: _Job, keys: Sequence[str]) -> list[int]:
    sizes = {key: job.file(key).stat().st_size for key in keys}
    job.watch.begin(f"sending {len(keys)} files", sum(sizes.values()))
    largest_first = sorted(keys, key=lambda key: -sizes[key])
    try:
        transfers.each(largest_first, lambda key, told: job.far.send(job.file(key), key, told), job.watch)
    except FileNotFoundError as error:
        raise StoreError(
            f"{error.filename} was taken away while it was to be sent; run the same command again"
        ) from None
    return list(sizes.values())


def _send_configs(job: _Job) -> list[int]:
    """Those beside the versions, in the order of `repository/publish.py`."""
    changed = {name: text for name in job.ours.models if (text := _config(job, name)) != _config_there(job, name)}
    roles = {name: job.ours.models[name].role for name in changed}
    steps = [name for name in changed if roles[name] in layout.STEP_ROLES]
    networks = [name for name in changed if roles[name] == layout.NETWORK]
    served = [name for name in changed if roles[name] in layout.SERVED_ROLES]
    both = {name: _both(job, name, changed[name]) for name in networks}
    sent: list[int] = []
    final = {name: changed[name] for name in networks if both[name] != changed[name]}
    for texts in (_of(changed, steps), both, _of(changed, served), final):
        _write(job, texts)
        sent += map(len, texts.values())
    return sent


def _write(job: _Job, configs: dict[str, bytes]) -> None:
    transfers.each(configs, lambda name, _: job.far.write(configs[name], f"{name}/{CONFIG}"), job.watch)


def _of(texts: dict[str, bytes], names: Iterable[str]) -> dict[str, bytes]:
    return {name: texts[name] for name in names}


def _config(job: _Job, name: str) -> bytes:
    """The current version's own copy: the one beside the versions may be of a build that is publishing now."""
    model = job.ours.models[name]
    return (job.repository / name / model.config_of(model.current)).read_bytes()


def _config_there(job: _Job, name: str) -> bytes | None:
    key, model = f"{name}/{CONFIG}", job.ours.models[name]
    if key not in job.there:
        return None
    file = job.repository / name / model.config_of(model.current)
    return file.read_bytes() if job.far.holds(job.there[key], key, file) else job.far.read(key)


def _both(job: _Job, name: str, after: bytes) -> bytes:
    """What serves the versions of the config that is there and ours, while the ensemble changes over."""
    before = _config_there(job, name)
    if before is None:
        return after
    old = model_config.parse(before.decode(), f"{job.far.uri}/{name}/{CONFIG}")
    return switching.serving_both(old, after.decode()).encode()


def _after(job: _Job, options: PushOptions, key: Any) -> Record:
    after = record.merged(job.theirs, job.ours)
    removed = _removed(job, options)
    names = [name for name, model in after.models.items() if model.is_asked and name not in removed]
    chosen = [name for name in names if not options.models or name in options.models]
    after = retained.reduced(after, options.retention, chosen, removed)
    return _signed(after, job, key)


def _removed(job: _Job, options: PushOptions) -> set[str]:
    if not options.removed:
        return set()
    if options.models:
        raise StoreError("--removed looks at all models; give no names with it")
    return {name for name, model in job.theirs.models.items() if model.is_asked} - job.ours.models.keys()


def _signed(after: Record, job: _Job, key: Any) -> Record:
    return signing.sign(after, job.ours, job.theirs, key) if key else replace(after, signed=None)


def _says_other(after: Record, theirs: Record) -> bool:
    """Than what the far lock says; each writing of a statement has an id of its own, which is nothing new."""
    return after.models != theirs.models or _statement(after) != _statement(theirs)


def _statement(record_: Record) -> Any:
    signed = record_.signed or {}
    return signed.get("key"), signed.get("statement", {}).get("models")


def _gone(job: _Job, after: Record) -> list[str]:
    """Keys that go, a model's config first. What is newer than all that is recorded may be of a push under way."""
    kept = after.content(after.pins())
    found = [key for key in job.there if key not in kept and _may_go(key, job, after)]
    return sorted(found, key=lambda key: (not key.endswith(f"/{CONFIG}") or key.count("/") > 1, key))


def _may_go(key: str, job: _Job, after: Record) -> bool:
    name, _, path = key.partition("/")
    model = after.models.get(name)
    if model is None:
        return name in job.theirs.models
    number = path.partition("/")[0]
    if not number.isdecimal():
        return False  # configs, and warm-up data, which its name tells and which is small
    return number not in model.versions and int(number) < max(map(int, model.versions), default=0)


def _require_whole(far: Far, after: Record, ours: Record) -> None:
    """Somebody else may have tidied up meanwhile what was taken for there."""
    there = far.files()
    current = [(name, after.models[name].current) for name in ours.models]
    for key in after.content(current):
        if key not in there:
            raise StoreError(f"{far.uri}/{key} was taken away while this was under way; run the same command again")


def _notes(theirs: Record, after: Record) -> Iterable[str]:
    if theirs.signed and not after.signed:
        yield "its signature is gone, since this push was not signed: those who verify it refuse it; push with --sign"
