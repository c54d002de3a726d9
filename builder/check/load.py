"""The truth: what a throwaway server says of each model.

It is the embedded server, on loopback, with a key that nobody else has. Its guard ends it with this process, and
takes what it leaves away. Loading runs the models' code, as serving them does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.check.findings import DIED
from builder.check.throwaway import HUNG, NOT_READY, START_S, Gone, Throwaway
from builder.errors import LaunchError
from builder.launchers.runtime import Bare, bare

LOAD_S = 600.0
SHELL = re.compile(r"[^\w@%+=:,./-]")
"""The server hands paths to a shell, unquoted."""
LOGGED = re.compile(
    r"(?:Poll failed for model directory|\"failed to load model) '(?P<model>[^']*)': (?P<reason>.*?)\"?$", re.MULTILINE
)
PARSING = re.compile(r"Error parsing text-format inference\.ModelConfig: (?P<reason>.*)$", re.MULTILINE)
SPEAKABLE = re.compile(r"[A-Za-z0-9_.~!$&'()*+,;=:@-]+")
NO_BACKEND = (
    re.compile(r"unable to find backend library for backend '([^']+)'"),
    re.compile(r"unable to find 'libtriton_([^']+?)\.so' or"),
    # One in Python, whose own package is not there.
    re.compile(r"ModuleNotFoundError: No module named .*\n+At:\n  \S*/backends/([^/]+)/model\.py"),
)
STACK = re.compile(r"(\\n|\n){2}At:")
"""The Python stack that a stub adds."""


@dataclass(frozen=True)
class Verdict:
    model: str
    reason: str
    """In the server's words; empty: it loads."""

    lacks: str = ""
    """The backend that this server is without, so that the model, or a step of it, was not tried."""

    @property
    def is_loaded(self) -> bool:
        return not self.reason

    @property
    def is_crash(self) -> bool:
        """Whether the server did not live to say why."""
        return self.reason.startswith((DIED, HUNG))


def judged(
    repository: Path | Sequence[Path],
    models: Sequence[str],
    backends: Path | None = None,
    strict: bool = False,
    arguments: Sequence[str] = (),
    seconds: float = LOAD_S,
) -> Iterator[Verdict]:
    """Each model loaded alone, with what it asks, and unloaded again.

    `backends` is a folder of backends instead of the embedded server's own, `arguments` are tritonserver's. A server
    that ends, or that takes longer than `seconds` over one model, is started again for the next one. Raises
    LaunchError where no server can run.
    """
    left = list(models)
    while left:
        with judge(repository, backends, strict, arguments, seconds) as one:
            while left:
                verdict = one.verdict(left.pop(0))
                yield verdict
                if verdict.is_crash:
                    break


@contextmanager
def judge(
    repository: Path | Sequence[Path],
    backends: Path | None = None,
    strict: bool = False,
    arguments: Sequence[str] = (),
    seconds: float = LOAD_S,
) -> Iterator[Judge]:
    """One server; after a verdict that `is_crash` it is of no more use. Raises LaunchError where none can run."""
    given = [repository] if isinstance(repository, Path) else list(repository)
    trial = _Trial(given, backends, strict, tuple(arguments), seconds)
    with trial.serving() as (server, seen):
        yield Judge(trial, server, seen)


@dataclass(frozen=True)
class _Trial:
    """What a server is started for."""

    repositories: Sequence[Path]
    backends: Path | None
    strict: bool
    arguments: tuple[str, ...]
    seconds: float

    @contextmanager
    def serving(self, *arguments: str) -> Iterator[tuple[Throwaway, dict[Path, Path]]]:
        """A server, and the repositories by the paths that it knows."""
        with bare() as runtime:
            seen = {_seen(path.absolute(), runtime, number): path for number, path in enumerate(self.repositories)}
            options = [
                *(f"--model-repository={path}" for path in seen),
                f"--backend-directory={self.backends or runtime.backends}",
                *(["--disable-auto-complete-config"] if self.strict else []),
                *self.arguments,
                *arguments,
            ]
            with Throwaway(runtime, options, START_S + self.seconds * bool(arguments)) as server:
                yield server, seen


def _seen(repository: Path, runtime: Bare, number: int) -> Path:
    """The path by which the server reads it: its own, if that is nothing to a shell."""
    if not SHELL.search(str(repository)):
        return repository
    link = runtime.folder / f"models-{number}"
    link.symlink_to(repository)
    return link


class Judge:
    def __init__(self, trial: _Trial, server: Throwaway, seen: dict[Path, Path]) -> None:
        self._trial, self._server, self._seen = trial, server, seen

    @property
    def url(self) -> str:
        return self._server.url

    def verdict(self, model: str) -> Verdict:
        if not SPEAKABLE.fullmatch(model):
            return self._verdict_alone(model)
        self._server.forget()
        try:
            reason = self._server.load(model, self._trial.seconds)
            if reason:
                reason = _completed(reason, model, self._server)
            self._server.unload(model)
        except Gone as gone:
            reason = str(gone)
        return _verdict(model, reason, self._seen)

    def _verdict_alone(self, model: str) -> Verdict:
        """Of one whose name no URL can carry, since the server decodes none: by a server that starts with it."""
        try:
            with self._trial.serving(f"--load-model={model}") as (server, seen):
                reason = server.indexed(model)
                return _verdict(model, _completed(reason, model, server) if reason else "", seen)
        except LaunchError as error:
            return _verdict(model, f"{DIED}: {error}", self._seen)


def _completed(reason: str, model: str, server: Throwaway) -> str:
    """The answer of what cannot even be read does not say why; the log does."""
    said = server.said()
    told = [match["reason"] for match in LOGGED.finditer(said) if match["model"] == model]
    told += [match["reason"] for match in PARSING.finditer(said)]
    new = [line for line in dict.fromkeys(told) if line not in reason]
    return "\n".join(new if new and reason == NOT_READY else [reason, *new])


def _verdict(model: str, reason: str, seen: dict[Path, Path]) -> Verdict:
    """With the paths as the user knows them, and without a stack of Python."""
    lacks = next((found[1] for each in NO_BACKEND if (found := each.search(reason))), "")
    for path, own in seen.items():
        reason = reason.replace(str(path), str(own))
    return Verdict(model, STACK.split(reason)[0].strip(), lacks)
